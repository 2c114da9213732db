/**
 * Moves an object between two hosts that both live. The host that wants it asks the owner, step by
 * step; the owner changes the registry. Before that transaction any failure leaves the owner as it
 * was, after it the new one; where its answer is lost both read the registry until they know.
 *
 *   step      the owner                                    a failure of either host here
 *   prepare   destages in rounds while it serves           nothing has changed
 *   park      holds requests, ends its tenure's work       the owner goes on by itself after a while
 *   tail      hands out what only its journal has          the same; what was fetched is garbage
 *   give      names the new owner in the registry          the registry says who it is
 *   (claim)   sends what was held to the new owner         the new owner has all, and recovers it
 */

import { describeError, isStorageError, StorageError } from '../../core/errors.ts';
import type { Eventually } from '../../core/eventually.ts';
import type { HostId, ObjectId } from '../../core/units.ts';
import { peerKind } from '../../format/peer-message.ts';
import type { RequestHead } from '../../format/peer-message.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { ObjectRecords } from '../../registry/object-records.ts';
import type { PeerLink } from '../peers/peer-link.ts';
import type { Moved } from '../peers/peer-service.ts';
import type { Backing, Here } from '../backing.ts';
import type { RoutedObject } from '../routed-object.ts';

/** The owner takes the object back when it hears nothing for so long. */
const parkedMsMax = 5000;

/** Who wants a move; in the length of `movePrepare`. */
const asked = { byThreshold: 0, byAdministrator: 1 } as const;

/** What the router needs of the Volume Driver to move a volume; files have no tail. */
export interface Tails {
  /** Brings most of the volume to the backend while it serves; `busy` where that can't be done. */
  shorten(id: ObjectId): Promise<void>;
  read(id: ObjectId, epoch: number): Promise<Tail>;
  import(
    id: ObjectId,
    epoch: number,
    fetch: (afterSequence: number) => Promise<Uint8Array>,
  ): Promise<void>;
  discard(id: ObjectId): Promise<void>;
}

export interface Tail {
  read(afterSequence: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

export interface HandoverDeps {
  readonly records: ObjectRecords;
  readonly tails: Tails;
  readonly clock: Clock;
  readonly log: Log;
  /** The object where this host drives it. */
  readonly driven: (id: ObjectId) => Eventually<RoutedObject>;
  /** Whether local users have used it since it was last asked. */
  readonly isUsedHere: (id: ObjectId) => boolean;
  readonly connect: (id: ObjectId) => Promise<Backing>;
}

interface Parked {
  readonly to: HostId;
  readonly epoch: number;
  readonly tail: Tail | undefined;
  readonly decide: (what: 'give' | 'cancel') => void;
  /** Settles when the decision is carried out. */
  readonly done: Promise<void>;
}

export class Handover {
  readonly #deps: HandoverDeps;
  readonly #parked = new Map<ObjectId, Parked>();

  constructor(deps: HandoverDeps) {
    this.#deps = deps;
  }

  /** Fetches the object from its owner. Rejects where that one refuses. */
  async fetch(
    object: RoutedObject,
    link: PeerLink,
    by: 'threshold' | 'administrator',
  ): Promise<void> {
    const { id } = object;
    const { log, connect } = this.#deps;
    const length = by === 'administrator' ? asked.byAdministrator : asked.byThreshold;
    this.#tell(id, 'prepare');
    await link.ask(id, { kind: peerKind.movePrepare, length });
    await object.change(async (backing) => {
      if (backing.where === 'here') return backing;
      try {
        await this.#fetchParked(id, link);
      } catch (error) {
        log.warn({ object: id, error: describeError(error) }, 'object could not be fetched');
        await link.ask(id, { kind: peerKind.moveCancel }).catch(() => {});
      }
      this.#tell(id, 'claim');
      return connect(id);
    });
  }

  async #fetchParked(id: ObjectId, link: PeerLink): Promise<void> {
    this.#tell(id, 'park');
    const { head } = await link.ask(id, { kind: peerKind.movePark });
    const epoch = head.result;
    const isVolume = epoch > 0;
    this.#tell(id, 'tail');
    if (isVolume)
      await this.#deps.tails.import(id, epoch, async (offset) => {
        const { payload } = await link.ask(id, { kind: peerKind.tailRead, offset });
        return payload;
      });
    this.#tell(id, 'give');
    await link.ask(id, { kind: peerKind.moveGive });
  }

  /** A step begins. */
  #tell(id: ObjectId, step: 'prepare' | 'park' | 'tail' | 'give' | 'claim'): void {
    this.#deps.log.debug({ object: id, step }, 'object is being fetched');
  }

  /** A step that another host asks for. */
  async serve(from: HostId, kind: number, { id, offset, length }: RequestHead): Promise<Moved> {
    switch (kind) {
      case peerKind.movePrepare:
        await this.#prepare(id, length === asked.byAdministrator);
        return { result: 0 };
      case peerKind.movePark:
        return { result: await this.#park(id, from) };
      case peerKind.tailRead: {
        const { tail } = this.#parkedFor(id, from);
        return { result: 0, payload: await (tail as Tail).read(offset) };
      }
      case peerKind.moveGive: {
        const { decide, done } = this.#parkedFor(id, from);
        decide('give');
        await done;
        return { result: 0 };
      }
      case peerKind.moveCancel:
        this.#parked.get(id)?.decide('cancel');
        return { result: 0 };
      default:
        throw new StorageError('unsupported', `this version knows no message of kind ${kind}`);
    }
  }

  async #prepare(id: ObjectId, isOrdered: boolean): Promise<void> {
    const { records, tails, driven, isUsedHere } = this.#deps;
    const object = await driven(id);
    if ((await records.get(id)).isPinned) throw new StorageError('not_permitted', 'it is pinned');
    if (!isOrdered && isUsedHere(id)) throw new StorageError('busy', 'its owner uses it');
    if (object.kind() !== 'volume') return;
    try {
      await tails.shorten(id);
    } catch (error) {
      const isLetGo = isStorageError(error, 'closed') || isStorageError(error, 'fenced');
      if (!isLetGo) throw error;
      throw new StorageError('busy', 'it is changing hands already', { cause: error });
    }
  }

  /** Gives the epoch whose journal has the tail; 0 for a file. */
  async #park(id: ObjectId, to: HostId): Promise<number> {
    const object = await this.#deps.driven(id);
    const parked = Promise.withResolvers<Parked>();
    object
      .change((backing) => this.#hold(id, to, backing, parked.resolve))
      .catch((error: unknown) => parked.reject(error as Error));
    const { epoch } = await parked.promise;
    return epoch;
  }

  async #hold(
    id: ObjectId,
    to: HostId,
    backing: Backing,
    onParked: (parked: Parked) => void,
  ): Promise<Backing> {
    const { clock, connect } = this.#deps;
    if (backing.where === 'there') throw new StorageError('not_owner', 'it has moved already');
    const decision = Promise.withResolvers<'give' | 'cancel'>();
    const finished = Promise.withResolvers<void>();
    finished.promise.catch(() => {});
    const tail = await this.#letGo(backing);
    const parked = {
      ...{ to, tail, decide: decision.resolve, done: finished.promise },
      epoch: tail ? backing.tenure.epoch : 0,
    };
    this.#parked.set(id, parked);
    onParked(parked);
    const waiting = new AbortController();
    const late = clock.sleep(parkedMsMax, { signal: waiting.signal }).then(
      () => 'cancel' as const,
      () => 'cancel' as const,
    );
    try {
      const what = await Promise.race([decision.promise, late]);
      if (what === 'cancel') throw new StorageError('busy', 'the move was given up');
      await this.#give(backing, to);
      finished.resolve();
    } catch (error) {
      finished.reject(error as Error);
    } finally {
      waiting.abort();
      this.#parked.delete(id);
      await tail?.close();
      backing.tenure.end(new StorageError('fenced', 'the object has changed hands'));
    }
    return connect(id);
  }

  /** Ends the work of the tenure; what its journal has stays on the SSD. */
  async #letGo({ object, kind, tenure }: Here): Promise<Tail | undefined> {
    if (kind === 'file') {
      await object.close();
      return undefined;
    }
    await object.abandon();
    return this.#deps.tails.read(object.id, tenure.epoch);
  }

  async #give({ object, kind, tenure }: Here, to: HostId): Promise<void> {
    const { records, tails, log } = this.#deps;
    await records.give(object.id, tenure.epoch, to);
    log.info({ object: object.id, to, epoch: tenure.epoch }, 'object is handed over');
    if (kind === 'volume') await tails.discard(object.id);
  }

  #parkedFor(id: ObjectId, to: HostId): Parked {
    const parked = this.#parked.get(id);
    if (parked?.to !== to) throw new StorageError('busy', 'the move was given up');
    return parked;
  }
}
