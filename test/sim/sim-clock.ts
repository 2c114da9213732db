/** A host's clocks: the monotonic one runs a little fast or slow, the wall clock may jump. */

import type { Clock } from '../../src/ports/clock.ts';
import type { SimProcess } from './sim-process.ts';

const epochNs = 1_700_000_000_000_000_000n;

/** What a machine's clocks show, whichever process asks. */
export interface ClockFaults {
  /** Simulated seconds in a true one, near 1. */
  rate: number;
  wallOffsetMs: number;
}

export class SimClock implements Clock {
  readonly #process: SimProcess;
  readonly #faults: ClockFaults;

  constructor(process: SimProcess, faults: ClockFaults) {
    this.#process = process;
    this.#faults = faults;
  }

  monotonicMs(): number {
    return this.#process.scheduler.nowMs * this.#faults.rate;
  }

  wallNs(): bigint {
    const ms = this.#process.scheduler.nowMs + this.#faults.wallOffsetMs;
    return epochNs + BigInt(Math.round(ms * 1e6));
  }

  sleep(ms: number, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (signal?.aborted === true) {
      reject(signal.reason as Error);
      return promise;
    }
    const onAbort = () => reject(signal?.reason as Error);
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#process.later(Math.max(0, ms) / this.#faults.rate, 'timer', () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    return promise;
  }
}
