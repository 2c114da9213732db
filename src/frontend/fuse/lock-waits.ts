/**
 * Requests that wait for a lock: each until the kernel interrupts it, because its process got a
 * signal. They hold slots that others need to give locks back, so there may be so many only.
 */

import { errno } from './errno.ts';

export class LockWaits {
  #waitsMax: number;
  readonly #waiting = new Map<bigint, AbortController>();
  #hasEnded = false;

  constructor(waitsMax: number) {
    this.#waitsMax = waitsMax;
  }

  /** Gives what the action does, or a negative errno. `unique` names the request. */
  async run(unique: bigint, action: (signal: AbortSignal) => Promise<number>): Promise<number> {
    if (this.#hasEnded) return -errno.ENOTCONN;
    if (this.#waiting.size >= this.#waitsMax) return -errno.ENOLCK;
    const waiting = new AbortController();
    const { signal } = waiting;
    this.#waiting.set(unique, waiting);
    try {
      return await action(signal);
    } catch (error) {
      if (!signal.aborted) throw error;
      return this.#hasEnded ? -errno.ENOTCONN : -errno.EINTR;
    } finally {
      this.#waiting.delete(unique);
    }
  }

  /** Others have fewer slots from here on. */
  narrow(waitsMax: number): void {
    this.#waitsMax = Math.min(this.#waitsMax, waitsMax);
  }

  interrupt(unique: bigint): void {
    this.#waiting.get(unique)?.abort();
  }

  /** Nobody waits any more. */
  end(): void {
    this.#hasEnded = true;
    for (const waiting of this.#waiting.values()) waiting.abort();
  }
}
