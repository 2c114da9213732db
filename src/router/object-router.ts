/**
 * The Object Router, under all front ends:
 *
 *   1. Is the object this host's, and its lease fresh? Then it drives it.
 *   2. Otherwise it forwards to the owner; and where it forwards much, it asks for the object.
 *
 * Objects are shared by all who have them open, and stay open for a while after.
 */

import { describeError, isStorageError, StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { HostId, ObjectId } from '../core/units.ts';
import { within } from '../core/within.ts';
import { peerKind } from '../format/peer-message.ts';
import type { RequestHead } from '../format/peer-message.ts';
import type { ReplicaServer } from '../log/replica-server.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { ObjectDriver } from '../ports/object-driver.ts';
import type { ObjectHandle, ObjectKind, Objects } from '../ports/objects.ts';
import type { PeerMessage, Peers } from '../ports/peers.ts';
import type { HostRecord, HostRecords } from '../registry/host-records.ts';
import type { ObjectRecord, ObjectRecords } from '../registry/object-records.ts';
import type { Tails } from './moves/handover.ts';
import { Handover } from './moves/handover.ts';
import type { HandoverSettings } from './moves/handover-threshold.ts';
import { ForwardCounter } from './moves/handover-threshold.ts';
import type { Membership } from './members/membership.ts';
import type { SsdHealth } from './ownership.ts';
import { Ownership } from './ownership.ts';
import { PeerLinks } from './peers/peer-link.ts';
import type { Moved } from './peers/peer-service.ts';
import { PeerService } from './peers/peer-service.ts';
import { promoteFile } from './promotion.ts';
import { letGo } from './backing.ts';
import { RoutedObject } from './routed-object.ts';

/** How long the last flush of an object may take when the router is closed. */
const closeMsMax = 10_000;
/** How long a volume that is closed is brought to the backend. */
const leaveMsMax = 5000;
const deletePauseMs = 1000;
/** A host that does not say in time whether it uses an object is taken to use it. */
const inUseMsMax = 1000;
const fetchAttemptsMax = 20;
const fetchPauseMs = 100;

export interface RouterDeps {
  readonly host: HostId;
  readonly membership: Pick<Membership, 'current' | 'session'>;
  readonly records: ObjectRecords;
  readonly hosts: HostRecords;
  readonly peers: Peers;
  readonly volumes: ObjectDriver;
  readonly files: ObjectDriver;
  readonly tails: Tails;
  readonly replicas: Pick<ReplicaServer, 'seal'>;
  /** Whether this host's front ends read a snapshot under that id. */
  readonly isRead: (id: ObjectId) => boolean;
  /** Whether its journal on this SSD was written before the machine was started. */
  readonly mayBeTorn: (id: ObjectId) => boolean;
  readonly ssd: SsdHealth;
  /** An object begins here with the copy of an owner that is gone. */
  readonly noteTakenOver: (id: ObjectId, sizeBytes: number) => void;
  readonly clock: Clock;
  readonly log: Log;
}

export interface RouterSettings {
  /** Objects that nobody uses and that stay open all the same. */
  readonly idleObjectsMax: number;
  readonly handover: HandoverSettings;
}

interface Entry {
  readonly object: RoutedObject;
  readonly forwarded: ForwardCounter;
  uses: number;
  /** Requests of this host's front ends when another one last asked for the object. */
  requestsWhenAsked: number;
}

export class ObjectRouter implements Objects {
  /** Whether objects that are used here much are fetched. */
  attracts = true;
  readonly #deps: RouterDeps;
  readonly #settings: RouterSettings;
  readonly #ownership: Ownership;
  readonly #handover: Handover;
  readonly #service: PeerService;
  readonly #links: PeerLinks;
  readonly #entries = new Map<ObjectId, Entry>();
  /** How many wait until an object is open, which may take as long as its owner is away. */
  readonly #opening = new Map<ObjectId, number>();
  /** Whatever opens, closes or deletes an object waits for what was asked of it before. */
  readonly #last = new Map<ObjectId, Promise<unknown>>();
  /** Objects that nobody uses, the longest unused first. */
  readonly #idle = new Set<ObjectId>();
  readonly #closing = new AbortController();
  readonly #tasks: TaskGroup;

  constructor(deps: RouterDeps, settings: RouterSettings) {
    const { host, membership, records, hosts, clock, log, tails, replicas } = deps;
    this.#deps = deps;
    this.#settings = settings;
    this.#links = new PeerLinks(deps.peers, () => membership.session);
    const linkTo = (owner: HostRecord) => this.#links.to(owner);
    const { signal } = this.#closing;
    const drivers = { volume: deps.volumes, file: deps.files };
    this.#ownership = new Ownership({
      ...{ host, membership, records, hosts, drivers, linkTo, replicas, clock, log, signal },
      mayBeTorn: deps.mayBeTorn,
      ssd: deps.ssd,
      noteTakenOver: deps.noteTakenOver,
    });
    this.#handover = new Handover({
      ...{ records, tails, clock, log },
      driven: (id) => this.driven(id),
      isUsedHere: (id) => this.#isUsedHere(id),
      connect: (id) => this.#ownership.connect(id),
      lease: () => membership.current(),
      accept: (given, lease) => this.#ownership.accept(given, lease),
    });
    this.#service = new PeerService({
      driven: (id) => this.driven(id),
      move: (from, kind, head) => this.#move(from, kind, head),
    });
    this.#tasks = new TaskGroup((error) => {
      const isRefusal = isStorageError(error, 'busy') || isStorageError(error, 'not_permitted');
      const facts = { error: describeError(error) };
      if (isRefusal) log.debug(facts, 'object stays where it is');
      else log.warn(facts, 'object was not moved');
    });
  }

  /** A message of another host's router. */
  handle(from: HostId, message: PeerMessage): Eventually<PeerMessage> {
    return this.#service.handle(from, message);
  }

  async create(id: ObjectId, kind: ObjectKind): Promise<void> {
    await this.#inTurn(id, () => this.#deps.records.create(id, kind, this.#deps.host));
  }

  async open(id: ObjectId): Promise<RoutedObject> {
    this.#noteOpening(id, 1);
    try {
      return await this.#inTurn(id, async () => {
        const entry = await this.#entryOf(id);
        entry.uses += 1;
        this.#idle.delete(id);
        return entry.object;
      });
    } finally {
      this.#noteOpening(id, -1);
    }
  }

  release(id: ObjectId): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    entry.uses -= 1;
    if (entry.uses === 0) this.#noteIdle(id);
  }

  opened(id: ObjectId): ObjectHandle | undefined {
    return this.#entries.get(id)?.object;
  }

  async isUsedElsewhere(id: ObjectId): Promise<boolean> {
    const { hosts, host, clock } = this.#deps;
    const others = (await hosts.list()).filter((other) => other.id !== host);
    const answers = others.map(async (other) => {
      let isUsed = true;
      const asking = this.#links.to(other).ask(id, { kind: peerKind.inUse });
      const answer = asking.then(
        ({ head }) => (isUsed = head.result !== 0),
        () => {},
      );
      await within(clock, inUseMsMax, answer);
      return isUsed;
    });
    return (await Promise.all(answers)).includes(true);
  }

  /** Waits for users on other hosts. */
  async delete(id: ObjectId): Promise<void> {
    const { records, hosts, host, clock } = this.#deps;
    for (;;) {
      const record = await records.find(id);
      if (!record) return;
      const owner = record.owner === host ? undefined : await hosts.find(record.owner);
      if (!owner) return this.#deleteHere(id);
      try {
        await this.#links.to(owner).ask(id, { kind: peerKind.delete });
      } catch (error) {
        if (!isStorageError(error)) throw error;
        await clock.sleep(deletePauseMs, { signal: this.#closing.signal });
      }
    }
  }

  /** Fetches the object to this host, whoever uses it. */
  async fetch(id: ObjectId): Promise<void> {
    const object = await this.open(id);
    try {
      for (let attempt = 1; ; attempt += 1)
        try {
          return await this.#fetchOpen(object, 'administrator');
        } catch (error) {
          // It may be changing hands already.
          if (!isStorageError(error, 'busy') || attempt === fetchAttemptsMax) throw error;
          await this.#deps.clock.sleep(fetchPauseMs, { signal: this.#closing.signal });
        }
    } finally {
      this.release(id);
    }
  }

  /** Moves the object to `to`, wherever it is. */
  async moveTo(id: ObjectId, to: HostId): Promise<void> {
    if (to === this.#deps.host) return this.fetch(id);
    const destination = await this.#deps.hosts.find(to);
    if (!destination) throw new StorageError('not_found', `no host ${to} is up`);
    await this.#links.to(destination).ask(id, { kind: peerKind.moveFetch });
  }

  /** Objects that are open here: driven, or forwarded to `owner`; or on the way between hosts. */
  *openObjects(): Iterable<{ id: ObjectId; owner: HostId; isMoving: boolean }> {
    for (const [id, { object }] of this.#entries) {
      const { backing, isHeld: isMoving } = object;
      yield { id, owner: backing.where === 'here' ? this.#deps.host : backing.owner, isMoving };
    }
  }

  /** Why objects wait for their owners. */
  get waiting(): ReadonlyMap<ObjectId, string> {
    return this.#ownership.waiting;
  }

  /** Names another owner of what nobody has open here; false where it is open, or the record has changed. */
  passOn(record: ObjectRecord, to: HostId): Promise<boolean> {
    const { id } = record;
    // Whoever opens it at this moment has its next tenure already.
    return this.#inTurn(
      id,
      async () => !this.#entries.has(id) && this.#deps.records.passOn(record, to),
    );
  }

  /** Closes everything, flushed; what can't be flushed in time is let go, and told. */
  async close(): Promise<void> {
    this.#closing.abort(new StorageError('closed', 'the router is closed'));
    const results = await Promise.allSettled(
      [...this.#entries].map(([id, entry]) => this.#closeEntry(id, entry)),
    );
    await this.#tasks.drained();
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  async #entryOf(id: ObjectId): Promise<Entry> {
    const known = this.#entries.get(id);
    if (known) return known;
    // What began now would be closed by nobody, and its changes would stay on this SSD.
    this.#closing.signal.throwIfAborted();
    const backing = await this.#ownership.connect(id);
    if (this.#closing.signal.aborted) {
      await letGo(backing);
      throw this.#closing.signal.reason;
    }
    const { clock, records, volumes, files, log } = this.#deps;
    const object: RoutedObject = new RoutedObject(id, backing, {
      host: this.#deps.host,
      log,
      resolve: async (stale) => {
        await letGo(stale);
        return this.#ownership.connect(id);
      },
      promote: (file) => promoteFile({ records, volumes, files, log }, file),
      noteForwarded: (what, { threshold }) => {
        const now = clock.monotonicMs();
        const isWanted = this.attracts && this.#deps.ssd.failure() === undefined;
        if (!isWanted || !entry.forwarded.note(what, now, threshold)) return;
        entry.forwarded.pause(now);
        this.#tasks.run(() => this.#fetchOpen(object, 'threshold'));
      },
    });
    const forwarded = new ForwardCounter(this.#settings.handover);
    const entry = { object, forwarded, uses: 0, requestsWhenAsked: -1 };
    this.#entries.set(id, entry);
    return entry;
  }

  async #fetchOpen(object: RoutedObject, by: 'threshold' | 'administrator'): Promise<void> {
    const { backing } = object;
    if (backing.where === 'here') return;
    if (object.kind() === 'volume') this.#assertMayOwn();
    const owner = await this.#deps.hosts.find(backing.owner);
    if (!owner) throw new StorageError('busy', `host ${backing.owner}, which owns it, is gone`);
    await this.#handover.fetch(object, this.#links.to(owner), by);
  }

  /** The object, opened, where this host is its owner; `not_owner`, `not_found`. */
  driven(id: ObjectId): Eventually<RoutedObject> {
    const object = this.#entries.get(id)?.object;
    return object && (object.isHere() || object.isHeld) ? object : this.#openDriven(id);
  }

  /** Another host may know sooner than this one that the object is this one's by now. */
  async #openDriven(id: ObjectId): Promise<RoutedObject> {
    await this.#assertServable(await this.#deps.records.get(id));
    const object = await this.open(id);
    this.release(id);
    await object.renew();
    return object;
  }

  /** Where it is this host's, or its owner is gone and the copy is here. */
  async #assertServable({ id, owner, tail }: ObjectRecord): Promise<void> {
    const { host, hosts } = this.#deps;
    if (owner === host) return;
    const hasCopy = typeof tail === 'object' && tail.host === host;
    if (!hasCopy || (await hosts.find(owner)))
      throw new StorageError('not_owner', `object ${id} is owned by host ${owner}`);
  }

  async #move(from: HostId, kind: number, head: RequestHead): Promise<Moved> {
    if (kind === peerKind.moveFetch) await this.fetch(head.id);
    else if (kind === peerKind.mayOwn) this.#assertMayOwn();
    else if (kind === peerKind.delete) await this.#deleteHere(head.id);
    else if (kind === peerKind.inUse) {
      const isOpen = (this.#entries.get(head.id)?.uses ?? 0) > 0 || this.#opening.has(head.id);
      return { result: isOpen || this.#deps.isRead(head.id) ? 1 : 0 };
    } else return this.#handover.serve(from, kind, head);
    return { result: 0 };
  }

  /** `failed` where no volume can begin on the SSD. */
  #assertMayOwn(): void {
    const { host, ssd } = this.#deps;
    const failure = ssd.failure();
    if (failure === undefined) return;
    const what = `the SSD of host ${host} has failed (${failure}): it takes no volumes until its daemon is restarted`;
    throw new StorageError('failed', what);
  }

  #isUsedHere(id: ObjectId): boolean {
    const entry = this.#entries.get(id);
    if (!entry) return false;
    const { localRequests } = entry.object;
    const isUsed = entry.uses > 0 && localRequests !== entry.requestsWhenAsked;
    entry.requestsWhenAsked = localRequests;
    return isUsed;
  }

  #deleteHere(id: ObjectId): Promise<void> {
    return this.#inTurn(id, async () => {
      const { volumes, files, records } = this.#deps;
      const entry = this.#entries.get(id);
      if (entry && entry.uses > 0) throw new StorageError('busy', `object ${id} is in use`);
      if (entry) {
        this.#forget(id);
        await entry.object.abandon();
        const { backing } = entry.object;
        if (backing.where === 'here')
          backing.tenure.end(new StorageError('closed', 'the object is deleted'));
      }
      if (!(await records.find(id))) return;
      // Data first: a crash between leaves an object that can be deleted again.
      await volumes.delete(id);
      await files.delete(id);
      await records.delete(id);
    });
  }

  #noteOpening(id: ObjectId, change: 1 | -1): void {
    const count = (this.#opening.get(id) ?? 0) + change;
    if (count > 0) this.#opening.set(id, count);
    else this.#opening.delete(id);
  }

  #noteIdle(id: ObjectId): void {
    this.#idle.add(id);
    if (this.#idle.size <= this.#settings.idleObjectsMax) return;
    const [longest] = this.#idle;
    if (longest !== undefined) void this.#closeIdle(longest);
  }

  async #closeIdle(id: ObjectId): Promise<void> {
    const closing = async () => {
      const entry = this.#entries.get(id);
      if (!entry || entry.uses > 0) return;
      await entry.object.close();
      this.#end(id, entry);
    };
    const flushed = this.#flushIdle(id);
    await flushed
      .then(() => this.#inTurn(id, closing))
      .catch((error: unknown) => {
        this.#deps.log.warn(
          { object: id, error: String(error) },
          'idle object could not be closed',
        );
      });
  }

  /** What others have acknowledged of it is known as long as it is open. */
  async #flushIdle(id: ObjectId): Promise<void> {
    const entry = this.#entries.get(id);
    if (!entry || entry.object.isFlushed) return;
    // Its owner may be away for long.
    this.#idle.delete(id);
    try {
      await entry.object.flush();
    } finally {
      if (entry.uses === 0 && this.#entries.get(id) === entry) this.#idle.add(id);
    }
  }

  async #closeEntry(id: ObjectId, entry: Entry): Promise<void> {
    const { clock, log } = this.#deps;
    const { object } = entry;
    const closed = object.retire().then(async () => {
      await this.#leaveToOthers(object);
      await object.close();
    });
    try {
      if ((await within(clock, closeMsMax, closed)) === 'late') {
        log.error({ object: id, kind: object.kind() }, 'changes since the last flush are lost');
        await object.abandon();
      }
    } catch (error) {
      // Its tenure may have ended just now: whoever has the next one goes on.
      if (!isStorageError(error)) throw error;
      log.error({ object: id, error: describeError(error) }, 'object could not be flushed');
      await object.abandon();
    }
    this.#end(id, entry);
  }

  /** With all of it on the backend, closing it lets any host take it while this one is away. */
  async #leaveToOthers(object: RoutedObject): Promise<void> {
    const { clock, log } = this.#deps;
    const { id, backing } = object;
    if (backing.where === 'there' || backing.kind === 'file') return;
    let why = 'the object store does not answer in time';
    try {
      if ((await within(clock, leaveMsMax, backing.object.sync())) === 'done') return;
    } catch (error) {
      why = describeError(error);
    }
    log.warn({ object: id, why }, 'last changes are on this SSD alone: the volume waits for it');
  }

  #end(id: ObjectId, { object: { backing } }: Entry): void {
    this.#forget(id);
    if (backing.where === 'here')
      backing.tenure.end(new StorageError('closed', 'the object is closed'));
  }

  #forget(id: ObjectId): void {
    this.#entries.delete(id);
    this.#idle.delete(id);
  }

  #inTurn<T>(id: ObjectId, action: () => Promise<T>): Promise<T> {
    const turn = (this.#last.get(id) ?? Promise.resolve()).then(action, action);
    const settled = turn
      .catch(() => {})
      .then(() => {
        if (this.#last.get(id) === settled) this.#last.delete(id);
      });
    this.#last.set(id, settled);
    return turn;
  }
}
