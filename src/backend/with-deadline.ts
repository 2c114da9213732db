/**
 * Gives every attempt a deadline: a store that neither answers nor fails is one that is away. The
 * time grows with the bytes that travel, so that a slow line is slow and not down for ever. It
 * stands below the limit, because waiting for one's turn is not the store's doing.
 *
 * After the deadline the call rejects with `unavailable` and the store's answer, if it still
 * comes, is dropped. The store is told to stop by its signal. What is under way is known to the
 * monitor, so that a store that is silent is seen to be long before the deadline.
 */

import { aborted } from '../core/aborted.ts';
import { StorageError } from '../core/errors.ts';
import type { Backend, CallOptions } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';
import type { RetryMonitor } from './with-retry.ts';

export interface DeadlineSettings {
  readonly attemptMs: number;
  /** The slowest line that is still waited for. */
  readonly bytesPerSecondMin: number;
}

/** What timers can hold. */
const deadlineMsMax = 2 ** 31 - 1;
/** What a get without a range, a page or a list of deletions may carry. */
const answerBytesMax = 4 * 2 ** 20;

/** Ends a timer; no error is made for it, because nobody sees it. */
const over = Symbol('over');

export function withDeadline(
  inner: Backend,
  { clock, monitor }: { readonly clock: Clock; readonly monitor: RetryMonitor },
  settings: DeadlineSettings,
): Backend {
  const run = async <T>(
    bytes: number,
    options: CallOptions | undefined,
    call: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> => {
    const given = options?.signal;
    given?.throwIfAborted();
    const stop = new AbortController();
    const done = new AbortController();
    const onAbort = () => stop.abort(given?.reason);
    given?.addEventListener('abort', onAbort, { once: true });
    const asked = settings.attemptMs + (bytes / settings.bytesPerSecondMin) * 1000;
    const ms = Math.min(asked, deadlineMsMax);
    const late = async () => {
      await clock.sleep(ms, { signal: done.signal });
      stop.abort(new StorageError('unavailable', `no answer within ${Math.round(ms)} ms`));
    };
    // It rejects when the call is done first, which is how its timer ends.
    late().catch(() => undefined);
    const answered = monitor.noteAttempt();
    try {
      return await Promise.race([call(stop.signal), aborted(stop.signal)]);
    } finally {
      answered();
      given?.removeEventListener('abort', onAbort);
      done.abort(over);
    }
  };
  return {
    get conditionalPut() {
      return inner.conditionalPut;
    },
    createBucket: (name, options) =>
      run(0, options, (signal) => inner.createBucket(name, { signal })),
    // Its work grows with what is in the bucket: the store bounds each of its requests.
    deleteBucket: (name, options) => inner.deleteBucket(name, options),
    listBuckets: (options) =>
      run(answerBytesMax, options, (signal) => inner.listBuckets({ ...options, signal })),
    bucket(name) {
      const bucket = inner.bucket(name);
      return {
        put: (key, body, options) =>
          run(body.length, options, (signal) => bucket.put(key, body, { ...options, signal })),
        get: (key, options) =>
          run(options?.length ?? answerBytesMax, options, (signal) =>
            bucket.get(key, { ...options, signal }),
          ),
        list: (options) =>
          run(answerBytesMax, options, (signal) => bucket.list({ ...options, signal })),
        deleteMany: (keys, options) =>
          run(answerBytesMax, options, (signal) => bucket.deleteMany(keys, { ...options, signal })),
      };
    },
    space: (options) => run(0, options, (signal) => inner.space({ signal })),
    close: () => inner.close(),
  };
}
