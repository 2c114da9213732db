/**
 * This host among those of the vPool: it joins with a lease, and joins anew whenever that is lost.
 *
 *   member    its lease is kept: it may serve
 *   outside   the lease was lost: nothing is served until it has joined again
 *   left      it has given its lease back
 */

import { describeError, isStorageError, StorageError } from '../../core/errors.ts';
import { TaskGroup } from '../../core/task-group.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { Registry } from '../../ports/registry.ts';
import type { HostRecord, HostRecords } from '../../registry/host-records.ts';
import { HostLease } from './host-lease.ts';

export interface LeaseSettings {
  readonly ttlMs: number;
  readonly marginMs: number;
}

export interface MembershipDeps {
  readonly registry: Registry;
  readonly hosts: HostRecords;
  readonly clock: Clock;
  readonly log: Log;
  readonly record: HostRecord;
}

export class Membership {
  readonly #deps: MembershipDeps;
  readonly #settings: LeaseSettings;
  readonly #tasks: TaskGroup;
  readonly #leaving = new AbortController();
  #lease: Promise<HostLease>;
  #session = 0;
  #joined: HostLease | undefined;

  private constructor(deps: MembershipDeps, settings: LeaseSettings) {
    this.#deps = deps;
    this.#settings = settings;
    this.#tasks = new TaskGroup((error) => {
      if (this.#leaving.signal.aborted) return;
      deps.log.error({ error: describeError(error) }, 'this host can not join its vPool again');
    });
    this.#lease = this.#join();
  }

  /** Rejects with `exists` where another daemon uses this host id. */
  static async join(deps: MembershipDeps, settings: LeaseSettings): Promise<Membership> {
    const membership = new Membership(deps, settings);
    await membership.#lease;
    membership.#tasks.run(() => membership.#keep());
    return membership;
  }

  /** Of the last time that it joined; see host-lease.ts. */
  get session(): number {
    return this.#session;
  }

  /** Until then the registry surely counts this host in, on the clock's monotonic time. */
  freshUntilMs(): number {
    return this.#joined?.freshUntilMs() ?? 0;
  }

  /** The lease under which tenures may be claimed now; waits until there is one and it is fresh. */
  async current(): Promise<HostLease> {
    for (;;) {
      const lease = await this.#lease;
      this.#leaving.signal.throwIfAborted();
      try {
        await lease.fresh();
        return lease;
      } catch (error) {
        // Lost: the next one is on its way.
        if ((await this.#lease) === lease) await this.#deps.clock.sleep(0);
        void error;
      }
    }
  }

  /** Gives the lease back: others may take what this host owned. */
  async leave(): Promise<void> {
    this.#leaving.abort(new StorageError('closed', 'this host is stopping'));
    await (await this.#lease).release();
    await this.#tasks.drained();
  }

  async #keep(): Promise<void> {
    const { log } = this.#deps;
    while (!this.#leaving.signal.aborted) {
      const lease = await this.#lease;
      await ended(AbortSignal.any([lease.lost, this.#leaving.signal]));
      if (this.#leaving.signal.aborted) return;
      log.error({}, "lease was lost: what this host served is another's to take; joining again");
      this.#lease = this.#join();
      await this.#lease;
      log.info({}, 'joined again');
    }
  }

  async #join(): Promise<HostLease> {
    const { registry, hosts, clock, record } = this.#deps;
    const { ttlMs, marginMs } = this.#settings;
    for (;;) {
      const lease = await registry.grantLease(ttlMs);
      try {
        this.#session = await hosts.join(record, lease);
      } catch (error) {
        // It ran out while the registry could not be reached.
        if (!isStorageError(error, 'fenced')) throw error;
        continue;
      }
      this.#joined = new HostLease(clock, lease, record.id, this.#session, marginMs);
      return this.#joined;
    }
  }
}

function ended(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
