/**
 * A backend that misbehaves on order, for tests: calls are delayed, refused before or after they
 * took effect, held until released, or answered from yesterday. The refusal after the effect is
 * the one that finds bugs. Which fault a call meets is chosen by a function, a script or a seed.
 */

import { StorageError } from '../core/errors.ts';
import type { Backend, BlobStore, CallOptions } from '../ports/blob-store.ts';
import type { Random } from '../ports/random.ts';

export type Operation = 'put' | 'get' | 'list' | 'delete' | 'bucket';

/**
 * `before`: refused, nothing done. `after`: done, the answer lost. `full`: no space. `throttled`:
 * refused with a pause asked for. `stale`: a list that misses what was put since the last one.
 */
export type Fault = 'none' | 'before' | 'after' | 'full' | 'throttled' | 'stale';

export interface Faults {
  /** Asked before each call. */
  choose: (operation: Operation, key: string) => Fault;
  /** Holds a call for as long as the promise lasts. */
  delay: ((operation: Operation, key: string) => Promise<void>) | undefined;
  /** While set, calls wait for it. */
  gate: Promise<void> | undefined;
  /** Calls that came through, by operation. */
  readonly counts: Record<Operation, number>;
  /** Bytes that gets have answered. */
  bytesRead: number;
}

const retryAfterMs = 5;

export function noFaults(): Faults {
  return {
    choose: () => 'none',
    delay: undefined,
    gate: undefined,
    counts: { put: 0, get: 0, list: 0, delete: 0, bucket: 0 },
    bytesRead: 0,
  };
}

/** The faults in their order, one a call, and none behind them. */
export function scriptedFaults(script: readonly Fault[]): Faults {
  const left = [...script];
  return { ...noFaults(), choose: () => left.shift() ?? 'none' };
}

/** Each fault with its probability; the same faults for the same seed and order of calls. */
export function seededFaults(
  random: Random,
  chances: Readonly<Partial<Record<Exclude<Fault, 'none'>, number>>>,
): Faults {
  const choose = (): Fault => {
    let fate = random.fraction();
    for (const [fault, chance] of Object.entries(chances) as [Fault, number][]) {
      if (fate < chance) return fault;
      fate -= chance;
    }
    return 'none';
  };
  return { ...noFaults(), choose };
}

/** Holds all calls that come from now on; the result lets them go. */
export function stall(faults: Faults): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  faults.gate = promise;
  return () => {
    if (faults.gate === promise) faults.gate = undefined;
    resolve();
  };
}

/** The promise, or the end of the waiting by the signal. */
async function unlessAborted(
  waited: Promise<void> | undefined,
  { signal }: CallOptions = {},
): Promise<void> {
  if (!waited || !signal) return waited;
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason as Error);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([waited, promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

export function withFaults(inner: Backend, faults: Faults): Backend {
  const call = async <T>(
    operation: Operation,
    key: string,
    options: CallOptions | undefined,
    act: (fault: Fault) => Promise<T>,
  ): Promise<T> => {
    await unlessAborted(faults.delay?.(operation, key), options);
    await unlessAborted(faults.gate, options);
    const fault = faults.choose(operation, key);
    if (fault === 'before') throw new StorageError('unavailable', 'refused before it took effect');
    if (fault === 'full') throw new StorageError('no_space', 'the store is full');
    if (fault === 'throttled')
      throw new StorageError('unavailable', 'too many requests', { detail: { retryAfterMs } });
    faults.counts[operation] += 1;
    const result = await act(fault);
    if (fault === 'after') throw new StorageError('unavailable', 'the answer was lost');
    return result;
  };
  const recent = new Map<string, Set<string>>();
  const recentOf = (name: string) => {
    const keys = recent.get(name) ?? new Set<string>();
    recent.set(name, keys);
    return keys;
  };
  return {
    get conditionalPut() {
      return inner.conditionalPut;
    },
    createBucket: (name, options) =>
      call('bucket', name, options, () => inner.createBucket(name, options)),
    deleteBucket: (name, options) =>
      call('bucket', name, options, () => inner.deleteBucket(name, options)),
    listBuckets: (options) =>
      call('bucket', options.prefix, options, () => inner.listBuckets(options)),
    bucket: (name) => faultyBucket(inner.bucket(name), faults, recentOf(name), call),
    space: (options) => inner.space(options),
    close: () => inner.close(),
  };
}

function faultyBucket(
  inner: BlobStore,
  faults: Faults,
  recent: Set<string>,
  call: <T>(
    operation: Operation,
    key: string,
    options: CallOptions | undefined,
    act: (fault: Fault) => Promise<T>,
  ) => Promise<T>,
): BlobStore {
  return {
    put: (key, body, options) =>
      call('put', key, options, async () => {
        await inner.put(key, body, options);
        recent.add(key);
      }),
    async get(key, options) {
      const bytes = await call('get', key, options, () => inner.get(key, options));
      faults.bytesRead += bytes.length;
      return bytes;
    },
    list: (options) =>
      call('list', options.prefix, options, async (fault) => {
        const page = await inner.list(options);
        if (fault === 'stale')
          return { ...page, blobs: page.blobs.filter(({ key }) => !recent.has(key)) };
        recent.clear();
        return page;
      }),
    deleteMany: (keys, options) =>
      call('delete', keys[0] ?? '', options, () => inner.deleteMany(keys, options)),
  };
}
