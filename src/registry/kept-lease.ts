/**
 * A lease and what keeps it: renewed every third of its time, and oftener while the registry does
 * not answer. It is lost only when the registry says so, since a registry that was away for longer
 * than the lease may still keep it; until it answers, `validUntilMs` stops whoever holds the lease.
 */

import { isStorageError, StorageError } from '../core/errors.ts';
import type { TaskGroup } from '../core/task-group.ts';
import type { LeaseId } from '../core/units.ts';
import type { CallOptions } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';
import type { Lease } from '../ports/registry.ts';

const renewalsPerTtl = 3;
const attemptsPerTtl = 12;

/** How a registry does it. */
export interface LeaseCalls {
  renew(id: LeaseId, options: CallOptions): Promise<'renewed' | 'lost'>;
  revoke(id: LeaseId, options: CallOptions): Promise<void>;
}

export interface Granted {
  readonly id: LeaseId;
  readonly ttlMs: number;
  /** Before the request was sent. */
  readonly sentMs: number;
}

export class KeptLease implements Lease {
  readonly id: LeaseId;
  readonly ttlMs: number;
  readonly #calls: LeaseCalls;
  readonly #clock: Clock;
  readonly #lost = new AbortController();
  #renewedMs: number;
  #isGone = false;

  /** Renews in `tasks` until `closing` fires: nobody keeps it then. */
  constructor(
    granted: Granted,
    calls: LeaseCalls,
    clock: Clock,
    tasks: TaskGroup,
    closing: AbortSignal,
  ) {
    this.id = granted.id;
    this.ttlMs = granted.ttlMs;
    this.#renewedMs = granted.sentMs;
    this.#calls = calls;
    this.#clock = clock;
    closing.addEventListener('abort', () => this.#end('the registry is closed'), { once: true });
    tasks.run(() => this.#keep());
  }

  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  validUntilMs(): number {
    return this.#lost.signal.aborted ? Number.NEGATIVE_INFINITY : this.#renewedMs + this.ttlMs;
  }

  async release(options: CallOptions = {}): Promise<void> {
    if (this.#isGone) return;
    // From here on nobody may rely on it, whatever becomes of the request.
    this.#end('the lease was released');
    await this.#calls.revoke(this.id, options);
    this.#isGone = true;
  }

  #end(why: string): void {
    this.#lost.abort(new StorageError('fenced', why, { detail: { lease: this.id } }));
  }

  async #keep(): Promise<void> {
    let pauseMs = this.ttlMs / renewalsPerTtl;
    while (!this.#lost.signal.aborted) {
      try {
        await this.#clock.sleep(pauseMs, { signal: this.#lost.signal });
        const sentMs = this.#clock.monotonicMs();
        if ((await this.#calls.renew(this.id, { signal: this.#lost.signal })) === 'lost') {
          this.#isGone = true;
          return this.#end('the registry has ended the lease');
        }
        this.#renewedMs = sentMs;
        pauseMs = this.ttlMs / renewalsPerTtl;
      } catch (error) {
        if (!this.#lost.signal.aborted && !isStorageError(error)) throw error;
        pauseMs = this.ttlMs / attemptsPerTtl;
      }
    }
  }
}
