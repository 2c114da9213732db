/** What users of a daemon do, and what they may be answered. */

import type { StorageError } from '../../src/core/errors.ts';
import { isStorageError } from '../../src/core/errors.ts';
import type { Ino } from '../../src/core/units.ts';
import { findPath } from '../../src/frontend/admin/vdisks.ts';
import type { WharfFileSystem } from '../../src/frontend/filesystem.ts';
import { Violation } from './history.ts';
import type { Daemon } from './sim-host.ts';

/** No finding: something could not be done, and said so. */
export const isRefusal = (error: unknown): error is StorageError =>
  isStorageError(error) && !(error instanceof Violation);

/** As somebody who opens it, does one thing and closes it again. */
export async function use<T>(
  { stack: { fileSystem } }: Daemon,
  path: string,
  act: (fileSystem: WharfFileSystem, ino: Ino) => T | Promise<T>,
): Promise<T> {
  const { ino } = await findPath(fileSystem, path);
  await fileSystem.open(ino);
  try {
    return await act(fileSystem, ino);
  } finally {
    await fileSystem.release(ino);
  }
}
