/**
 * A host's right to serve at all: its lease in the registry, and a margin. While the lease is fresh
 * nobody can have taken an object of this host. When it may have run out, nothing is acknowledged:
 * requests wait until it is renewed, or known to be lost. A tenure belongs to the lease that it was
 * claimed under, and ends with it.
 *
 *   fresh   now < validUntil - margin: requests pass
 *   stale   the registry does not answer in time: requests wait
 *   lost    the registry has given the lease up: its tenures end, the host joins anew
 *
 * The margin covers the time between looking at the clock and the acknowledgement's arrival where
 * it counts, clocks that run at different speeds, and a registry whose leader has just changed.
 */

import { StorageError } from '../../core/errors.ts';
import type { HostId } from '../../core/units.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Compare, Lease } from '../../ports/registry.ts';
import { hostIsHere } from '../../registry/host-records.ts';

const pollMs = 10;

export class HostLease {
  /** Revision of the host's record: grows with each time that it joins. */
  readonly session: number;
  /** For transactions that may only happen while the registry keeps the lease. */
  readonly guard: readonly Compare[];
  readonly #clock: Clock;
  readonly #lease: Lease;
  readonly #marginMs: number;

  constructor(clock: Clock, lease: Lease, host: HostId, session: number, marginMs: number) {
    this.#clock = clock;
    this.#lease = lease;
    this.#marginMs = marginMs;
    this.session = session;
    this.guard = [hostIsHere(host, session)];
  }

  /** Fires when the lease is known to be lost. */
  get lost(): AbortSignal {
    return this.#lease.signal;
  }

  isFresh(): boolean {
    return this.#clock.monotonicMs() < this.freshUntilMs();
  }

  /** On the clock's monotonic time; behind it where the lease is lost. */
  freshUntilMs(): number {
    return this.#lease.validUntilMs() - this.#marginMs;
  }

  /** Throws `unavailable` while it may have run out, `fenced` when it is lost. */
  assertFresh(): void {
    if (this.isFresh()) return;
    if (this.lost.aborted) throw this.#isLost();
    throw new StorageError('unavailable', "this host's lease may have run out");
  }

  /** Resolves when it is fresh; rejects with `fenced` when it is lost. */
  async fresh(): Promise<void> {
    while (!this.isFresh()) {
      if (this.lost.aborted) throw this.#isLost();
      await this.#clock.sleep(pollMs, { signal: this.lost }).catch(() => {});
    }
  }

  release(): Promise<void> {
    return this.#lease.release();
  }

  #isLost(): StorageError {
    return new StorageError('fenced', "this host's lease has been lost");
  }
}
