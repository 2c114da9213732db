/** What a directory holds, as whoever lists it sees it. */

import type { Ino } from '../core/units.ts';
import type { DirectoryEntry } from '../ports/file-system.ts';
import { rootIno } from '../ports/file-system.ts';
import type { Namespace } from '../registry/namespace.ts';
import { snapshotsFolder } from '../registry/namespace.ts';

/** As `FileSystem.list`. */
export async function listDirectory(
  namespace: Namespace,
  ino: Ino,
  after: bigint,
  limit: number,
): Promise<readonly DirectoryEntry[]> {
  const { record } = await namespace.directory(ino);
  const dots: DirectoryEntry[] = [
    { name: '.', ino, type: 'directory', cookie: 1n },
    { name: '..', ino: record.parent ?? rootIno, type: 'directory', cookie: 2n },
  ];
  const first = dots.filter(({ cookie }) => cookie > after).slice(0, limit);
  const left = limit - first.length;
  if (left === 0) return first;
  // One more, in place of the one that is not shown.
  const found = await namespace.listEntries(ino, after > 2n ? after : 2n, left + 1);
  const shown = found.filter(({ name }) => name !== snapshotsFolder);
  return [...first, ...shown.slice(0, left)];
}
