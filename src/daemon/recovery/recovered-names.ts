/** Names of a restored registry: paths of what is damaged, and new ones for volumes that have none. */

import type { FileName, Ino, ObjectId } from '../../core/units.ts';
import { fileName, ino as toIno } from '../../core/units.ts';
import type { Clock } from '../../ports/clock.ts';
import { rootIno } from '../../ports/file-system.ts';
import type { Write } from '../../ports/registry.ts';
import { prefixRange } from '../../ports/registry.ts';
import type { Inode, Namespace } from '../../registry/namespace.ts';
import { decodeEntry, inoOfKey, keys, putInode } from '../../registry/namespace.ts';
import { encodeRecord } from '../../registry/record.ts';
import type { Unnamed } from './recovered-objects.ts';
import { keysOf } from './restored-registry.ts';

const folderMode = 0o700;
const diskMode = 0o600;

interface Place {
  readonly parent: Ino;
  readonly name: FileName;
}

/** Counts names, and finds a path of each of these inodes that has one. */
export async function findPaths(
  { registry }: Namespace,
  wanted: ReadonlySet<Ino>,
): Promise<{ readonly names: number; readonly paths: ReadonlyMap<Ino, string> }> {
  const places = new Map<Ino, Place>();
  let names = 0;
  for await (const { key, value } of keysOf(registry, prefixRange('d'))) {
    const { ino, name, type } = decodeEntry(key, value);
    names += 1;
    if (type === 'directory' || wanted.has(ino))
      places.set(ino, { parent: inoOfKey(key.slice(1, 9)), name });
  }
  const pathOf = (ino: Ino): string => {
    const place = places.get(ino);
    if (!place) return '';
    return `${pathOf(place.parent)}/${Buffer.from(place.name, 'latin1').toString('utf8')}`;
  };
  const found = [...wanted].filter((ino) => places.has(ino));
  return { names, paths: new Map(found.map((ino) => [ino, pathOf(ino)])) };
}

/** Puts volumes under `/recovered`, and gives the paths. */
export async function nameRecovered(
  namespace: Namespace,
  clock: Clock,
  volumes: readonly Unnamed[],
): Promise<readonly string[]> {
  if (volumes.length === 0) return [];
  const first = await namespace.reserveInos(volumes.length + 1);
  const folder = await findFolder(namespace, clock, toIno(first));
  const paths: string[] = [];
  for (const [index, { id, sizeBytes }] of volumes.entries()) {
    const ino = toIno(first + 1 + index);
    const inode: Inode = {
      ...newInode(ino, clock),
      ...{ type: 'file', mode: diskMode, linkCount: 1, sizeBytes, object: id, kind: 'volume' },
    };
    const name = fileName(`${id}.raw`);
    await enter(namespace, folder.ino, name, inode, [referenceTo(id, ino)]);
    paths.push(`/${folder.name}/${name}`);
  }
  return paths;
}

/** `recovered`, or with a number where that is no folder. */
async function findFolder(
  namespace: Namespace,
  clock: Clock,
  free: Ino,
): Promise<{ readonly ino: Ino; readonly name: string }> {
  for (let attempt = 1; ; attempt += 1) {
    const name = fileName(attempt === 1 ? 'recovered' : `recovered-${attempt}`);
    const standing = await namespace.findEntry(rootIno, name);
    if (standing?.record.type === 'directory') return { ino: standing.record.ino, name };
    if (standing) continue;
    const root = await namespace.directory(rootIno);
    const folder: Inode = {
      ...newInode(free, clock),
      ...{ type: 'directory', mode: folderMode, linkCount: 2, parent: rootIno },
    };
    const linked = putInode({ ...root.record, linkCount: root.record.linkCount + 1 });
    await enter(namespace, rootIno, name, folder, [linked]);
    return { ino: free, name };
  }
}

async function enter(
  namespace: Namespace,
  parent: Ino,
  name: FileName,
  inode: Inode,
  more: readonly Write[],
): Promise<void> {
  const cookie = await namespace.freeCookie(parent, name);
  const entry = namespace.putEntry(parent, cookie, name, inode.ino, inode.type);
  const mark = { key: keys.entries(parent), put: encodeRecord({}) };
  const writes = [putInode(inode), entry, mark, ...more];
  await namespace.registry.transact({ compares: [], writes });
}

function newInode(ino: Ino, clock: Clock) {
  const now = clock.wallNs();
  const times = { accessedNs: now, modifiedNs: now, changedNs: now };
  return { ino, uid: 0, gid: 0, rdev: 0, sizeBytes: 0, allocatedBytes: 0, ...times };
}

function referenceTo(id: ObjectId, ino: Ino): Write {
  return { key: keys.backReference(id), put: encodeRecord({ ino }) };
}
