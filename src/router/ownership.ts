/**
 * Finds out who serves an object and makes it so: drives it where it is this host's, forwards to
 * its owner where that one lives, and takes it over where it is gone. What can't be decided yet is
 * waited for, visibly.
 *
 *   mine               claim the next tenure, open it
 *   another's, alive   forward
 *   another's, gone    take it, if nothing can be lost by that; else wait for the owner or for an
 *                      administrator
 */

import type { StorageError } from '../core/errors.ts';
import { describeError, isStorageError } from '../core/errors.ts';
import type { HostId, ObjectId } from '../core/units.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { ObjectDriver } from '../ports/object-driver.ts';
import type { ObjectKind } from '../ports/objects.ts';
import type { HostRecord, HostRecords } from '../registry/host-records.ts';
import type { Claim, ObjectRecord, ObjectRecords } from '../registry/object-records.ts';
import type { Membership } from './membership.ts';
import type { HostLease } from './host-lease.ts';
import type { PeerLink } from './peer-link.ts';
import { RemoteObject } from './remote-object.ts';
import type { Backing, Here, There } from './routed-object.ts';

const firstPauseMs = 10;
const pauseMsMax = 1000;

export interface OwnershipDeps {
  readonly host: HostId;
  readonly membership: Pick<Membership, 'current'>;
  readonly records: ObjectRecords;
  readonly hosts: HostRecords;
  readonly drivers: Readonly<Record<ObjectKind, ObjectDriver>>;
  readonly linkTo: (host: HostRecord) => PeerLink;
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
        if (pauseMs >= pauseMsMax && this.#waiting.get(id) !== why)
          log.warn({ object: id, why }, 'object waits for its owner');
        if (pauseMs >= pauseMsMax) this.#waiting.set(id, why);
        await clock.sleep(pauseMs, { signal });
        pauseMs = Math.min(2 * pauseMs, pauseMsMax);
      }
    } finally {
      this.#waiting.delete(id);
    }
  }

  /** Undefined where the record changed meanwhile: what was read of it is old. */
  async #attempt(id: ObjectId): Promise<Backing | undefined> {
    const { host, records, hosts, membership, log } = this.#deps;
    const lease = await membership.current();
    const record = await records.get(id);
    if (record.owner === host) return this.#mine(record, lease);
    const owner = await hosts.find(record.owner);
    if (owner) return this.#forward(owner, id);
    if (await records.take(record, host, lease.guard)) {
      log.info({ object: id, from: record.owner, epoch: record.epoch }, 'object is taken over');
    }
    return undefined;
  }

  async #forward(owner: HostRecord, id: ObjectId): Promise<There> {
    const object = await RemoteObject.open(this.#deps.linkTo(owner), id);
    return { where: 'there', object, owner: owner.id };
  }

  async #mine(record: ObjectRecord, lease: HostLease): Promise<Here> {
    const { host, records, drivers } = this.#deps;
    const claim = await records.claim(record.id, host, lease.guard);
    const tenure = makeTenure(record.id, claim);
    const { kind } = claim;
    const object = await drivers[kind].open(tenure);
    return { where: 'here', object, kind, tenure, lease };
  }
}

/** The owner does not answer, or the object changes hands at this moment. */
function isWorthWaiting(error: unknown): boolean {
  if (!isStorageError(error)) return false;
  return ['unavailable', 'unknown_outcome', 'not_owner', 'busy', 'fenced'].includes(error.code);
}

function makeTenure(id: ObjectId, claim: Claim): Here['tenure'] {
  const ending = new AbortController();
  return {
    objectId: id,
    epoch: claim.epoch,
    resumed: claim.resumed,
    signal: ending.signal,
    assertLive: () => ending.signal.throwIfAborted(),
    end: (reason: StorageError) => ending.abort(reason),
  };
}
