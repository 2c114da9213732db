/** A bucket that is read no faster than a meter allows, for work that shall not be in the way. */

import type { BlobStore } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';

/** Counts bytes, and makes whoever takes them wait so that they come at a rate at most. */
export class RateMeter {
  readonly bytesPerSecond: number;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  #dueMs = 0;
  #bytes = 0;

  constructor(clock: Clock, bytesPerSecond: number, signal: AbortSignal) {
    this.#clock = clock;
    this.bytesPerSecond = bytesPerSecond;
    this.#signal = signal;
  }

  /** Taken so far. */
  get bytes(): number {
    return this.#bytes;
  }

  async take(bytes: number): Promise<void> {
    this.#bytes += bytes;
    const nowMs = this.#clock.monotonicMs();
    const waitMs = Math.max(0, this.#dueMs - nowMs);
    this.#dueMs = nowMs + waitMs + (bytes * 1000) / this.bytesPerSecond;
    this.#signal.throwIfAborted();
    if (waitMs > 0) await this.#clock.sleep(waitMs, { signal: this.#signal });
  }
}

export function withRate(inner: BlobStore, meter: RateMeter): BlobStore {
  return {
    put: (key, body, options) => inner.put(key, body, options),
    async get(key, options) {
      const bytes = await inner.get(key, options);
      await meter.take(bytes.length);
      return bytes;
    },
    list: (options) => inner.list(options),
    deleteMany: (keys, options) => inner.deleteMany(keys, options),
  };
}
