/**
 * Whether calls are waiting for the backend. An outage begins with the first call that fails and
 * ends when no call is left that has failed: one lucky call among many that hang ends nothing.
 * The log tells it once at either end, and only when a call failed twice: one failure is chance.
 */

import { describeError } from '../core/errors.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';

/** What `wharf status` shows of the backend. */
export interface Outage {
  /** On the monotonic clock. */
  readonly sinceMs: number;
  /** Failed attempts of all calls. */
  readonly attempts: number;
  /** Calls that have failed and are not through. */
  readonly waiting: number;
  /** The last error, for people. */
  readonly error: string;
}

export class RetryMonitor {
  readonly #clock: Clock;
  readonly #log: Log;
  #outage: Outage | undefined;
  #isTold = false;

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  get outage(): Outage | undefined {
    return this.#outage;
  }

  /** The call has failed `failures` times by now and goes on trying. */
  noteFailure(error: unknown, failures: number): void {
    const text = describeError(error);
    const { sinceMs, attempts, waiting } = this.#outage ?? {
      sinceMs: this.#clock.monotonicMs(),
      attempts: 0,
      waiting: 0,
    };
    this.#outage = {
      sinceMs,
      attempts: attempts + 1,
      waiting: failures === 1 ? waiting + 1 : waiting,
      error: text,
    };
    if (failures === 1 || this.#isTold) return;
    this.#isTold = true;
    this.#log.warn({ error: text }, 'backend in trouble; calls wait for it');
  }

  /** A call that had failed is through, or has given up. */
  noteEnd(how: 'answered' | 'gave_up'): void {
    if (this.#outage === undefined) return;
    this.#outage = { ...this.#outage, waiting: this.#outage.waiting - 1 };
    if (this.#outage.waiting > 0) return;
    const lastedMs = Math.round(this.#clock.monotonicMs() - this.#outage.sinceMs);
    const facts = { lastedMs, attempts: this.#outage.attempts };
    if (this.#isTold && how === 'answered') this.#log.info(facts, 'backend answers again');
    if (this.#isTold && how === 'gave_up') this.#log.info(facts, 'no call waits for the backend');
    this.#outage = undefined;
    this.#isTold = false;
  }
}
