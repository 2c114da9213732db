/**
 * Objects, their owners and their heads. Whatever changes a record compares it as it was read, and
 * a head is committed together with such a comparison, so of two hosts that think they own an
 * object only the later one commits (invariants 1 and 2).
 *
 *   o<object id>   {kind, owner, epoch, tail, replica, copy, pinned, frozen, reads, writes, window}
 *   hv<object id>  head of the volume, and
 *   hf<object id>  manifest of the file: opaque bytes. Each kind has its own, so that a file keeps
 *                  its manifest until the volume that it becomes is whole
 *
 * `tail` says where the changes are that may not be on the backend yet, which decides who may take
 * the object from a dead owner:
 *
 *   backend   there are none: anybody may
 *   owner     on the owner's SSD alone: nobody may, unless an administrator accepts the loss
 *   replica   in a copy on another host: that host may. Once it has, the copy is on the owner's own
 *             SSD, and stays named until a change is made
 *
 * A copy that was cut off is never named: the owner records that first (invariant 5).
 */

import { StorageError } from '../core/errors.ts';
import { invariant } from '../core/invariant.ts';
import type { Epoch, HostId, ObjectId } from '../core/units.ts';
import { epoch, objectId } from '../core/units.ts';
import type { ObjectKind } from '../ports/objects.ts';
import type { Compare, Registry, Write } from '../ports/registry.ts';
import { prefixRange } from '../ports/registry.ts';
import type { Tail } from '../ports/tenure.ts';
import { hostIsGone, hostIsHere } from './host-records.ts';
import { encodeRecord, RecordReader } from './record.ts';

const tails = ['backend', 'owner', 'replica'] as const;

/** How much a host forwards before it asks for the object. */
export interface Threshold {
  /** Forwarded reads, or writes, within the window; 0: never. */
  readonly reads: number;
  readonly writes: number;
  readonly windowMs: number;
}

export interface ObjectState {
  readonly kind: ObjectKind;
  readonly owner: HostId;
  /** 0: never opened. */
  readonly epoch: number;
  readonly tail: Tail;
  /** Ownership stays where it is, however much is forwarded. */
  readonly isPinned: boolean;
  /** A template: it is not written any more. */
  readonly isFrozen?: boolean;
  /** Undefined: as for all objects of the vPool. */
  readonly threshold?: Threshold | undefined;
}

export interface ObjectRecord extends ObjectState {
  readonly id: ObjectId;
  readonly revision: number;
}

export interface Claim {
  readonly kind: ObjectKind;
  readonly epoch: Epoch;
  readonly tail: Tail;
  readonly isFrozen: boolean;
}

/** Opaque bytes that an object's driver finds its data by. */
export interface Heads {
  loadHead(id: ObjectId): Promise<Uint8Array | undefined>;
  /**
   * Together with `also`, and only while what `only` gives is so; it rejects where that is not.
   * `fenced` once a later tenure has begun.
   */
  commitHead(
    id: ObjectId,
    tenure: Epoch,
    head: Uint8Array,
    also?: readonly Write[],
    only?: () => Promise<readonly Compare[]>,
  ): Promise<void>;
}

const claimAttemptsMax = 10;

const objectKey = (id: ObjectId) => `o${id}`;
const headKey = (kind: ObjectKind, id: ObjectId) => `h${kind === 'volume' ? 'v' : 'f'}${id}`;

/** As the registry keeps it. */
export function encodeObject(state: ObjectState): Uint8Array {
  const { kind, owner, epoch: number, tail, isPinned, isFrozen = false, threshold } = state;
  const where =
    typeof tail === 'string' ? { tail } : { tail: 'replica', replica: tail.host, copy: tail.copy };
  const moves = threshold && {
    ...{ reads: threshold.reads, writes: threshold.writes, window: threshold.windowMs },
  };
  const flags = { ...(isPinned && { pinned: 1 }), ...(isFrozen && { frozen: 1 }) };
  return encodeRecord({ kind, owner, epoch: number, ...where, ...flags, ...moves });
}

/** Throws `corrupt`. */
export function decodeObject(id: ObjectId, value: Uint8Array, revision: number): ObjectRecord {
  const fields = new RecordReader(`object ${id}`, value);
  const tail = fields.oneOf('tail', tails);
  return {
    id,
    kind: fields.oneOf('kind', ['volume', 'file']),
    owner: fields.hostId('owner'),
    epoch: fields.count('epoch'),
    tail: tail === 'replica' ? { host: fields.hostId('replica'), copy: fields.text('copy') } : tail,
    isPinned: fields.has('pinned'),
    isFrozen: fields.has('frozen'),
    threshold: fields.has('window')
      ? {
          reads: fields.count('reads'),
          writes: fields.count('writes'),
          windowMs: fields.count('window'),
        }
      : undefined,
    revision,
  };
}

/** An object as a recovery puts it, with the head of its kind where it has one. */
export function putObject(id: ObjectId, state: ObjectState, head?: Uint8Array): Write[] {
  return [putState(id, state), ...(head ? [{ key: headKey(state.kind, id), put: head }] : [])];
}

function putState(id: ObjectId, state: ObjectState): Write {
  return { key: objectKey(id), put: encodeObject(state) };
}

function isTakenBy(host: HostId, tail: Tail): boolean {
  return tail === 'backend' || (typeof tail === 'object' && tail.host === host);
}

/** In words, whose SSDs have the last changes of an object. */
export function whoHas({ owner, tail }: Pick<ObjectState, 'owner' | 'tail'>): string {
  return typeof tail === 'object' && tail.host !== owner
    ? `host ${owner}, or its replica on host ${tail.host}: they alone have its last changes`
    : `host ${owner}, whose SSD alone has its last changes`;
}

/** What the record says once `owner`, whose journal is the newest then, has claimed a tenure. */
function tailOnceClaimed({ kind, tail }: ObjectState, owner: HostId): Tail {
  // A file's flush is its commit.
  if (kind === 'file') return 'backend';
  return typeof tail === 'object' && tail.host !== owner ? 'owner' : tail;
}

export class ObjectRecords {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** Idempotent. */
  async create(id: ObjectId, kind: ObjectKind, owner: HostId): Promise<void> {
    const key = objectKey(id);
    const state: ObjectState = { kind, owner, epoch: 0, tail: 'backend', isPinned: false };
    const write = { key, put: encodeObject(state) };
    await this.#registry.transact({ compares: [{ key, is: 'absent' }], writes: [write] });
  }

  async find(id: ObjectId): Promise<ObjectRecord | undefined> {
    const found = await this.#registry.get(objectKey(id));
    return found && decodeObject(id, found.value, found.revision);
  }

  /** `not_found`. */
  async get(id: ObjectId): Promise<ObjectRecord> {
    const found = await this.find(id);
    if (!found) throw new StorageError('not_found', `no object ${id}`);
    return found;
  }

  async list(): Promise<readonly ObjectRecord[]> {
    const { entries } = await this.#registry.range(prefixRange('o'));
    return entries.map(({ key, value, revision }) =>
      decodeObject(objectId(key.slice(1)), value, revision),
    );
  }

  /**
   * Begins the next tenure of an object that is this host's, while `guard` holds. `not_owner` where
   * it is another's, `busy` where the guard does not hold, `not_found`.
   */
  async claim(id: ObjectId, owner: HostId, guard: readonly Compare[] = []): Promise<Claim> {
    for (let attempt = 1; ; attempt += 1) {
      const record = await this.get(id);
      if (attempt > claimAttemptsMax) throw new StorageError('busy', `object ${id} is contended`);
      if (record.owner !== owner)
        throw new StorageError('not_owner', `object ${id} is owned by host ${record.owner}`);
      const next = epoch(record.epoch + 1);
      const { kind } = record;
      const tail = tailOnceClaimed(record, owner);
      if (await this.#replace(record, { ...record, epoch: next, tail }, guard))
        return { kind, epoch: next, tail, isFrozen: record.isFrozen === true };
    }
  }

  /**
   * Makes the object of a host that is gone this host's. False where the record has changed
   * meanwhile, or the host is back. `unavailable` where this host may not take it.
   */
  async take(record: ObjectRecord, host: HostId, guard: readonly Compare[] = []): Promise<boolean> {
    const { id, owner, kind, tail } = record;
    if (kind === 'volume' && !isTakenBy(host, tail))
      throw new StorageError('unavailable', `object ${id} waits for ${whoHas(record)}`);
    const state = { ...record, owner: host, epoch: record.epoch + 1 };
    return this.#replace(record, state, [hostIsGone(owner), ...guard]);
  }

  /**
   * The owner gives it to another host, which has its tail already, with a tenure to begin at once:
   * while that host is a member by `session`; `busy` otherwise. `known`: the record as it may be.
   */
  async give(
    id: ObjectId,
    tenure: Epoch,
    { to, session, known }: { to: HostId; session: number; known?: ObjectRecord | undefined },
  ): Promise<ObjectState> {
    const guard = [hostIsHere(to, session)];
    let record = known?.epoch === tenure ? known : await this.#ofTenure(id, tenure);
    for (;;) {
      const tail = record.tail === 'backend' ? 'backend' : 'owner';
      const given: ObjectState = { ...record, owner: to, epoch: tenure + 1, tail };
      if (await this.#replace(record, given, guard)) return given;
      const found = await this.#ofTenure(id, tenure);
      if (found.revision === record.revision)
        throw new StorageError('busy', `host ${to}, which wants object ${id}, is gone`);
      record = found;
    }
  }

  /**
   * Its owner, who has not opened it, names another host: that of its copy, or any where all of it is on the
   * backend. False where the record has changed.
   */
  async passOn(record: ObjectRecord, to: HostId): Promise<boolean> {
    const { tail } = record;
    const hasAll = tail === 'backend' || (typeof tail === 'object' && tail.host === to);
    invariant(hasAll, 'who is named has all of the object');
    return this.#replace(record, { ...record, owner: to, epoch: record.epoch + 1 });
  }

  /** Tells where the changes of this tenure are from now on. */
  async setTail(id: ObjectId, tenure: Epoch, tail: Tail): Promise<void> {
    await this.#commit(id, tenure, (record) => [putState(id, { ...record, tail })]);
  }

  /** Changes what an administrator may, whoever the owner is. `not_found`. */
  async adjust(
    id: ObjectId,
    change: Partial<Pick<ObjectState, 'isPinned' | 'isFrozen' | 'threshold'>>,
  ): Promise<void> {
    for (;;) {
      const record = await this.get(id);
      if (await this.#replace(record, { ...record, ...change })) return;
    }
  }

  /** An administrator accepts that what only SSDs of hosts that are gone hold is lost. */
  async acceptLoss(record: ObjectRecord): Promise<boolean> {
    const state: ObjectState = { ...record, tail: 'backend' };
    const { owner, tail } = record;
    const holders = typeof tail === 'object' && tail.host !== owner ? [owner, tail.host] : [owner];
    return this.#replace(record, state, holders.map(hostIsGone));
  }

  /** The head of an object, with what holds while it is this one. */
  async findHead(
    id: ObjectId,
    kind: ObjectKind,
  ): Promise<{ readonly head: Uint8Array; readonly isSame: Compare } | undefined> {
    const key = headKey(kind, id);
    const found = await this.#registry.get(key);
    return found && { head: found.value, isSame: { key, is: 'at', revision: found.revision } };
  }

  /** The heads of one kind of object. */
  heads(kind: ObjectKind): Heads {
    return {
      loadHead: async (id) => (await this.#registry.get(headKey(kind, id)))?.value,
      commitHead: (id, tenure, head, also = [], only) =>
        this.#commit(id, tenure, () => [{ key: headKey(kind, id), put: head }, ...also], only),
    };
  }

  /** A file has become a volume, whose head is committed already. */
  async promote(id: ObjectId, tenure: Epoch): Promise<void> {
    await this.#commit(id, tenure, (record) => [
      putState(id, { ...record, kind: 'volume' }),
      { key: headKey('file', id), delete: true },
    ]);
  }

  /** Idempotent. */
  async delete(id: ObjectId): Promise<void> {
    const keys = [objectKey(id), headKey('volume', id), headKey('file', id)];
    const writes = keys.map((key) => ({ key, delete: true }) as const);
    await this.#registry.transact({ compares: [], writes });
  }

  /** `fenced` once a later tenure has begun. */
  async #commit(
    id: ObjectId,
    tenure: Epoch,
    writesOf: (record: ObjectRecord) => readonly Write[],
    only?: () => Promise<readonly Compare[]>,
  ): Promise<void> {
    for (;;) {
      const record = await this.#ofTenure(id, tenure);
      if (await this.#transact(record, writesOf(record), await only?.())) return;
    }
  }

  async #ofTenure(id: ObjectId, tenure: Epoch): Promise<ObjectRecord> {
    const record = await this.find(id);
    if (record?.epoch === tenure) return record;
    throw new StorageError('fenced', `epoch ${tenure} of object ${id} has ended`, {
      detail: { found: record?.epoch },
    });
  }

  /** False where the record changed meanwhile. */
  #replace(record: ObjectRecord, state: ObjectState, compares: readonly Compare[] = []) {
    return this.#transact(record, [putState(record.id, state)], compares);
  }

  async #transact(
    record: ObjectRecord,
    writes: readonly Write[],
    compares: readonly Compare[] = [],
  ): Promise<boolean> {
    const isSame: Compare = { key: objectKey(record.id), is: 'at', revision: record.revision };
    const outcome = await this.#registry.transact({ compares: [isSame, ...compares], writes });
    return outcome.committed;
  }
}
