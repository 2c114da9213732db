/**
 * Waits for a backend in trouble: a call is repeated until it works, until its own signal aborts,
 * until the error is one that can't get better, or until the attempts that the settings allow are
 * used up. When it is repeated is told by `core/waiting-room.ts`: an answer to any call ends the
 * wait of all. Those who wait for space are apart: a full store answers others, so the wait of all
 * ends when one of them is through. What waits is seen in the monitor.
 *
 * An outage begins with the first call that fails and ends when no call is left that has failed:
 * one lucky call among many that hang ends nothing. The log tells it once at either end, and only
 * when a call failed twice: one failure is chance. A store that takes calls and answers none of them
 * fails nothing for as long as a deadline lasts: it is seen in the monitor by its silence.
 */

import { describeError, isStorageError, StorageError } from '../core/errors.ts';
import { WaitingRoom, type WaitingSettings } from '../core/waiting-room.ts';
import type { Backend, BlobStore, CallOptions } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Random } from '../ports/random.ts';

export interface RetrySettings extends WaitingSettings {
  /** Unbounded where it is absent. */
  readonly attemptsMax?: number;
}

/** A call that waits longer for its answer is seen. */
const silenceMsMax = 2000;

/** What `wharf status` shows of the backend. */
export interface Outage {
  /** On the monotonic clock. */
  readonly sinceMs: number;
  /** Failed attempts of all calls; none yet where nothing but silence is known. */
  readonly attempts: number;
  /** Calls that have failed, or have no answer, and are not through. */
  readonly waiting: number;
  /** The last error, for people. */
  readonly error: string;
}

export class RetryMonitor {
  readonly #clock: Clock;
  readonly #log: Log;
  #outage: Outage | undefined;
  #isTold = false;
  /** Attempts that are under way, by when they began: the oldest first. */
  readonly #unanswered = new Set<{ readonly sinceMs: number }>();

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  get outage(): Outage | undefined {
    return this.#outage ?? this.#silence();
  }

  /** An attempt is made, until the function that this gives is called. */
  noteAttempt(): () => void {
    const attempt = { sinceMs: this.#clock.monotonicMs() };
    this.#unanswered.add(attempt);
    return () => this.#unanswered.delete(attempt);
  }

  #silence(): Outage | undefined {
    const nowMs = this.#clock.monotonicMs();
    const late = [...this.#unanswered].filter(({ sinceMs }) => nowMs - sinceMs > silenceMsMax);
    const [oldest] = late;
    if (!oldest) return undefined;
    const { sinceMs } = oldest;
    const error = `no answer for ${Math.round((nowMs - sinceMs) / 1000)} s`;
    return { sinceMs, attempts: 0, waiting: late.length, error };
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

export interface RetryDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly monitor: RetryMonitor;
}

/** The longest pause that a server may ask for. */
const askedPauseMsMax = 60_000;

type Retry = <T>(call: () => Promise<T>, options?: CallOptions) => Promise<T>;

/** `no_space` is waited for as well: somebody makes room, and nothing is lost meanwhile. */
function isWorthWaiting(error: unknown): boolean {
  return isStorageError(error) && (error.retry === 'same' || error.code === 'no_space');
}

/** What the server asked for. */
function askedMsIn(error: unknown): number {
  const asked = isStorageError(error) ? error.detail?.['retryAfterMs'] : undefined;
  return typeof asked === 'number' && asked > 0 ? Math.min(asked, askedPauseMsMax) : 0;
}

/** Repeats one call. Decorators and composition use it; `options` carries the call's signal. */
export function retrying(deps: RetryDeps, settings: RetrySettings): Retry {
  const { attemptsMax = Number.POSITIVE_INFINITY } = settings;
  const answer = new WaitingRoom(deps.clock, deps.random, settings);
  const space = new WaitingRoom(deps.clock, deps.random, settings);
  return async (call, options = {}) => {
    const { signal } = options;
    let failures = 0;
    let inVain = 0;
    let room: WaitingRoom | undefined;
    let end: 'answered' | 'gave_up' = 'gave_up';
    try {
      for (;;) {
        try {
          const result = await call();
          end = 'answered';
          return result;
        } catch (error) {
          if (!isWorthWaiting(error) || failures + 1 >= attemptsMax) throw error;
          failures += 1;
          deps.monitor.noteFailure(error, failures);
          const isFull = isStorageError(error, 'no_space');
          if (isFull) answer.answered();
          room = isFull ? space : answer;
          const wait = { inVain, atLeastMs: askedMsIn(error), ...(signal && { signal }) };
          inVain = (await room.wait(wait)) === 'answer' ? inVain + 1 : 0;
        }
      }
    } catch (error) {
      // An error that can't get better is an answer too.
      if (!isWorthWaiting(error) && signal?.aborted !== true) end = 'answered';
      throw error;
    } finally {
      if (failures > 0) deps.monitor.noteEnd(end);
      if (end === 'answered') answer.answered();
      if (end === 'answered' && room === space) space.answered();
    }
  };
}

export function withRetry(inner: Backend, deps: RetryDeps, settings: RetrySettings): Backend {
  const retry = retrying(deps, settings);
  return {
    get conditionalPut() {
      return inner.conditionalPut;
    },
    createBucket: (name, options) => retry(() => inner.createBucket(name, options), options),
    deleteBucket: (name, options) => retry(() => inner.deleteBucket(name, options), options),
    listBuckets: (options) => retry(() => inner.listBuckets(options), options),
    bucket: (name) => retryingBucket(inner.bucket(name), retry),
    // Whoever asks for the space wants to know it now, or that it is not known.
    space: (options) => inner.space(options),
    close: () => inner.close(),
  };
}

function retryingBucket(inner: BlobStore, retry: Retry): BlobStore {
  return {
    put(key, body, options) {
      let attempts = 0;
      return retry(async () => {
        attempts += 1;
        try {
          await inner.put(key, body, options);
        } catch (error) {
          if (attempts === 1 || !isStorageError(error, 'exists')) throw error;
          // An earlier attempt of this very put may have been stored, its answer lost.
          if (!(await isStored(inner, key, body, options))) throw error;
        }
      }, options);
    },
    get: (key, options) => retry(() => inner.get(key, options), options),
    list: (options) => retry(() => inner.list(options), options),
    deleteMany: (keys, options) => retry(() => inner.deleteMany(keys, options), options),
  };
}

async function isStored(
  inner: BlobStore,
  key: string,
  body: Uint8Array,
  options: CallOptions | undefined,
): Promise<boolean> {
  const { signal } = options ?? {};
  try {
    const stored = await inner.get(key, { ...(signal && { signal }) });
    return stored.length === body.length && Buffer.compare(stored, body) === 0;
  } catch (error) {
    if (!isStorageError(error, 'not_found')) throw error;
    throw new StorageError('unavailable', 'the blob that was in the way is gone', { cause: error });
  }
}
