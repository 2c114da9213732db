/**
 * Brings the files of a VM back that are no vDisks. Content is written into the file that stands
 * there, so that names, owners and whoever has it open stay; a file that is broken off half way is
 * brought back by doing it again.
 */

import { isStorageError, StorageError } from '../../core/errors.ts';
import { limits } from '../../core/limits.ts';
import type { Ino } from '../../core/units.ts';
import type { Attributes, FileSystem, NewInode } from '../../ports/file-system.ts';
import type { Inode } from '../../registry/namespace.ts';
import { asText } from '../../registry/snapshot-records.ts';
import type { Shown } from '../snapshot-tree.ts';
import type { VdiskChanges } from './vdisk-changes.ts';

interface RestoreDeps {
  readonly fileSystem: FileSystem;
  readonly changes: VdiskChanges;
}

const ownerMayWrite = 0o200;

/** `shown`: of the whole snapshot, folders before what they hold. `exists`. */
export async function restoreTree(
  deps: RestoreDeps,
  folder: Ino,
  shown: readonly Shown[],
): Promise<void> {
  const folders = new Map([['', folder]]);
  for (const { path, inode } of shown) {
    const parent = folders.get(path.slice(0, -1).join('/')) as Ino;
    const name = path.at(-1) as string;
    // vDisks have been rolled back, wherever they are by now.
    if (inode.kept?.snapshot !== undefined) continue;
    const standing = await stand(deps, parent, name, inode);
    if (standing.type !== inode.type)
      throw new StorageError('exists', `${asText(path.join('/'))} is something else by now`);
    if (inode.type === 'directory') folders.set(path.join('/'), standing.ino);
    if (inode.type === 'file') await restoreContent(deps, inode, standing.ino);
  }
}

/** What stands there, made as it was where nothing does. */
async function stand(
  { fileSystem, changes }: RestoreDeps,
  parent: Ino,
  name: string,
  { type, mode, uid, gid, rdev, target }: Inode,
): Promise<Attributes> {
  try {
    return await fileSystem.lookup(parent, name);
  } catch (error) {
    if (!isStorageError(error, 'not_found')) throw error;
  }
  const what: NewInode = {
    ...{ type, mode: mode | ownerMayWrite, rdev },
    ...(target !== undefined && { target }),
  };
  const made = await fileSystem.make(parent, name, what, { uid, gid });
  await changes.tell([{ kind: 'entry', parent, name: name as Shown['path'][number] }]);
  return made;
}

async function restoreContent(
  { fileSystem, changes }: RestoreDeps,
  { ino: from, sizeBytes, modifiedNs }: Inode,
  to: Ino,
): Promise<void> {
  await fileSystem.open(to, 'write');
  try {
    await fileSystem.change(to, { sizeBytes: 0 });
    const buffer = new Uint8Array(limits.requestBytesMax);
    for (let offset = 0; offset < sizeBytes; offset += buffer.length) {
      const bytes = await fileSystem.read(from, offset, buffer);
      await fileSystem.write(to, offset, buffer.subarray(0, bytes));
    }
    await fileSystem.flush(to);
    await fileSystem.change(to, { modifiedNs });
  } finally {
    await fileSystem.release(to);
  }
  await changes.tell([{ kind: 'inode', ino: to, what: 'data' }]);
}
