/** Time that moves only when it is told to. Sleepers wake in the order of their times. */

import type { Clock } from '../ports/clock.ts';

interface Sleeper {
  readonly at: number;
  readonly wake: () => void;
}

export class SimulatedClock implements Clock {
  #nowMs = 0;
  readonly #sleepers: Sleeper[] = [];

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallNs(): bigint {
    return 1_700_000_000_000_000_000n + BigInt(Math.round(this.#nowMs * 1e6));
  }

  sleep(ms: number, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const { signal } = options;
    if (signal?.aborted === true) reject(signal.reason as Error);
    else if (ms <= 0) setImmediate(resolve);
    else {
      const onAbort = () => {
        this.#sleepers.splice(this.#sleepers.indexOf(sleeper), 1);
        reject(signal?.reason as Error);
      };
      const wake = () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const sleeper = { at: this.#nowMs + ms, wake };
      this.#sleepers.push(sleeper);
      signal?.addEventListener('abort', onAbort, { once: true });
    }
    return promise;
  }

  get sleeping(): number {
    return this.#sleepers.length;
  }

  /** Moves on by `ms`, waking whoever's time comes, and lets each act before the next. */
  async advance(ms: number): Promise<void> {
    const until = this.#nowMs + ms;
    for (;;) {
      const next = this.#sleepers.reduce<Sleeper | undefined>(
        (first, sleeper) => (first === undefined || sleeper.at < first.at ? sleeper : first),
        undefined,
      );
      if (next === undefined || next.at > until) break;
      this.#sleepers.splice(this.#sleepers.indexOf(next), 1);
      this.#nowMs = next.at;
      next.wake();
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#nowMs = until;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
