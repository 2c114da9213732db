/**
 * Whether the records of objects fit together: object, head, back reference, note of deletion,
 * snapshots, and both sides of what is a clone of what (object-records.ts, namespace.ts and
 * snapshot-records.ts say what each key is).
 */

import { describeError, isStorageError } from '../core/errors.ts';
import { objectId, type ObjectId } from '../core/units.ts';
import type { Compare, KeyValue, Registry } from '../ports/registry.ts';
import type { Problem, Suspicion } from '../ports/scrub.ts';
import { decodeInode, deleteKey, isAbsent, isAt, isPresent, keys } from './namespace.ts';
import type { ObjectRecord } from './object-records.ts';
import { decodeObject } from './object-records.ts';
import { encodeRecord, RecordReader } from './record.ts';
import { scan } from './scan.ts';
import { decodeSnapshot, isForClone, putMark } from './snapshot-records.ts';
import { listUndertakings } from './snapshot-sets.ts';

/** One key of each for an object, and any number of the last two. */
const prefixes = ['o', 'b', 'g', 'hv', 'hf', 'p', 's', 'c'] as const;
type Prefix = (typeof prefixes)[number];

const idDigits = 32;
/** Writes of one repair, well below what a transaction takes. */
const writesMax = 50;

/** All that the registry has of an object. */
export interface ObjectKeys {
  readonly id: ObjectId;
  readonly found: Readonly<Record<Prefix, readonly KeyValue[]>>;
}

/** Every object of which there is any record, in the order of ids. */
export async function* objectsOf(registry: Registry): AsyncGenerator<ObjectKeys> {
  const scans = prefixes.map((prefix) => ({ prefix, keys: scan(registry, prefix) }));
  const heads = new Map<Prefix, KeyValue>();
  const advance = async ({ prefix, keys: from }: (typeof scans)[number]) => {
    const next = await from.next();
    if (next.done === true) heads.delete(prefix);
    else heads.set(prefix, next.value);
  };
  for (const one of scans) await advance(one);
  while (heads.size > 0) {
    const ids = [...heads].map(([prefix, { key }]) => idIn(prefix, key));
    const id = ids.reduce((least, other) => (other < least ? other : least));
    const found = nothing();
    for (const one of scans)
      for (let head = heads.get(one.prefix); head && idIn(one.prefix, head.key) === id; ) {
        found[one.prefix].push(head);
        await advance(one);
        head = heads.get(one.prefix);
      }
    yield { id: objectId(id), found };
  }
}

function idIn(prefix: Prefix, key: string): string {
  return key.slice(prefix.length, prefix.length + idDigits);
}

function nothing(): Record<Prefix, KeyValue[]> {
  return { o: [], b: [], g: [], hv: [], hf: [], p: [], s: [], c: [] };
}

/** As it is now. */
export async function keysOf(registry: Registry, id: ObjectId): Promise<ObjectKeys> {
  const found = nothing();
  for (const prefix of prefixes)
    for await (const key of scan(registry, `${prefix}${id}`)) found[prefix].push(key);
  return { id, found };
}

/** Undefined where it is damaged or missing. */
export function recordOf({ id, found }: ObjectKeys): ObjectRecord | undefined {
  const [record] = found.o;
  try {
    return record && decodeObject(id, record.value, record.revision);
  } catch {
    return undefined;
  }
}

/** What looks wrong about an object. */
export async function suspicionsOf(
  registry: Registry,
  object: ObjectKeys,
): Promise<readonly Suspicion[]> {
  const problems = await problemsOf(registry, object);
  return problems.map(({ what }) => async () => {
    const now = await problemsOf(registry, await keysOf(registry, object.id));
    return now.find((problem) => problem.what === what);
  });
}

async function problemsOf(registry: Registry, object: ObjectKeys): Promise<readonly Problem[]> {
  const { id, found } = object;
  const problems: Problem[] = [];
  for (const check of [unreadable, ofReference, ofDescent, ofClones])
    try {
      problems.push(...(await check(registry, object)));
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      problems.push({ kind: 'damage', what: `a record is damaged: ${describeError(error)}` });
    }
  const [record] = found.o;
  const isNamed = found.b.length + found.g.length > 0;
  if (record && !isNamed && found.c.length === 0)
    problems.push({
      ...{ kind: 'waste', what: 'object has no name', then: 'delete' },
      repair: {
        compares: [isAt(record.key, record.revision), isAbsent(keys.backReference(id))],
        writes: [{ key: keys.garbage(id), put: encodeRecord({}) }],
      },
    });
  const rest = [...found.hv, ...found.hf, ...found.p, ...found.s].slice(0, writesMax);
  if (!record && !isNamed && rest.length > 0)
    problems.push({
      ...{ kind: 'waste', what: 'records of an object that is not there' },
      repair: {
        compares: [`o${id}`, keys.backReference(id), keys.garbage(id)].map(isAbsent),
        writes: rest.map(({ key }) => deleteKey(key)),
      },
    });
  if (problems.length > 0 && (await isBeingMade(registry, id))) return [];
  return problems.map((problem) => ({ ...problem, object: id }));
}

/** For a snapshot that nobody sees so far, or that is being undone. */
async function isBeingMade(registry: Registry, id: ObjectId): Promise<boolean> {
  for await (const { files } of listUndertakings(registry)) if (files.includes(id)) return true;
  return false;
}

async function unreadable(_registry: Registry, { id, found }: ObjectKeys): Promise<Problem[]> {
  const problems: Problem[] = [];
  const check = (what: string, read: () => unknown) => {
    try {
      read();
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      problems.push({ kind: 'damage', what: `${what}: ${describeError(error)}` });
    }
  };
  for (const { value, revision } of found.o)
    check('object record is damaged', () => decodeObject(id, value, revision));
  for (const { key, value } of found.s)
    check('snapshot record is damaged', () => decodeSnapshot(key, value));
  return problems;
}

export function isUnreadable(error: unknown): boolean {
  return isStorageError(error, 'corrupt') || isStorageError(error, 'invalid');
}

/** Between the object and the file that it belongs to. */
async function ofReference(registry: Registry, { id, found }: ObjectKeys): Promise<Problem[]> {
  const [reference] = found.b;
  if (!reference) return [];
  const ino = new RecordReader('back reference', reference.value).ino('ino');
  const value = (await registry.get(keys.inode(ino)))?.value;
  const inode = value && decodeInode(ino, value);
  if (!inode || (inode.object ?? inode.kept?.object) !== id)
    return [
      {
        ...{ kind: 'waste', what: `back reference to inode ${ino}, which is not the object's` },
        repair: {
          compares: [isAt(reference.key, reference.revision)],
          writes: [deleteKey(reference.key)],
        },
      },
    ];
  const wasUsed = inode.sizeBytes > 0 || found.hv.length + found.hf.length > 0;
  if (found.o.length > 0 || !wasUsed) return [];
  const what = 'object record is missing';
  return [{ kind: 'damage', what, ino, advice: 'recover the object from the object store' }];
}

/** What the object reads from. */
async function ofDescent(registry: Registry, { id, found }: ObjectKeys): Promise<Problem[]> {
  const [descent] = found.p;
  // While it is deleted they go one by one.
  if (!descent || found.g.length > 0) return [];
  const fields = new RecordReader('clone', descent.value);
  const [parent, snapshot] = [fields.objectId('parent'), fields.text('snapshot')];
  const latin1 = Buffer.from(snapshot, 'utf8').toString('latin1');
  const [pinKey, cloneKey] = [`s${parent}${latin1}`, `c${parent}${id}${latin1}`];
  const problems: Problem[] = [];
  if (!(await registry.get(pinKey)))
    problems.push({
      ...{ kind: 'damage', what: `is a clone of snapshot ${snapshot} of ${parent}, which is gone` },
      advice: 'what it reads from there may be deleted at any time: flatten or copy it now',
    });
  else if (!(await registry.get(cloneKey)))
    problems.push({
      ...{ kind: 'damage', what: `is a clone of ${parent}, which does not know of it` },
      repair: {
        compares: [isAt(descent.key, descent.revision), isPresent(pinKey)],
        writes: [{ key: cloneKey, put: encodeRecord({}) }, putMark(parent)],
      },
    });
  return problems;
}

/** What reads from the object, and what is kept for that. */
async function ofClones(registry: Registry, { id, found }: ObjectKeys): Promise<Problem[]> {
  const problems: Problem[] = [];
  const clones = new Set<string>();
  for (const { key, revision } of found.c) {
    const clone = key.slice(1 + idDigits, 1 + 2 * idDigits);
    const descent = await registry.get(`p${clone}`);
    const fields = descent && new RecordReader('clone', descent.value);
    const snapshot = fields && Buffer.from(fields.text('snapshot')).toString('latin1');
    if (fields?.text('parent') === id && key.slice(1 + 2 * idDigits) === snapshot) {
      clones.add(clone);
      continue;
    }
    problems.push({
      ...{ kind: 'waste', what: `note of clone ${clone}, which is none of it` },
      repair: { compares: [isAt(key, revision)], writes: [deleteKey(key), putMark(id)] },
    });
  }
  for (const { key, revision } of found.s) {
    const name = key.slice(1 + idDigits);
    if (!isForClone(name) || clones.has(name.slice(-idDigits))) continue;
    const isStill: Compare = isAt(key, revision);
    problems.push({
      ...{ kind: 'waste', what: `snapshot ${name} for a clone that is not there` },
      ...{ then: 'collect' },
      repair: { compares: [isStill], writes: [deleteKey(key), putMark(id)] },
    });
  }
  return problems;
}
