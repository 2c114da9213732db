/**
 * Moves an object between two hosts that both live. The host that wants it asks the owner, step by
 * step; the owner changes the registry. Before that transaction any failure leaves the owner as it
 * was, after it the new one; where its answer is lost both read the registry until they know.
 *
 *   step      the owner                                    a failure of either host here
 *   prepare   destages in rounds while it serves           nothing has changed
 *   copy      hands out its journal while it serves        the same; what was fetched is garbage
 *   park      holds requests, ends its tenure's work       the owner goes on by itself after a while
 *   tail      hands out what has come since                the same
 *   give      names the new owner in the registry          the registry says who it is
 *   (claim)   sends what was held to the new owner         the new owner has all, and recovers it
 *
 * The transaction that names the new owner begins its tenure as well, and the answer tells of it.
 */

import type { ErrorCode } from '../../core/errors.ts';
import { describeError, isStorageError, StorageError } from '../../core/errors.ts';
import type { Eventually } from '../../core/eventually.ts';
import type { HostId, ObjectId } from '../../core/units.ts';
import { KiB } from '../../core/units.ts';
import { peerKind } from '../../format/peer-message.ts';
import type { RequestHead } from '../../format/peer-message.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { ObjectRecord, ObjectRecords, ObjectState } from '../../registry/object-records.ts';
import { decodeObject, encodeObject } from '../../registry/object-records.ts';
import type { HostLease } from '../members/host-lease.ts';
import type { PeerLink } from '../peers/peer-link.ts';
import type { Moved } from '../peers/peer-service.ts';
import type { Backing, Here } from '../backing.ts';
import type { RoutedObject } from '../routed-object.ts';

/** The owner takes the object back when it hears nothing for so long. */
const parkedMsMax = 5000;

/** So much of a journal is sent at once while the object is held: that is hardly felt. */
const hardlyFeltBytes = 128 * KiB;
/** Fetched while its writers go on, who may be faster. */
const copyChunksMax = 64;

/** What a volume says that was let go meanwhile. */
const letGo: ReadonlySet<ErrorCode> = new Set(['closed', 'fenced', 'unavailable']);

/** Who wants a move; in the length of `movePrepare`. */
const asked = { byThreshold: 0, byAdministrator: 1 } as const;

/** What the router needs of the Volume Driver to move a volume; files have no tail. */
export interface Tails {
  /** Brings most of the volume to the backend while it serves; `busy` where that can't be done. */
  shorten(id: ObjectId): Promise<void>;
  /** What the journal of an open volume has, also when the volume is let go. */
  follow(id: ObjectId): Tail;
  /** Takes what the journal of that tenure has. */
  receive(id: ObjectId, epoch: number): Promise<IncomingTail>;
  discard(id: ObjectId): Promise<void>;
}

interface Tail {
  /** What comes behind; no record behind `committed` is missing before it. */
  read(
    afterSequence: number,
  ): Promise<{ readonly records: Uint8Array; readonly committed: number }>;
}

interface IncomingTail {
  readonly epoch: number;
  readonly lastSequence: number;
  append(records: Uint8Array, committed: number): void;
  /** Resolves when all that was appended before is durable. */
  sync(): Promise<void>;
  /** It is whole. */
  keep(): Promise<void>;
  /** It is of no use, unless it was kept. */
  drop(): Promise<void>;
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
  /** The lease under which a tenure may begin now. */
  readonly lease: () => Promise<HostLease>;
  /** Opens what was given to this host. */
  readonly accept: (given: ObjectRecord, lease: HostLease) => Promise<Backing>;
}

/** The journal of a tenure, for the host that wants the object. */
interface Followed {
  readonly to: HostId;
  readonly tail: Tail | undefined;
  readonly tenure: Here['tenure'];
  /** As it was when the host began to ask. */
  readonly record?: ObjectRecord | undefined;
}

/** `session`: by which the new owner is a member. */
type Decision = { readonly session: number } | 'cancel';

interface Parked extends Followed {
  readonly decide: (what: Decision) => void;
  /** Settles when the decision is carried out: with the record of the object that was given. */
  readonly done: Promise<ObjectState>;
}

export class Handover {
  readonly #deps: HandoverDeps;
  readonly #followed = new Map<ObjectId, Followed>();
  readonly #parked = new Map<ObjectId, Parked>();
  /** One after another, of each object. */
  readonly #fetching = new Map<ObjectId, Promise<void>>();

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
    while (this.#fetching.has(id)) await this.#fetching.get(id);
    if (object.isHere()) return;
    const fetching = this.#fetch(object, link, by);
    const settled = fetching
      .catch(() => {})
      .then(() => {
        this.#fetching.delete(id);
      });
    this.#fetching.set(id, settled);
    return fetching;
  }

  async #fetch(
    object: RoutedObject,
    link: PeerLink,
    by: 'threshold' | 'administrator',
  ): Promise<void> {
    const { id } = object;
    const { log, connect, accept, tails } = this.#deps;
    const length = by === 'administrator' ? asked.byAdministrator : asked.byThreshold;
    this.#tell(id, 'prepare');
    const { head } = await link.ask(id, { kind: peerKind.movePrepare, length });
    this.#tell(id, 'copy');
    const ahead = head.result > 0 ? await tails.receive(id, head.result) : undefined;
    try {
      if (ahead) await pull(id, link, ahead, 'most');
      await object.change(async (backing) => {
        if (backing.where === 'here') return backing;
        const lease = await this.#deps.lease();
        let given: ObjectRecord | undefined;
        try {
          given = await this.#fetchParked(id, link, ahead);
        } catch (error) {
          log.warn({ object: id, error: describeError(error) }, 'object could not be fetched');
          await link.ask(id, { kind: peerKind.moveCancel }).catch(() => {});
        }
        this.#tell(id, 'claim');
        return given ? accept(given, lease) : connect(id);
      });
    } finally {
      await ahead?.drop();
    }
  }

  /** Gives the record of what is this host's now; undefined where the owner does not tell. */
  async #fetchParked(
    id: ObjectId,
    link: PeerLink,
    ahead: IncomingTail | undefined,
  ): Promise<ObjectRecord | undefined> {
    this.#tell(id, 'park');
    const { head } = await link.ask(id, { kind: peerKind.movePark });
    this.#tell(id, 'tail');
    await this.#fetchTail(id, link, head.result, ahead);
    this.#tell(id, 'give');
    const { payload } = await link.ask(id, { kind: peerKind.moveGive });
    // The version before tells nothing.
    return payload.length > 0 ? decodeObject(id, payload, 0) : undefined;
  }

  /** `epoch`: 0 for a file, which has none. */
  async #fetchTail(
    id: ObjectId,
    link: PeerLink,
    epoch: number,
    ahead: IncomingTail | undefined,
  ): Promise<void> {
    if (epoch === 0) return;
    let tail = ahead;
    if (tail?.epoch !== epoch) {
      await tail?.drop();
      tail = await this.#deps.tails.receive(id, epoch);
    }
    try {
      await pull(id, link, tail, 'all');
      await tail.keep();
    } finally {
      await tail.drop();
    }
  }

  /** A step begins. */
  #tell(id: ObjectId, step: 'prepare' | 'copy' | 'park' | 'tail' | 'give' | 'claim'): void {
    this.#deps.log.debug({ object: id, step }, 'object is being fetched');
  }

  /** A step that another host asks for. */
  async serve(from: HostId, kind: number, head: RequestHead): Promise<Moved> {
    const { id, offset, length } = head;
    switch (kind) {
      case peerKind.movePrepare:
        return { result: await this.#prepare(id, from, length === asked.byAdministrator) };
      case peerKind.movePark:
        return { result: await this.#park(id, from) };
      case peerKind.tailRead: {
        const { tail } = this.#givenUpUnless(from, this.#parked.get(id) ?? this.#followed.get(id));
        const { records, committed } = await (tail as Tail).read(offset);
        return { result: committed, payload: records };
      }
      case peerKind.moveGive: {
        const { decide, done } = this.#givenUpUnless(from, this.#parked.get(id));
        decide({ session: head.session });
        return { result: 0, payload: encodeObject(await done) };
      }
      case peerKind.moveCancel:
        this.#parked.get(id)?.decide('cancel');
        return { result: 0 };
      default:
        throw new StorageError('unsupported', `this version knows no message of kind ${kind}`);
    }
  }

  /** Gives the epoch of a volume's journal, which may be read from now on; 0 for a file. */
  async #prepare(id: ObjectId, to: HostId, isOrdered: boolean): Promise<number> {
    const { records, tails, driven, isUsedHere } = this.#deps;
    const object = await driven(id);
    const record = await records.get(id);
    if (record.isPinned) throw new StorageError('not_permitted', 'it is pinned');
    if (!isOrdered && isUsedHere(id)) throw new StorageError('busy', 'its owner uses it');
    if (object.kind() !== 'volume') return 0;
    try {
      await tails.shorten(id);
      const { backing } = object;
      if (backing.where === 'here' && !object.isHeld) {
        this.#follow(backing, to, record);
        return backing.tenure.epoch;
      }
    } catch (error) {
      if (!isStorageError(error) || !letGo.has(error.code)) throw error;
    }
    throw new StorageError('busy', 'it is changing hands already');
  }

  #follow({ object: { id }, tenure }: Here, to: HostId, record?: ObjectRecord): Followed {
    const followed = { to, tenure, tail: this.#deps.tails.follow(id), record };
    this.#followed.set(id, followed);
    const forget = () => {
      if (this.#followed.get(id) === followed) this.#followed.delete(id);
    };
    tenure.signal.addEventListener('abort', forget, { once: true });
    return followed;
  }

  /** Gives the epoch whose journal has the tail; 0 for a file. */
  async #park(id: ObjectId, to: HostId): Promise<number> {
    const object = await this.#deps.driven(id);
    const parked = Promise.withResolvers<Parked>();
    object
      .change((backing) => this.#hold(id, to, backing, parked.resolve))
      .catch((error: unknown) => parked.reject(error as Error));
    const { tail, tenure } = await parked.promise;
    return tail ? tenure.epoch : 0;
  }

  async #hold(
    id: ObjectId,
    to: HostId,
    backing: Backing,
    onParked: (parked: Parked) => void,
  ): Promise<Backing> {
    const { clock, connect } = this.#deps;
    if (backing.where === 'there') throw new StorageError('not_owner', 'it has moved already');
    const decision = Promise.withResolvers<Decision>();
    const finished = Promise.withResolvers<ObjectState>();
    finished.promise.catch(() => {});
    const { tenure } = backing;
    const tail = await this.#letGo(backing, to);
    const parked = { to, tail, tenure, decide: decision.resolve, done: finished.promise };
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
      finished.resolve(await this.#give(backing, to, what.session));
    } catch (error) {
      finished.reject(error as Error);
    } finally {
      waiting.abort();
      this.#parked.delete(id);
      tenure.end(new StorageError('fenced', 'the object has changed hands'));
    }
    return connect(id);
  }

  /** Ends the work of the tenure; what its journal has stays on the SSD. */
  async #letGo(backing: Here, to: HostId): Promise<Tail | undefined> {
    const { object, kind, tenure } = backing;
    if (kind === 'file') {
      await object.close();
      return undefined;
    }
    const known = this.#followed.get(object.id);
    const isSame = known?.to === to && known.tenure === tenure;
    const { tail } = isSame ? known : this.#follow(backing, to);
    await object.abandon();
    return tail;
  }

  async #give(
    { object: { id }, kind, tenure: { epoch } }: Here,
    to: HostId,
    session: number,
  ): Promise<ObjectState> {
    const { records, tails, log } = this.#deps;
    const { record: known } = this.#followed.get(id) ?? {};
    const given = await records.give(id, epoch, { to, session, known });
    log.info({ object: id, to, epoch }, 'object is handed over');
    if (kind === 'volume') await tails.discard(id);
    return given;
  }

  #givenUpUnless<T extends Followed>(to: HostId, found: T | undefined): T {
    if (found?.to !== to) throw new StorageError('busy', 'the move was given up');
    return found;
  }
}

/**
 * Fetches records behind those that are there. What has come is made durable beside the question for
 * more: with the answer that there is none, all is.
 */
async function pull(
  id: ObjectId,
  link: PeerLink,
  tail: IncomingTail,
  what: 'most' | 'all',
): Promise<void> {
  // One may be short because the next file of the journal begins.
  let shortChunks = 0;
  for (let chunk = 0; what === 'all' || chunk < copyChunksMax; chunk += 1) {
    const asking = link.ask(id, { kind: peerKind.tailRead, offset: tail.lastSequence });
    const [{ head, payload }] = await Promise.all([asking, tail.sync()]);
    if (payload.length === 0) return;
    tail.append(payload, head.result);
    if (payload.length <= hardlyFeltBytes) shortChunks += 1;
    if (what === 'most' && shortChunks === 2) return;
  }
}
