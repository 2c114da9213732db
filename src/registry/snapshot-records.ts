/**
 * Snapshots of volumes, and what is a clone of which:
 *
 *   s<object id><name>            {created, epoch, sequence, used, head}: the head that is kept, and the
 *                                 segment that was named last when it was committed
 *   k<object id>                  a mark: changes whenever a snapshot or a clone of one comes or goes
 *   c<object id><clone id><name>  the clone reads from the snapshot
 *   p<clone id>                   {parent, snapshot}: the same, from the clone's side
 *
 * A snapshot is put by the volume's owner, together with the head that it keeps. Names that begin
 * with a dot are Wharf's own. A snapshot is not deleted while there are clones of it: both change
 * the mark, so of a clone and a deletion at once one sees the other.
 */

import { StorageError } from '../core/errors.ts';
import type { LeaseId, ObjectId } from '../core/units.ts';
import { objectId } from '../core/units.ts';
import type { Compare, Lease, Registry, Transaction, Write } from '../ports/registry.ts';
import { prefixRange } from '../ports/registry.ts';
import { encodeRecord, RecordReader } from './record.ts';
import { scan } from './scan.ts';

const nameCharactersMax = 128;
const idDigits = 32;
const heldMs = 30_000;
const nothing = () => Promise.resolve({ compares: [], writes: [] });

export interface SnapshotRecord {
  readonly name: string;
  /** Nanoseconds since 1970. */
  readonly createdNs: bigint;
  /** The segment of the volume that was named last before it: see the table of live bytes. */
  readonly at: { readonly epoch: number; readonly sequence: number };
  /** Bytes of data in the volume; an estimate. */
  readonly usedBytes: number;
  /** Encoded. */
  readonly head: Uint8Array;
}

export interface Descent {
  readonly parent: ObjectId;
  readonly snapshot: string;
}

const prefixOf = (id: ObjectId) => `s${id}`;
const keyOf = (id: ObjectId, name: string) => `${prefixOf(id)}${asLatin1(name)}`;
const clonesOf = (id: ObjectId) => `c${id}`;
const descentKey = (clone: ObjectId) => `p${clone}`;
export const asLatin1 = (text: string) => Buffer.from(text, 'utf8').toString('latin1');
export const asText = (latin1: string) => Buffer.from(latin1, 'latin1').toString('utf8');

export const markKey = (id: ObjectId) => `k${id}`;
export const putMark = (id: ObjectId): Write => ({ key: markKey(id), put: encodeRecord({}) });

/** For a transaction to compare. */
export function snapshotIsThere(id: ObjectId, name: string): Compare {
  return { key: keyOf(id, name), is: 'present' };
}

/** Whether it is Wharf's own, which lists don't show. */
export function isInternal(name: string): boolean {
  return name.startsWith('.');
}

/** `invalid` where a user may not give a snapshot this name. */
export function checkSnapshotName(name: string): void {
  const isFit =
    /^[^./\0@][^/\0@]*$/.test(name) &&
    name.isWellFormed() &&
    Buffer.byteLength(name) <= nameCharactersMax;
  if (!isFit)
    throw new StorageError(
      'invalid',
      `${JSON.stringify(name)} is no name of a snapshot: 1 to ${nameCharactersMax} bytes without / and @, not with a dot in front`,
    );
}

export class SnapshotRecords {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** What puts a snapshot. */
  writes(id: ObjectId, snapshot: SnapshotRecord): readonly Write[] {
    const { name, createdNs, at, usedBytes: used } = snapshot;
    const head = Buffer.from(snapshot.head).toString('base64');
    const record = encodeRecord({ created: String(createdNs), ...at, used, head });
    return [{ key: keyOf(id, name), put: record }, putMark(id)];
  }

  async find(id: ObjectId, name: string): Promise<SnapshotRecord | undefined> {
    const key = keyOf(id, name);
    const found = await this.#registry.get(key);
    return found && decodeSnapshot(key, found.value);
  }

  /** `not_found`. */
  async get(id: ObjectId, name: string): Promise<SnapshotRecord> {
    const found = await this.find(id, name);
    if (!found) throw new StorageError('not_found', `no snapshot ${name}`);
    return found;
  }

  /**
   * That the snapshot is there as it was found, for a transaction to compare. `not_found` where it is
   * gone, also where another one has its name.
   */
  async still(
    id: ObjectId,
    { name, head }: Pick<SnapshotRecord, 'name' | 'head'>,
  ): Promise<Compare> {
    const key = keyOf(id, name);
    const found = await this.#registry.get(key);
    if (found && Buffer.compare(decodeSnapshot(key, found.value).head, head) === 0)
      return { key, is: 'at', revision: found.revision };
    throw new StorageError('not_found', `no snapshot ${name} any more`);
  }

  /** All of a volume's, Wharf's own with them, by name. */
  async *list(id: ObjectId): AsyncGenerator<SnapshotRecord> {
    for await (const { key, value } of scan(this.#registry, prefixOf(id)))
      yield decodeSnapshot(key, value);
  }

  /**
   * That the volume has no snapshots but those for clones and of moments, for a transaction to
   * compare; undefined where it has some, or is a template.
   */
  async none(id: ObjectId): Promise<Compare | undefined> {
    const compare = await this.#mark(id);
    if (compare.is === 'absent') return compare;
    for await (const { name } of this.list(id))
      if (!isForClone(name) && !isOfMoment(name) && !isOfScrub(name)) return undefined;
    return compare;
  }

  /** From now on the snapshot goes when the lease is released, or this process dies. `not_found`. */
  async hold(
    id: ObjectId,
    name: string,
  ): Promise<{ readonly record: SnapshotRecord; readonly lease: Lease }> {
    const key = keyOf(id, name);
    const lease = await this.#registry.grantLease(heldMs);
    const found = await this.#registry.get(key);
    if (found) {
      const compares = [{ key, is: 'at', revision: found.revision } as const];
      const writes = [{ key, put: found.value, lease: lease.id }];
      const { committed } = await this.#registry.transact({ compares, writes });
      if (committed) return { record: decodeSnapshot(key, found.value), lease };
    }
    await lease.release();
    throw new StorageError('not_found', `no snapshot ${name}`);
  }

  /**
   * What was reached at a time stays while the lease lives, until `unpin`, although nobody sees a
   * snapshot. `name` tells pins apart. False where `isSame` does not hold.
   */
  async pin(
    id: ObjectId,
    { name, at }: Pick<SnapshotRecord, 'name' | 'at'>,
    isSame: Compare,
    lease: LeaseId,
  ): Promise<boolean> {
    const pin = { name: `${ofScrub}${name}`, at, createdNs: 0n, usedBytes: 0 };
    const [put] = this.writes(id, { ...pin, head: new Uint8Array(0) });
    const writes = [{ ...(put as Write), lease }];
    return (await this.#registry.transact({ compares: [isSame], writes })).committed;
  }

  async isPinned(id: ObjectId): Promise<boolean> {
    return (await this.#registry.get(keyOf(id, ofScrub))) !== undefined;
  }

  /** Idempotent. */
  async unpin(id: ObjectId): Promise<void> {
    for await (const { key } of scan(this.#registry, keyOf(id, ofScrub)))
      await this.#registry.transact({ compares: [], writes: [{ key, delete: true }] });
  }

  /** False where there is none. `busy` where there are clones of it. `also` is done with it. */
  async delete(
    id: ObjectId,
    name: string,
    also: () => Promise<Pick<Transaction, 'compares' | 'writes'>> = nothing,
  ): Promise<boolean> {
    for (;;) {
      const compare = await this.#mark(id);
      if (!(await this.find(id, name))) return false;
      const clones = await this.clones(id, name);
      if (clones.length > 0)
        throw new StorageError(
          'busy',
          `snapshot ${name} has clones: ${clones.length} read from it`,
        );
      const { compares, writes } = await also();
      const { committed } = await this.#registry.transact({
        compares: [compare, ...compares],
        writes: [{ key: keyOf(id, name), delete: true }, putMark(id), ...writes],
      });
      if (committed) return true;
    }
  }

  /** What reads from the snapshot, or from any of the volume's. */
  async clones(id: ObjectId, snapshot?: string): Promise<readonly ObjectId[]> {
    const all = await this.#clones(id);
    return all.flatMap(({ clone, name }) =>
      snapshot === undefined || name === snapshot ? clone : [],
    );
  }

  /** How many clones read from each of the volume's snapshots that has any, by name. */
  async cloneCounts(id: ObjectId): Promise<ReadonlyMap<string, number>> {
    const counts = new Map<string, number>();
    for (const { name } of await this.#clones(id)) counts.set(name, (counts.get(name) ?? 0) + 1);
    return counts;
  }

  async descentOf(clone: ObjectId): Promise<Descent | undefined> {
    const found = await this.#registry.get(descentKey(clone));
    if (!found) return undefined;
    const fields = new RecordReader(`clone ${clone}`, found.value);
    return { parent: fields.objectId('parent'), snapshot: fields.text('snapshot') };
  }

  /** What makes the clone one, for the transaction that makes it. */
  cloning(
    clone: ObjectId,
    { parent, snapshot }: Descent,
  ): { readonly compares: readonly Compare[]; readonly writes: readonly Write[] } {
    return {
      compares: [snapshotIsThere(parent, snapshot)],
      writes: [
        { key: cloneKey(clone, { parent, snapshot }), put: encodeRecord({}) },
        { key: descentKey(clone), put: encodeRecord({ parent, snapshot }) },
        putMark(parent),
      ],
    };
  }

  /** Nothing of the clone reads from its parent any more. Idempotent. */
  async detach(clone: ObjectId): Promise<Descent | undefined> {
    const descent = await this.descentOf(clone);
    if (!descent) return undefined;
    const writes = [
      { key: cloneKey(clone, descent), delete: true } as const,
      { key: descentKey(clone), delete: true } as const,
      putMark(descent.parent),
    ];
    await this.#registry.transact({ compares: [], writes });
    return descent;
  }

  /** The volume is gone, and its snapshots with it. Idempotent. */
  async forget(id: ObjectId): Promise<void> {
    for (;;) {
      const { entries } = await this.#registry.range(prefixRange(prefixOf(id)), { limit: 50 });
      const keys = entries.length > 0 ? entries.map(({ key }) => key) : [markKey(id)];
      const writes = keys.map((key) => ({ key, delete: true }) as const);
      await this.#registry.transact({ compares: [], writes });
      if (entries.length === 0) return;
    }
  }

  async #clones(id: ObjectId): Promise<readonly { clone: ObjectId; name: string }[]> {
    const prefix = clonesOf(id);
    const { entries } = await this.#registry.range(prefixRange(prefix));
    return entries.map(({ key }) => ({
      clone: objectId(key.slice(prefix.length, prefix.length + idDigits)),
      name: asText(key.slice(prefix.length + idDigits)),
    }));
  }

  async #mark(id: ObjectId): Promise<Compare> {
    const key = markKey(id);
    const found = await this.#registry.get(key);
    return found ? { key, is: 'at', revision: found.revision } : { key, is: 'absent' };
  }
}

/** What a scrub reads: no snapshots that count as such. */
const ofScrub = '.scrub';
/** The snapshot that clones of a template stand on. */
export const ofTemplate = '.template';
const forClone = '.clone-';

/** Whether it only keeps what a scrub reads. */
export function isOfScrub(name: string): boolean {
  return name.startsWith(ofScrub);
}

/** Of the snapshot that a clone of the volume as it is now stands on. */
export function nameForClone(clone: ObjectId): string {
  return `${forClone}${clone}`;
}

/** Whether the snapshot is there for a clone alone, and goes with it. */
export function isForClone(name: string): boolean {
  return name.startsWith(forClone);
}

const ofMoment = '.moment-';

/** Of a snapshot that is there for one question, and held by who asks. */
export function nameOfMoment(digits: string): string {
  return `${ofMoment}${digits}`;
}

export function isOfMoment(name: string): boolean {
  return name.startsWith(ofMoment);
}

function cloneKey(clone: ObjectId, { parent, snapshot }: Descent): string {
  return `${clonesOf(parent)}${clone}${asLatin1(snapshot)}`;
}

/** Throws `corrupt`. */
export function decodeSnapshot(key: string, value: Uint8Array): SnapshotRecord {
  const fields = new RecordReader('snapshot', value);
  return {
    name: asText(key.slice(1 + idDigits)),
    createdNs: fields.time('created'),
    usedBytes: fields.count('used'),
    at: { epoch: fields.count('epoch'), sequence: fields.count('sequence') },
    head: Buffer.from(fields.text('head'), 'base64'),
  };
}
