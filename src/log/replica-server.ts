/**
 * The copies of other hosts' journals on this host's SSD. A copy has a name of its own and never
 * takes another one's place; which of them counts, the registry says. Only the process that began a
 * copy with its owner appends to it: after a restart, or once it is sealed, it is what it is.
 */

import { StorageError } from '../core/errors.ts';
import type { HostId, ObjectId } from '../core/units.ts';
import { objectId } from '../core/units.ts';
import type { RequestHead } from '../format/peer-message.ts';
import { decodeRequestHead, encodeAnswerHead, peerKind } from '../format/peer-message.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import type { Disk } from '../ports/disk.ts';
import type { Log } from '../ports/log.ts';
import type { PeerMessage } from '../ports/peers.ts';
import { copyName } from './replica-session.ts';
import { TailStore } from './tail-store.ts';

export interface ReplicaServerDeps {
  readonly disk: Disk;
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly log: Log;
  /** What has failed of the SSD. */
  readonly ssd: { readonly failure: string | undefined };
  /** Folder on the SSD in which each copy has a folder. */
  readonly folder: string;
}

export interface ReplicaServerSettings {
  /** Bytes of one file of a copy. */
  readonly fileBytes: number;
  /** No copy begins with less of the SSD free. */
  readonly freeBytesMin: number;
}

/** A copy on this disk. */
export interface KeptCopy {
  readonly id: ObjectId;
  readonly copy: string;
  /** Of the tenure that it is of. */
  readonly epoch: number;
  /** The owner that appends to it; undefined where nobody does. */
  readonly from: HostId | undefined;
  /** When it was last used or looked at, on the clock. */
  readonly seenMs: number;
}

interface Session {
  readonly from: HostId;
  readonly copy: string;
  readonly store: TailStore;
}

export class ReplicaServer {
  readonly #deps: ReplicaServerDeps;
  readonly #settings: ReplicaServerSettings;
  readonly #sessions = new Map<ObjectId, Session>();
  /** When each copy, by the name of its folder, was last used or looked at. */
  readonly #seen = new Map<string, number>();

  constructor(deps: ReplicaServerDeps, settings: ReplicaServerSettings) {
    this.#deps = deps;
    this.#settings = settings;
    deps.disk.makeFolder(deps.folder);
  }

  /** A message of an owner. `fenced` where the copy takes no more. */
  async handle(from: HostId, { kind, head: bytes, payload }: PeerMessage): Promise<PeerMessage> {
    const head = decodeRequestHead(bytes);
    const copy = copyName(head.epoch, head.generation);
    if (kind === peerKind.replicaBegin) this.#begin(from, head, copy);
    else await this.#use(this.#session(from, head.id, copy), kind, head, payload);
    this.#seen.set(folderName(head.id, copy), this.#deps.clock.monotonicMs());
    const answer = { sizeBytes: 0, allocatedBytes: 0, result: 0, epoch: 0, isVolume: true };
    return { kind, head: encodeAnswerHead(answer), payload: new Uint8Array(0) };
  }

  /** Nobody appends to the copy any more. */
  async seal(id: ObjectId, copy: string): Promise<void> {
    const session = this.#sessions.get(id);
    if (session?.copy !== copy) return;
    this.#sessions.delete(id);
    await session.store.close();
  }

  /** All copies on this disk. */
  copies(): KeptCopy[] {
    const { disk, folder } = this.#deps;
    return disk.list(folder).flatMap((name) => {
      const [, hex, copy] = /^([0-9a-f]{32})\.(\d+\.\d+)$/.exec(name) ?? [];
      if (hex === undefined || copy === undefined) return [];
      const id = objectId(hex);
      const session = this.#sessions.get(id);
      const from = session?.copy === copy ? session.from : undefined;
      const epoch = Number.parseInt(copy, 10);
      return { id, copy, epoch, from, seenMs: this.#seen.get(name) ?? Number.NEGATIVE_INFINITY };
    });
  }

  /** It was found to be needed. */
  noteSeen({ id, copy }: KeptCopy): void {
    this.#seen.set(folderName(id, copy), this.#deps.clock.monotonicMs());
  }

  /** The registry names another copy, or none. */
  async remove({ id, copy }: KeptCopy): Promise<void> {
    const { disk, folder } = this.#deps;
    await this.seal(id, copy);
    this.#seen.delete(folderName(id, copy));
    disk.removeFolder(`${folder}/${folderName(id, copy)}`);
  }

  async close(): Promise<void> {
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    await Promise.all(sessions.map(({ store }) => store.close()));
  }

  #begin(from: HostId, { id, epoch, generation }: RequestHead, copy: string): void {
    const { disk, checksum, folder, log, ssd } = this.#deps;
    if (ssd.failure !== undefined)
      throw new StorageError('failed', `the SSD of the replica has failed: ${ssd.failure}`);
    if (disk.space(folder).freeBytes < this.#settings.freeBytesMin)
      throw new StorageError('no_space', 'the SSD of the replica is full');
    for (const other of this.copies().filter((kept) => kept.id === id)) {
      const [otherEpoch, attempt] = other.copy.split('.').map(Number) as [number, number];
      if (otherEpoch > epoch || (otherEpoch === epoch && attempt >= generation))
        throw new StorageError('fenced', 'a later copy has begun here');
    }
    const before = this.#sessions.get(id);
    const { fileBytes } = this.#settings;
    const settings = { folder: `${folder}/${folderName(id, copy)}`, fileBytes };
    const store = TailStore.begin({ disk, checksum }, settings);
    this.#sessions.set(id, { from, copy, store });
    void before?.store.close();
    log.debug({ object: id, from, copy }, 'copy begins');
  }

  async #use(
    session: Session,
    kind: number,
    { id, epoch, offset }: RequestHead,
    records: Uint8Array,
  ): Promise<void> {
    const { store } = session;
    try {
      if (kind === peerKind.replicaAppend) {
        store.trim(offset);
        store.append(epoch, records);
      } else if (kind === peerKind.replicaSync) await store.sync();
      else if (kind === peerKind.replicaEnd) await this.seal(id, session.copy);
      else throw new StorageError('unsupported', `this version knows no message of kind ${kind}`);
    } catch (error) {
      // Its owner does not use it again; after a failed fdatasync nobody may.
      await this.seal(id, session.copy);
      throw error;
    }
  }

  #session(from: HostId, id: ObjectId, copy: string): Session {
    const session = this.#sessions.get(id);
    if (session?.copy !== copy || session.from !== from)
      throw new StorageError('fenced', 'this copy takes no more records');
    return session;
  }
}

/** Of a copy, in the folder of copies. */
export function folderName(id: ObjectId, copy: string): string {
  return `${id}.${copy}`;
}
