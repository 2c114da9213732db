/**
 * Finds out who serves an object and makes it so: drives it where it is this host's, forwards to
 * its owner where that one lives, and takes it over where it is gone. What can't be decided yet is
 * waited for, visibly.
 *
 *   mine               claim the next tenure, open it
 *   another's, alive   forward
 *   another's, gone    take it, if nothing can be lost by that; forward to the host of the replica,
 *                      which takes it; else wait for one of the two or for an administrator
 *
 * A host whose SSD has failed begins nothing new on it until its daemon is started again: it leaves its
 * volumes to the hosts of their copies, or to any other where all is on the backend.
 */

import { describeError, isStorageError, StorageError } from '../core/errors.ts';
import type { HostId, ObjectId } from '../core/units.ts';
import { epoch } from '../core/units.ts';
import { within } from '../core/within.ts';
import { peerKind } from '../format/peer-message.ts';
import type { ReplicaServer } from '../log/replica-server.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { ObjectDriver } from '../ports/object-driver.ts';
import type { ObjectKind } from '../ports/objects.ts';
import type { HostRecord, HostRecords } from '../registry/host-records.ts';
import type { Claim, ObjectRecord, ObjectRecords } from '../registry/object-records.ts';
import { whoHas } from '../registry/object-records.ts';
import type { Membership } from './members/membership.ts';
import type { HostLease } from './members/host-lease.ts';
import type { PeerLink } from './peers/peer-link.ts';
import { RemoteObject } from './peers/remote-object.ts';
import type { Backing, Here, There } from './backing.ts';

const firstPauseMs = 10;
const pauseMsMax = 250;
/** What has been waited for so long is told. */
const patienceMs = 1000;
/** A host that does not answer in time is taken to be gone with its copy. */
const answerMsMax = 1000;

/** What is known of the SSD that journals and copies lie on. */
export interface SsdHealth {
  /** What has failed first; undefined: nothing. */
  readonly failure: () => string | undefined;
  /** Whether the object's journal has: it is not opened again in this process. */
  readonly hasFailed: (id: ObjectId) => boolean;
}

export interface OwnershipDeps {
  readonly host: HostId;
  readonly membership: Pick<Membership, 'current'>;
  readonly records: ObjectRecords;
  readonly hosts: HostRecords;
  readonly drivers: Readonly<Record<ObjectKind, ObjectDriver>>;
  readonly linkTo: (host: HostRecord) => PeerLink;
  /** Copies of other hosts' journals that this host keeps. */
  readonly replicas: Pick<ReplicaServer, 'seal'>;
  /** Whether its journal here was written before the machine was started. */
  readonly mayBeTorn: (id: ObjectId) => boolean;
  readonly ssd: SsdHealth;
  /** An object begins here with the copy of an owner that is gone. */
  readonly noteTakenOver: (id: ObjectId, sizeBytes: number) => void;
  readonly clock: Clock;
  readonly log: Log;
  /** Fires when the router closes. */
  readonly signal: AbortSignal;
}

export class Ownership {
  readonly #deps: OwnershipDeps;
  /** Why objects wait for their owners, by object. */
  readonly #waiting = new Map<ObjectId, string>();

  constructor(deps: OwnershipDeps) {
    this.#deps = deps;
  }

  get waiting(): ReadonlyMap<ObjectId, string> {
    return this.#waiting;
  }

  /** `not_found` where there is no such object. Whatever may get better is waited for. */
  async connect(id: ObjectId): Promise<Backing> {
    const { clock, log, signal } = this.#deps;
    const beganMs = clock.monotonicMs();
    let pauseMs = firstPauseMs;
    try {
      for (;;) {
        let why: string;
        try {
          const backing = await this.#attempt(id);
          if (backing) return backing;
          why = 'ownership is changing';
        } catch (error) {
          if (!isWorthWaiting(error)) throw error;
          why = describeError(error);
        }
        const isLong = clock.monotonicMs() - beganMs >= patienceMs;
        if (isLong && this.#waiting.get(id) !== why)
          log.warn({ object: id, why }, 'object waits for its owner');
        if (isLong) this.#waiting.set(id, why);
        await clock.sleep(pauseMs, { signal });
        pauseMs = Math.min(2 * pauseMs, pauseMsMax);
      }
    } finally {
      this.#waiting.delete(id);
    }
  }

  /** Its owner has just given it to this host, which was a member by this lease. */
  async accept(given: ObjectRecord, lease: HostLease): Promise<Backing> {
    const { id, isFrozen = false } = given;
    const claim = { ...given, epoch: epoch(given.epoch), isFrozen };
    try {
      return await this.#begin(id, claim, lease);
    } catch (error) {
      this.#deps.log.warn({ object: id, error: describeError(error) }, 'object is not open yet');
      return this.connect(id);
    }
  }

  /** Undefined where the record changed meanwhile: what was read of it is old. */
  async #attempt(id: ObjectId): Promise<Backing | undefined> {
    const { host, records, hosts, membership, log } = this.#deps;
    const lease = await membership.current();
    const record = await records.get(id);
    if (record.owner === host) return this.#mine(record, lease);
    const server = (await hosts.find(record.owner)) ?? (await this.#replicaOf(record));
    if (server) return this.#forward(server, record);
    if (!(await this.#take(record, lease))) return undefined;
    log.info({ object: id, from: record.owner, epoch: record.epoch }, 'object is taken over');
    return this.#attempt(id);
  }

  /** The host that has the copy, if that is another one and up. */
  async #replicaOf({ tail }: ObjectRecord): Promise<HostRecord | undefined> {
    const { host, hosts } = this.#deps;
    const isElsewhere = typeof tail === 'object' && tail.host !== host;
    return isElsewhere ? hosts.find(tail.host) : undefined;
  }

  /**
   * Whether the object is another host's from now on because this SSD may have lost, or may yet lose, what was
   * acknowledged. A machine that was restarted had not synced all of it; one whose SSD has failed can't.
   */
  async #isLeft(record: ObjectRecord): Promise<boolean> {
    const { mayBeTorn, ssd, records, log } = this.#deps;
    const { id, tail } = record;
    const failure = record.kind === 'volume' ? ssd.failure() : undefined;
    if (failure === undefined && !mayBeTorn(id)) return false;
    const to = await this.#successor(record, failure);
    if (!to) {
      if (failure !== undefined) this.#assertClaimable(record, failure);
      return false;
    }
    // Where it has changed, what was read of it is old.
    if (!(await records.passOn(record, to.id))) return true;
    const where = tail === 'backend' ? 'another host' : 'the host of its copy';
    log.info({ object: id, to: to.id }, `object is left to ${where}`);
    return true;
  }

  /** Who can go on with all that was acknowledged, and is up. */
  async #successor(
    record: ObjectRecord,
    failure: string | undefined,
  ): Promise<HostRecord | undefined> {
    const { host, hosts } = this.#deps;
    if (record.tail !== 'backend' || failure === undefined) {
      const copyHost = await this.#replicaOf(record);
      return copyHost && (await this.#mayOwn(copyHost, record.id)) ? copyHost : undefined;
    }
    const others = (await hosts.list()).filter(({ id }) => id !== host);
    for (const other of others) if (await this.#mayOwn(other, record.id)) return other;
    if (others.length > 0) throw hasFailed('unavailable', failure, 'no other host can go on now');
    throw hasFailed('failed', failure, 'there is no other host');
  }

  /** With an SSD that has failed, and nobody to go on. */
  #assertClaimable({ id, tail }: ObjectRecord, failure: string): void {
    const { host, ssd } = this.#deps;
    // Others of its journals may work still.
    if (!ssd.hasFailed(id)) return;
    if (typeof tail !== 'object' || tail.host === host)
      throw hasFailed('failed', failure, 'there is no copy of the last changes');
    const what = `host ${tail.host}, which has the copy, can not go on now`;
    throw hasFailed('unavailable', failure, what);
  }

  /** Its lease may outlive a host that has lost power. One of an earlier version knows no such question. */
  async #mayOwn(host: HostRecord, id: ObjectId): Promise<boolean> {
    const { clock, linkTo } = this.#deps;
    const asking = linkTo(host).ask(id, { kind: peerKind.mayOwn });
    const outcome = await within(clock, answerMsMax, asking).catch((error: unknown) =>
      isStorageError(error, 'unsupported') ? 'done' : 'refused',
    );
    return outcome === 'done';
  }

  async #take(record: ObjectRecord, lease: HostLease): Promise<boolean> {
    const { host, records, ssd } = this.#deps;
    const { id, kind, tail } = record;
    const failure = ssd.failure();
    // Where all is on the backend, it can be passed on at once.
    if (failure !== undefined && kind === 'volume' && tail !== 'backend')
      throw hasFailed('unavailable', failure, `object ${id} waits for ${whoHas(record)}`);
    return records.take(record, host, lease.guard);
  }

  async #forward(owner: HostRecord, record: ObjectRecord): Promise<There | undefined> {
    const { id, threshold } = record;
    try {
      const opening = RemoteObject.open(this.#deps.linkTo(owner), id);
      if (!(await this.#isAnswered(opening, record))) return undefined;
      const object = await opening;
      return { where: 'there', object, owner: owner.id, threshold };
    } catch (error) {
      // It stops, and somebody else is the owner soon.
      if (!isStorageError(error, 'closed') || this.#deps.signal.aborted) throw error;
      throw new StorageError('unavailable', `host ${owner.id} stops`, { cause: error });
    }
  }

  /** False once the object is another's: what its old owner does may wait for this very host. */
  async #isAnswered(opening: Promise<RemoteObject>, { id, owner }: ObjectRecord): Promise<boolean> {
    const { clock, records } = this.#deps;
    while ((await within(clock, patienceMs, opening)) === 'late')
      if ((await records.get(id)).owner !== owner) return false;
    return true;
  }

  /** Undefined where the object is another host's from now on. */
  async #mine(record: ObjectRecord, lease: HostLease): Promise<Here | undefined> {
    const { host, records, replicas } = this.#deps;
    if (await this.#isLeft(record)) return undefined;
    const { tail } = record;
    if (typeof tail === 'object' && tail.host === host) await replicas.seal(record.id, tail.copy);
    const claim = await records.claim(record.id, host, lease.guard);
    const here = await this.#begin(record.id, claim, lease);
    if (typeof claim.tail === 'object') this.#deps.noteTakenOver(record.id, here.object.size());
    return here;
  }

  async #begin(id: ObjectId, claim: Claim, lease: HostLease): Promise<Here> {
    const tenure = makeTenure(id, claim);
    const { kind } = claim;
    const object = await this.#deps.drivers[kind].open(tenure);
    return { where: 'here', object, kind, tenure, lease };
  }
}

function hasFailed(code: 'failed' | 'unavailable', failure: string, what: string): StorageError {
  return new StorageError(code, `the SSD of this host has failed (${failure}): ${what}`);
}

/** The owner does not answer, or the object changes hands at this moment. */
function isWorthWaiting(error: unknown): boolean {
  if (!isStorageError(error)) return false;
  return ['unavailable', 'unknown_outcome', 'not_owner', 'busy', 'fenced'].includes(error.code);
}

export function makeTenure(id: ObjectId, claim: Claim): Here['tenure'] {
  const ending = new AbortController();
  return {
    objectId: id,
    epoch: claim.epoch,
    tail: claim.tail,
    isFrozen: claim.isFrozen,
    signal: ending.signal,
    assertLive: () => ending.signal.throwIfAborted(),
    end: (reason: StorageError) => ending.abort(reason),
  };
}
