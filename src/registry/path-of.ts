/** By which path an inode is found: one of them, where it has several names. */

import type { Ino, ObjectId } from '../core/units.ts';
import type { Registry } from '../ports/registry.ts';
import { rootIno } from '../ports/file-system.ts';
import { decodeEntry, decodeInode, inoOfKey, keys } from './namespace.ts';
import { RecordReader } from './record.ts';
import { scan } from './scan.ts';

/** Deeper than any folder that somebody means. */
const depthMax = 1000;

/** Undefined where the object has no name. */
export async function pathOfObject(registry: Registry, id: ObjectId): Promise<string | undefined> {
  const reference = await registry.get(keys.backReference(id));
  if (!reference) return undefined;
  return pathOf(registry, new RecordReader('back reference', reference.value).ino('ino'));
}

/** Of a file all names are gone through; of a folder those beside it alone. */
export async function pathOf(registry: Registry, ino: Ino): Promise<string | undefined> {
  const names: string[] = [];
  for (let child = ino; child !== rootIno; ) {
    const value = (await registry.get(keys.inode(child)))?.value;
    const parent = value && decodeInode(child, value).parent;
    const prefix = parent === undefined ? 'd' : keys.entry(parent, 0n).slice(0, 9);
    let found: { readonly name: string; readonly folder: Ino } | undefined;
    for await (const entry of scan(registry, prefix)) {
      const { ino: named, name } = decodeEntry(entry.key, entry.value);
      if (named !== child) continue;
      found = { name, folder: inoOfKey(entry.key.slice(1, 9)) };
      break;
    }
    if (!found || names.length === depthMax) return undefined;
    names.unshift(Buffer.from(found.name, 'latin1').toString('utf8'));
    child = found.folder;
  }
  return `/${names.join('/')}`;
}
