/**
 * What no transaction may do to the records of objects and to heads, whoever makes it: the first two of the
 * things that always hold, looked at where they are decided.
 */

import type { ObjectId } from '../../src/core/units.ts';
import { decodeRequestHead, peerKind } from '../../src/format/peer-message.ts';
import { decodeHead } from '../../src/format/head.ts';
import type { Checksum } from '../../src/ports/checksum.ts';
import type { PeerHandler } from '../../src/ports/peers.ts';
import type { Transaction } from '../../src/ports/registry.ts';
import { copyName } from '../../src/log/replica-session.ts';
import type { MemoryStore } from '../../src/registry/memory-store.ts';
import type { ObjectRecord } from '../../src/registry/object-records.ts';
import { decodeObject } from '../../src/registry/object-records.ts';
import { Violation } from './history.ts';

const ofOwners: readonly number[] = [
  ...[peerKind.read, peerKind.write, peerKind.trim, peerKind.flush, peerKind.append],
];

export class RecordRules {
  readonly #store: MemoryStore;
  readonly #checksum: Checksum;
  /** Copies that their hosts have made their own journals. */
  readonly #taken = new Set<string>();

  constructor(store: MemoryStore, checksum: Checksum) {
    this.#store = store;
    this.#checksum = checksum;
  }

  /** To be called before the transaction happens; what it gives, once it has been committed. */
  transaction(host: string, { writes }: Transaction): () => void {
    const store = this.#store;
    const taken: string[] = [];
    const checks = writes.map((write) => {
      if (!('put' in write)) return undefined;
      const { key, put } = write;
      const old = this.#recordOf(key.slice(key.startsWith('hv') ? 2 : 1) as ObjectId);
      if (!old) return undefined;
      if (key.startsWith('hv')) return checkHead(old, put, store.get(key)?.value, this.#checksum);
      if (!key.startsWith('o')) return undefined;
      const next = decodeObject(old.id, put, 0);
      const isClaimed = old.owner === host && next.owner === host && next.epoch > old.epoch;
      if (isClaimed && typeof old.tail === 'object' && old.tail.host === host)
        taken.push(`${old.id} ${old.tail.copy}`);
      return checkRecord(host, old, next, (other) => !!store.get(`H${other}`));
    });
    const wrong = checks.find((check) => check !== undefined);
    return () => {
      for (const copy of taken) this.#taken.add(copy);
      if (wrong !== undefined) throw new Violation(`host ${host} ${wrong}`);
    };
  }

  /** Whoever answers another host is the owner at that very moment; copies that were taken take no more. */
  answering(host: string, handler: PeerHandler, violated: (error: unknown) => void): PeerHandler {
    return async (from, message) => {
      const { kind } = message;
      const isRecords = kind === peerKind.replicaAppend;
      if (!isRecords && !ofOwners.includes(kind)) return handler(from, message);
      const { id, epoch, generation } = decodeRequestHead(message.head);
      const isTaken = isRecords && this.#taken.has(`${id} ${copyName(epoch, generation)}`);
      const answer = await handler(from, message);
      if (isTaken)
        violated(new Violation(`host ${host} takes records of ${from} into its journal of ${id}`));
      const owner = this.#recordOf(id)?.owner ?? host;
      if (!isRecords && owner !== host)
        violated(new Violation(`host ${host} answers ${from} for ${id}, which ${owner} owns`));
      return answer;
    };
  }

  #recordOf(id: ObjectId): ObjectRecord | undefined {
    const found = this.#store.get(`o${id}`);
    return found && decodeObject(id, found.value, found.revision);
  }
}

function checkHead(
  { id, epoch: now }: ObjectRecord,
  next: Uint8Array,
  before: Uint8Array | undefined,
  checksum: Checksum,
): string | undefined {
  const { epoch, journalSequence } = decodeHead(next, checksum);
  if (epoch !== now) return `commits a head of epoch ${epoch} of ${id}, which has ${now}`;
  const reached = before ? decodeHead(before, checksum).journalSequence : 0;
  if (journalSequence >= reached) return undefined;
  return `brings the head of ${id} from record ${reached} back to ${journalSequence}`;
}

function checkRecord(
  host: string,
  old: ObjectRecord,
  next: ObjectRecord,
  isHere: (host: string) => boolean,
): string | undefined {
  const { id, owner, epoch, tail, kind } = old;
  if (next.epoch < epoch) return `brings ${id} from epoch ${epoch} back to ${next.epoch}`;
  if (next.owner === owner) return undefined;
  if (next.epoch === epoch) return `changes the owner of ${id} within a tenure`;
  if (host === owner) return undefined;
  if (isHere(owner)) return `takes ${id} from ${owner}, which is a member of the vPool`;
  const isTakeable =
    kind === 'file' || tail === 'backend' || (typeof tail === 'object' && tail.host === next.owner);
  return isTakeable ? undefined : `takes ${id}, whose last changes it has not`;
}
