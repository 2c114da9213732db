/**
 * Waits for a backend in trouble: every call is repeated with growing, jittered pauses until it
 * works, until its own signal aborts, or until the error is one that can't get better. An outage
 * is told once when it begins and once when it ends, and stands in the status meanwhile.
 */

import { describeError, isStorageError } from '../core/errors.ts';
import type { Backend, BlobStore, CallOptions } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Random } from '../ports/random.ts';

export interface RetrySettings {
  readonly firstPauseMs: number;
  readonly pauseMsMax: number;
}

/** What `wharf status` shows of the backend. */
export interface Outage {
  readonly sinceMs: number;
  readonly attempts: number;
  readonly error: string;
}

export class RetryMonitor {
  readonly #clock: Clock;
  readonly #log: Log;
  #outage: { sinceMs: number; attempts: number; error: string } | undefined;

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  get outage(): Outage | undefined {
    return this.#outage;
  }

  noteFailure(error: unknown): void {
    const text = describeError(error);
    if (this.#outage === undefined) {
      this.#outage = { sinceMs: this.#clock.monotonicMs(), attempts: 0, error: text };
      this.#log.warn({ error: text }, 'backend does not answer; waiting for it');
    }
    this.#outage.attempts += 1;
    this.#outage.error = text;
  }

  noteSuccess(): void {
    if (this.#outage === undefined) return;
    const lastedMs = Math.round(this.#clock.monotonicMs() - this.#outage.sinceMs);
    this.#log.info({ lastedMs, attempts: this.#outage.attempts }, 'backend answers again');
    this.#outage = undefined;
  }
}

export interface RetryDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly monitor: RetryMonitor;
}

/** `no_space` is waited for as well: somebody makes room, and nothing is lost meanwhile. */
function isWorthWaiting(error: unknown): boolean {
  return isStorageError(error) && (error.retry === 'same' || error.code === 'no_space');
}

export function withRetry(inner: Backend, deps: RetryDeps, settings: RetrySettings): Backend {
  const retry = async <T>(call: () => Promise<T>, options: CallOptions = {}): Promise<T> => {
    const { signal } = options;
    for (
      let pauseMs = settings.firstPauseMs;
      ;
      pauseMs = Math.min(pauseMs * 2, settings.pauseMsMax)
    ) {
      try {
        const result = await call();
        deps.monitor.noteSuccess();
        return result;
      } catch (error) {
        if (!isWorthWaiting(error)) throw error;
        deps.monitor.noteFailure(error);
      }
      await deps.clock.sleep(pauseMs * (0.5 + deps.random.fraction()), {
        ...(signal && { signal }),
      });
    }
  };
  return {
    conditionalPut: inner.conditionalPut,
    createBucket: (name, options) => retry(() => inner.createBucket(name, options), options),
    deleteBucket: (name, options) => retry(() => inner.deleteBucket(name, options), options),
    listBuckets: (options) => retry(() => inner.listBuckets(options), options),
    bucket: (name) => retryingBucket(inner.bucket(name), retry),
    space: (options) => inner.space(options),
    close: () => inner.close(),
  };
}

function retryingBucket(
  inner: BlobStore,
  retry: <T>(call: () => Promise<T>, options?: CallOptions) => Promise<T>,
): BlobStore {
  return {
    put(key, body, options) {
      let attempts = 0;
      return retry(async () => {
        attempts += 1;
        try {
          await inner.put(key, body, options);
        } catch (error) {
          // An earlier attempt of this very put may have been stored, its answer lost.
          const isMaybeOwn = attempts > 1 && isStorageError(error, 'exists');
          if (!isMaybeOwn || !isSame(await inner.get(key, options), body)) throw error;
        }
      }, options);
    },
    get: (key, options) => retry(() => inner.get(key, options), options),
    list: (options) => retry(() => inner.list(options), options),
    deleteMany: (keys, options) => retry(() => inner.deleteMany(keys, options), options),
  };
}

function isSame(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && Buffer.compare(left, right) === 0;
}
