/** vDisks as an administrator sees them: found by path, shown with the state of their volume. */

import { StorageError } from '../../core/errors.ts';
import type { Ino } from '../../core/units.ts';
import type { Attributes, DirectoryEntry, FileSystem } from '../../ports/file-system.ts';
import { rootIno } from '../../ports/file-system.ts';

const entriesPerTurn = 1000;

/** `/vm1/disk.raw`: `not_found`, `not_directory`. */
export async function findPath(fileSystem: FileSystem, path: string): Promise<Attributes> {
  let found = await fileSystem.attributes(rootIno);
  const bytes = Buffer.from(path, 'utf8').toString('latin1');
  for (const name of bytes.split('/').filter((part) => part !== '')) {
    try {
      found = await fileSystem.lookup(found.ino, name);
    } catch (error) {
      throw new StorageError('not_found', `${path}: no such vDisk or folder`, { cause: error });
    }
  }
  return found;
}

/** Every file that the Volume Driver serves, with its path. */
export async function* walkVdisks(
  fileSystem: FileSystem,
  folder: Ino = rootIno,
  path = '',
): AsyncGenerator<{ readonly path: string; readonly attributes: Attributes }> {
  let after = 0n;
  for (;;) {
    const entries: readonly DirectoryEntry[] = await fileSystem.list(folder, after, entriesPerTurn);
    for (const { name, ino, type } of entries) {
      if (name === '.' || name === '..') continue;
      const inside = `${path}/${Buffer.from(name, 'latin1').toString('utf8')}`;
      if (type === 'directory') yield* walkVdisks(fileSystem, ino, inside);
      if (type !== 'file') continue;
      const attributes = await fileSystem.attributes(ino);
      if (attributes.isVolume) yield { path: inside, attributes };
    }
    const last = entries.at(-1);
    if (last === undefined || entries.length < entriesPerTurn) return;
    after = last.cookie;
  }
}
