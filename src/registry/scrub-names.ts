/**
 * Whether names, inodes, attributes and notes fit together. Inodes are taken in batches, and the names
 * of all directories are gone through for each: that is bounded in memory, however many there are.
 */

import { describeError } from '../core/errors.ts';
import type { Ino } from '../core/units.ts';
import type { KeyValue, Registry } from '../ports/registry.ts';
import type { Problem, Suspicion } from '../ports/scrub.ts';
import type { Inode } from './namespace.ts';
import {
  decodeEntry,
  decodeInode,
  deleteKey,
  inoOfKey,
  isAbsent,
  isAt,
  keys,
  snapshotsFolder,
} from './namespace.ts';
import { RecordReader } from './record.ts';
import { scan } from './scan.ts';
import { isUnreadable } from './scrub-objects.ts';
import { listUndertakings } from './snapshot-sets.ts';

const inodesPerBatch = 100_000;
const rootIno = 1;

/** What is said of an inode, and what was found of it. */
interface Links {
  readonly ino: Ino;
  readonly linkCount: number;
  readonly isDirectory: boolean;
  readonly isKept: boolean;
  names: number;
  folders: number;
}

export interface NamesReport {
  readonly suspicions: readonly Suspicion[];
  /** Of all files, as their inodes say. */
  readonly allocatedBytes: number;
}

export async function scrubNames(registry: Registry): Promise<NamesReport> {
  const suspicions: Suspicion[] = [];
  let allocatedBytes = 0;
  let from = 0;
  for await (const { batch, to } of batches(registry, suspicions)) {
    for (const { record } of batch) allocatedBytes += record?.allocatedBytes ?? 0;
    const links = linksOf(batch.flatMap(({ record }) => record ?? []));
    for await (const entry of scan(registry, 'd')) {
      const found = read(entry);
      const { ino, folder } = found;
      for (const number of [ino, folder])
        if (number !== undefined && number >= from && number < to && !links.has(number))
          suspicions.push(() => danglingName(registry, entry.key));
      count(links, found);
    }
    for (const { ino, ...found } of links.values())
      if (!isRight(found)) suspicions.push(() => wrongCount(registry, ino));
    for (const { record } of batch)
      if (record) suspicions.push(...(await ofInode(registry, record)));
    from = to;
  }
  suspicions.push(...(await strayNotes(registry)));
  return { suspicions, allocatedBytes };
}

type InodeFound = { readonly record: Inode | undefined };

/** Each with the first inode number of the next; what can't be read of them is suspicious. */
async function* batches(registry: Registry, suspicions: Suspicion[]) {
  let batch: InodeFound[] = [];
  for await (const { key, value } of scan(registry, 'i')) {
    const ino = inoOfKey(key.slice(1));
    if (batch.length === inodesPerBatch) {
      yield { batch, to: ino as number };
      batch = [];
    }
    try {
      batch.push({ record: decodeInode(ino, value) });
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      const problem: Problem = { kind: 'damage', what: describeError(error), ino };
      suspicions.push(async () => problem);
    }
  }
  yield { batch, to: Number.POSITIVE_INFINITY };
}

function linksOf(inodes: readonly Inode[]): Map<number, Links> {
  return new Map(
    inodes.map(({ ino, linkCount, type, kept }) => [
      ino,
      {
        ...{ ino, linkCount, isDirectory: type === 'directory', isKept: kept !== undefined },
        ...{ names: 0, folders: 0 },
      },
    ]),
  );
}

function read({ key, value }: KeyValue) {
  const folder = inoOfKey(key.slice(1, 9));
  try {
    const { ino, type, name } = decodeEntry(key, value);
    return { ino, type, name, folder };
  } catch (error) {
    if (!isUnreadable(error)) throw error;
    return { ino: undefined, type: undefined, name: describeError(error), folder };
  }
}

function count(
  links: ReadonlyMap<number, Links>,
  { ino, folder, type, name }: ReturnType<typeof read>,
): void {
  const named = ino === undefined ? undefined : links.get(ino);
  if (named) named.names += 1;
  const parent = links.get(folder);
  if (parent && type === 'directory' && name !== snapshotsFolder) parent.folders += 1;
}

/**
 * A directory has one name, but the root none; each in it counts as one link more, but for those of
 * snapshots, whose own count says nothing.
 */
function isRight({ linkCount, isDirectory, isKept, names, folders }: Omit<Links, 'ino'>): boolean {
  if (!isDirectory || isKept) return names === linkCount;
  return linkCount === 0 ? names === 0 : linkCount === 2 + folders;
}

async function danglingName(registry: Registry, key: string): Promise<Problem | undefined> {
  const entry = await registry.get(key);
  if (!entry) return undefined;
  const { ino, name, folder } = read(entry);
  // Asked first: whoever makes a snapshot known, or has undone it, ends the undertaking.
  if (await isBeingMade(registry, folder)) return undefined;
  const target = ino !== undefined && (await registry.get(keys.inode(ino)));
  const parent = await registry.get(keys.inode(folder));
  const still = await registry.get(key);
  if ((target && parent) || still?.revision !== entry.revision) return undefined;
  const what = `name ${JSON.stringify(name)} in folder ${folder} leads nowhere`;
  return {
    kind: 'damage',
    what,
    advice: 'what it named is lost',
    ...(ino !== undefined && { ino }),
  };
}

/** Whether the folder is in a snapshot that nobody sees so far, or that is being undone. */
async function isBeingMade(registry: Registry, folder: Ino): Promise<boolean> {
  const roots = new Set<Ino>();
  for await (const { root } of listUndertakings(registry)) roots.add(root);
  for (let at: Ino | undefined = folder; roots.size > 0 && at !== undefined; ) {
    if (roots.has(at)) return true;
    const value: Uint8Array | undefined = (await registry.get(keys.inode(at)))?.value;
    at = value && decodeInode(at, value).parent;
  }
  return false;
}

/** Counts the names of one inode. What is moved meanwhile is missed: who calls asks again. */
async function wrongCount(registry: Registry, ino: Ino): Promise<Problem | undefined> {
  const before = await registry.get(keys.inode(ino));
  if (!before) return undefined;
  const links = linksOf([decodeInode(ino, before.value)]);
  for await (const entry of scan(registry, 'd')) {
    count(links, read(entry));
  }
  const found = links.get(ino) as Links;
  const after = await registry.get(keys.inode(ino));
  if (isRight(found) || after?.revision !== before.revision) return undefined;
  const { linkCount, names, folders } = found;
  const what = `inode ${ino} counts ${linkCount} links and has ${names} names, ${folders} folders`;
  return { kind: 'damage', what, ino };
}

async function ofInode(registry: Registry, inode: Inode): Promise<readonly Suspicion[]> {
  const { ino } = inode;
  const check: Suspicion = async () => {
    const value = (await registry.get(keys.inode(ino)))?.value;
    const now = value && decodeInode(ino, value);
    if (!now) return undefined;
    if (now.linkCount === 0 && ino !== rootIno && !(await registry.get(keys.orphan(ino))))
      return { kind: 'waste', what: `inode ${ino} has no name, and nobody removes it`, ino };
    if (now.object === undefined) return undefined;
    const reference = await registry.get(keys.backReference(now.object));
    const refers = reference && new RecordReader('back reference', reference.value).count('ino');
    if (refers === ino) return undefined;
    const what = `object ${now.object} does not refer back to its inode ${ino}`;
    return { kind: 'damage', what, ino };
  };
  return (await check()) ? [check] : [];
}

/** Notes and attributes of inodes that are not there. */
async function strayNotes(registry: Registry): Promise<readonly Suspicion[]> {
  const suspicions: Suspicion[] = [];
  for (const [prefix, what] of [
    ['u', 'note of removal'],
    ['x', 'extended attribute'],
  ] as const)
    for await (const { key } of scan(registry, prefix)) {
      const ino = inoOfKey(key.slice(1, 9));
      const check: Suspicion = async () => {
        const now = await registry.get(key);
        if (!now || (await registry.get(keys.inode(ino)))) return undefined;
        const compares = [isAt(key, now.revision), isAbsent(keys.inode(ino))];
        const repair = { compares, writes: [deleteKey(key)] };
        return { kind: 'waste', what: `${what} of inode ${ino}, which is not there`, ino, repair };
      };
      if (await check()) suspicions.push(check);
    }
  return suspicions;
}
