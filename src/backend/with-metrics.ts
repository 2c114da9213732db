/**
 * Counts what is asked of a backend and how long it takes. It stands below the retries, so that
 * each attempt is an observation: what the store does, not what the callers feel.
 */

import { isStorageError } from '../core/errors.ts';
import type { Backend, CallOptions } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';

/** Upper bounds of the histogram's buckets; a last bucket holds what took longer. */
export const latencyBoundsMs = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000,
] as const;

export const backendOperations = [
  ...(['put', 'get', 'list', 'delete', 'space'] as const),
  ...(['create_bucket', 'delete_bucket', 'list_buckets'] as const),
] as const;

export type BackendOperation = (typeof backendOperations)[number];

export interface OperationMetrics {
  /** Calls that have begun and not ended. */
  readonly underWay: number;
  /** Calls that have ended, however. */
  readonly calls: number;
  /** Calls that failed, by error code; `aborted` by the caller's signal, `other` by no code. */
  readonly errors: Readonly<Record<string, number>>;
  /** Of the bodies that came through. */
  readonly bytes: number;
  readonly totalMs: number;
  /** Calls by duration: one count a bound, and one for those above. */
  readonly latency: readonly number[];
}

interface Counters {
  underWay: number;
  calls: number;
  errors: Record<string, number>;
  bytes: number;
  totalMs: number;
  latency: number[];
}

function noCounts(): Counters {
  const latency = new Array<number>(latencyBoundsMs.length + 1).fill(0);
  return { underWay: 0, calls: 0, errors: {}, bytes: 0, totalMs: 0, latency };
}

export class BackendMetrics {
  readonly #clock: Clock;
  readonly #counters = Object.fromEntries(
    backendOperations.map((operation) => [operation, noCounts()]),
  ) as Record<BackendOperation, Counters>;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Live counters: they go on growing. */
  of(operation: BackendOperation): OperationMetrics {
    return this.#counters[operation];
  }

  async observe<T>(
    operation: BackendOperation,
    options: CallOptions | undefined,
    call: () => Promise<T>,
    bytesOf?: (result: T) => number,
  ): Promise<T> {
    const counters = this.#counters[operation];
    const beganMs = this.#clock.monotonicMs();
    counters.underWay += 1;
    try {
      const result = await call();
      counters.bytes += bytesOf?.(result) ?? 0;
      return result;
    } catch (error) {
      const code = isStorageError(error) ? error.code : 'other';
      const label = options?.signal?.aborted === true ? 'aborted' : code;
      counters.errors[label] = (counters.errors[label] ?? 0) + 1;
      throw error;
    } finally {
      const ms = this.#clock.monotonicMs() - beganMs;
      const bucket = latencyBoundsMs.findIndex((boundMs) => ms <= boundMs);
      const index = bucket === -1 ? latencyBoundsMs.length : bucket;
      counters.underWay -= 1;
      counters.calls += 1;
      counters.totalMs += ms;
      counters.latency[index] = (counters.latency[index] ?? 0) + 1;
    }
  }
}

export function withMetrics(inner: Backend, metrics: BackendMetrics): Backend {
  return {
    get conditionalPut() {
      return inner.conditionalPut;
    },
    createBucket: (name, options) =>
      metrics.observe('create_bucket', options, () => inner.createBucket(name, options)),
    deleteBucket: (name, options) =>
      metrics.observe('delete_bucket', options, () => inner.deleteBucket(name, options)),
    listBuckets: (options) =>
      metrics.observe('list_buckets', options, () => inner.listBuckets(options)),
    bucket(name) {
      const bucket = inner.bucket(name);
      return {
        put: (key, body, options) =>
          metrics.observe(
            'put',
            options,
            () => bucket.put(key, body, options),
            () => body.length,
          ),
        get: (key, options) =>
          metrics.observe(
            'get',
            options,
            () => bucket.get(key, options),
            (found) => found.length,
          ),
        list: (options) => metrics.observe('list', options, () => bucket.list(options)),
        deleteMany: (keys, options) =>
          metrics.observe('delete', options, () => bucket.deleteMany(keys, options)),
      };
    },
    space: (options) => metrics.observe('space', options, () => inner.space(options)),
    close: () => inner.close(),
  };
}
