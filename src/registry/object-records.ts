/**
 * Objects, their owners and their heads. A claim and a head commit are transactions that compare
 * the object's record, so of two hosts that think they own an object only the later one commits
 * (invariants 1 and 2).
 *
 *   o<object id>   {kind, owner, epoch}
 *   hv<object id>  head of the volume, and
 *   hf<object id>  manifest of the file: opaque bytes. Each kind has its own, so that a file keeps
 *                  its manifest until the volume that it becomes is whole
 */

import { StorageError } from '../core/errors.ts';
import type { Epoch, HostId, ObjectId } from '../core/units.ts';
import { epoch, hostId, objectId } from '../core/units.ts';
import type { ObjectKind } from '../ports/objects.ts';
import type { Registry, Write } from '../ports/registry.ts';
import { prefixRange } from '../ports/registry.ts';
import { encodeRecord, RecordReader } from './record.ts';

export interface ObjectRecord {
  readonly id: ObjectId;
  readonly kind: ObjectKind;
  readonly owner: HostId;
  /** 0: never opened. */
  readonly epoch: number;
  readonly revision: number;
}

export interface Claim {
  readonly kind: ObjectKind;
  readonly epoch: Epoch;
  /** The tenure before was this host's as well. */
  readonly resumed: boolean;
}

const objectKey = (id: ObjectId) => `o${id}`;
const headKey = (kind: ObjectKind, id: ObjectId) => `h${kind === 'volume' ? 'v' : 'f'}${id}`;

function decode(id: ObjectId, value: Uint8Array, revision: number): ObjectRecord {
  const fields = new RecordReader(`object ${id}`, value);
  const kind = fields.oneOf('kind', ['volume', 'file']);
  const owner = hostId(fields.text('owner'));
  return { id, kind, owner, epoch: fields.count('epoch'), revision };
}

/** Opaque bytes that an object's driver finds its data by. */
export interface Heads {
  loadHead(id: ObjectId): Promise<Uint8Array | undefined>;
  /** `fenced` once a later tenure has begun. */
  commitHead(id: ObjectId, tenure: Epoch, head: Uint8Array): Promise<void>;
}

export class ObjectRecords {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** Idempotent. */
  async create(id: ObjectId, kind: ObjectKind, owner: HostId): Promise<void> {
    const key = objectKey(id);
    const write = { key, put: encodeRecord({ kind, owner, epoch: 0 }) };
    await this.#registry.transact({ compares: [{ key, is: 'absent' }], writes: [write] });
  }

  async find(id: ObjectId): Promise<ObjectRecord | undefined> {
    const found = await this.#registry.get(objectKey(id));
    return found && decode(id, found.value, found.revision);
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
      decode(objectId(key.slice(1)), value, revision),
    );
  }

  /** Begins the next tenure. `not_owner` where another host owns it, `not_found`. */
  async claim(id: ObjectId, owner: HostId): Promise<Claim> {
    for (;;) {
      const record = await this.get(id);
      if (record.owner !== owner)
        throw new StorageError('not_owner', `object ${id} is owned by host ${record.owner}`);
      const next = epoch(record.epoch + 1);
      const { kind } = record;
      const write = { key: objectKey(id), put: encodeRecord({ kind, owner, epoch: next }) };
      if (await this.#replace(record, [write]))
        return { kind, epoch: next, resumed: record.epoch > 0 };
    }
  }

  /** The heads of one kind of object. */
  heads(kind: ObjectKind): Heads {
    return {
      loadHead: async (id) => (await this.#registry.get(headKey(kind, id)))?.value,
      commitHead: (id, tenure, head) =>
        this.#commit(id, tenure, () => [{ key: headKey(kind, id), put: head }]),
    };
  }

  /** A file has become a volume, whose head is committed already. */
  async promote(id: ObjectId, tenure: Epoch): Promise<void> {
    await this.#commit(id, tenure, ({ owner }) => [
      { key: objectKey(id), put: encodeRecord({ kind: 'volume', owner, epoch: tenure }) },
      { key: headKey('file', id), delete: true },
    ]);
  }

  /** Idempotent. */
  async delete(id: ObjectId): Promise<void> {
    const keys = [objectKey(id), headKey('volume', id), headKey('file', id)];
    const writes = keys.map((key) => ({ key, delete: true }) as const);
    await this.#registry.transact({ compares: [], writes });
  }

  async #commit(
    id: ObjectId,
    tenure: Epoch,
    writes: (record: ObjectRecord) => readonly Write[],
  ): Promise<void> {
    for (;;) {
      const record = await this.find(id);
      if (record?.epoch !== tenure)
        throw new StorageError('fenced', `epoch ${tenure} of object ${id} has ended`, {
          detail: { found: record?.epoch },
        });
      if (await this.#replace(record, writes(record))) return;
    }
  }

  /** False where the record changed meanwhile. */
  async #replace(record: ObjectRecord, writes: readonly Write[]): Promise<boolean> {
    const compare = { key: objectKey(record.id), is: 'at', revision: record.revision } as const;
    const outcome = await this.#registry.transact({ compares: [compare], writes });
    return outcome.committed;
  }
}
