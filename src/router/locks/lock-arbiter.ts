/**
 * Decides about the locks on objects that this host serves. What it knows of an object's locks
 * lives as long as a tenure: with the first request of each it asks every host for the locks that
 * its processes hold. So locks survive whatever becomes of an owner, and nobody ships them.
 *
 * A lock whose host is not in the vPool any more, or has joined it anew, is over. That is looked
 * up when the lock stands in somebody's way.
 */

import { describeError, isStorageError, StorageError } from '../../core/errors.ts';
import type { HostId, ObjectId } from '../../core/units.ts';
import { within } from '../../core/within.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { LockRequest } from '../../ports/object-locks.ts';
import type { Tenure } from '../../ports/tenure.ts';
import type { HostRecord, HostRecords } from '../../registry/host-records.ts';
import type { HeldLock, WantedLock } from './lock-table.ts';
import { LockTable } from './lock-table.ts';

const pauseMs = 50;

/** What a host says of its processes. */
export interface HostLocks {
  readonly session: number;
  readonly locks: readonly LockRequest[];
}

export interface ArbiterDeps {
  readonly hosts: HostRecords;
  /** From this call on the host takes no grant of an earlier tenure. */
  readonly locksOf: (host: HostRecord, id: ObjectId, epoch: number) => Promise<HostLocks>;
  readonly clock: Clock;
  readonly log: Log;
  /** Fires when this host stops. */
  readonly signal: AbortSignal;
}

/** An object that this host serves. */
export interface Served {
  readonly id: ObjectId;
  readonly tenure: Tenure;
  /** False as soon as somebody else may decide about it. */
  readonly isCurrent: () => boolean;
}

interface Bench {
  readonly table: LockTable;
  /** Resolves when a lock may have gone. */
  freed: PromiseWithResolvers<void>;
  /** Hosts that have had a lock since others could last change the object. */
  upToDate: Set<HostId>;
}

export interface Ruling {
  /** What stands in the way. */
  readonly found: HeldLock | undefined;
  /** The host has to look at the object anew, see `Grant`. */
  readonly isStale: boolean;
}

export class LockArbiter {
  readonly #deps: ArbiterDeps;
  readonly #benches = new WeakMap<Tenure, Promise<Bench>>();

  constructor(deps: ArbiterDeps) {
    this.#deps = deps;
  }

  find(served: Served, wanted: WantedLock): Promise<HeldLock | undefined> {
    return this.#decide(served, wanted, ({ table }) => table.conflict(wanted));
  }

  /** Grants it, or gives what stands in the way. */
  async set(served: Served, wanted: WantedLock): Promise<Ruling> {
    let isStale = false;
    const found = await this.#decide(served, wanted, (bench) => {
      const conflict = bench.table.set(wanted);
      if (wanted.type !== 'write' || wanted.kind === 'flock') wake(bench);
      if (!conflict) isStale = noteUse(bench, wanted);
      return conflict;
    });
    return { found, isStale };
  }

  /** Resolves when nothing stands in the way, and after `ms` at the latest. */
  async wait(served: Served, wanted: WantedLock, ms: number): Promise<void> {
    const { clock } = this.#deps;
    const until = clock.monotonicMs() + ms;
    for (;;) {
      const { freed } = await this.#benchOf(served);
      if (!(await this.find(served, wanted))) return;
      const leftMs = until - clock.monotonicMs();
      if (leftMs <= 0 || (await within(clock, leftMs, freed.promise)) === 'late') return;
    }
  }

  /**
   * `decide` runs in one stretch with the question whether this host may decide: `busy` where the
   * object is changing hands.
   */
  async #decide(
    served: Served,
    wanted: WantedLock,
    decide: (bench: Bench) => HeldLock | undefined,
  ): Promise<HeldLock | undefined> {
    for (;;) {
      const bench = await this.#benchOf(served);
      if (!served.isCurrent()) throw new StorageError('busy', 'the object is changing hands');
      const conflict = decide(bench);
      if (!conflict || !(await this.#isOver(conflict, wanted))) return conflict;
      const { host, session } = conflict;
      bench.table.remove((lock) => lock.host === host && lock.session === session);
      bench.upToDate.clear();
      wake(bench);
    }
  }

  async #isOver({ host, session }: HeldLock, wanted: WantedLock): Promise<boolean> {
    if (host === wanted.host && session === wanted.session) return false;
    return (await this.#deps.hosts.session(host)) !== session;
  }

  #benchOf(served: Served): Promise<Bench> {
    const { tenure } = served;
    let bench = this.#benches.get(tenure);
    if (!bench) {
      bench = this.#gather(served);
      this.#benches.set(tenure, bench);
      bench.catch(() => this.#benches.delete(tenure));
    }
    return bench;
  }

  /** Hosts that join from now on have no lock of an earlier tenure. */
  async #gather({ id, tenure }: Served): Promise<Bench> {
    const table = new LockTable();
    const hosts = await this.#deps.hosts.list();
    await Promise.all(hosts.map((host) => this.#gatherFrom(host, id, tenure, table)));
    const freed = Promise.withResolvers<void>();
    const bench = { table, freed, upToDate: new Set<HostId>() };
    tenure.signal.addEventListener('abort', () => wake(bench), { once: true });
    return bench;
  }

  /** Until the host answers, or is gone and its locks with it. */
  async #gatherFrom(
    { id: host }: HostRecord,
    id: ObjectId,
    { epoch, signal: ended }: Tenure,
    table: LockTable,
  ): Promise<void> {
    const { hosts, locksOf, clock, log, signal } = this.#deps;
    let why: string | undefined;
    for (;;) {
      ended.throwIfAborted();
      const record = await hosts.find(host);
      if (!record) return;
      try {
        const { session, locks } = await locksOf(record, id, epoch);
        for (const lock of locks)
          if (table.set({ ...lock, host, session }))
            log.error({ object: id, host, pid: lock.pid }, 'two hosts say that they have one lock');
        return;
      } catch (error) {
        if (!isStorageError(error)) throw error;
        if (why === undefined)
          log.warn({ object: id, host, error: describeError(error) }, 'locks wait for a host');
        why = describeError(error);
      }
      await clock.sleep(pauseMs, { signal });
    }
  }
}

/**
 * Whoever may write, or has just ended to, makes what others know old. Who gets a lock looks anew
 * where that is so, which the answer says.
 */
function noteUse({ upToDate }: Bench, { host, type }: WantedLock): boolean {
  const isStale = !upToDate.has(host);
  if (type !== 'read') upToDate.clear();
  if (!isStale || type !== 'none') upToDate.add(host);
  return isStale;
}

function wake(bench: Bench): void {
  bench.freed.resolve();
  bench.freed = Promise.withResolvers<void>();
}
