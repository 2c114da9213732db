/**
 * A backend that misbehaves on order, for tests: calls are delayed, refused before or after they
 * took effect, or held until released. The second kind of refusal is the one that finds bugs.
 */

import { StorageError } from '../core/errors.ts';
import type { Backend, BlobStore } from '../ports/blob-store.ts';

export type Operation = 'put' | 'get' | 'list' | 'delete' | 'bucket';
export type Fault = 'none' | 'before' | 'after' | 'full';

export interface Faults {
  /** Asked before each call. */
  choose: (operation: Operation, key: string) => Fault;
  /** While set, calls wait for it. */
  gate: Promise<void> | undefined;
  /** Calls that came through, by operation. */
  readonly counts: Record<Operation, number>;
  /** Bytes that gets have answered. */
  bytesRead: number;
}

export function noFaults(): Faults {
  return {
    choose: () => 'none',
    gate: undefined,
    counts: { put: 0, get: 0, list: 0, delete: 0, bucket: 0 },
    bytesRead: 0,
  };
}

export function withFaults(inner: Backend, faults: Faults): Backend {
  const call = async <T>(operation: Operation, key: string, act: () => Promise<T>): Promise<T> => {
    await faults.gate;
    const fault = faults.choose(operation, key);
    if (fault === 'before') throw new StorageError('unavailable', 'refused before it took effect');
    if (fault === 'full') throw new StorageError('no_space', 'the store is full');
    faults.counts[operation] += 1;
    const result = await act();
    if (fault === 'after') throw new StorageError('unavailable', 'the answer was lost');
    return result;
  };
  return {
    conditionalPut: inner.conditionalPut,
    createBucket: (name, options) => call('bucket', name, () => inner.createBucket(name, options)),
    deleteBucket: (name, options) => call('bucket', name, () => inner.deleteBucket(name, options)),
    listBuckets: (options) => call('bucket', options.prefix, () => inner.listBuckets(options)),
    bucket(name): BlobStore {
      const bucket = inner.bucket(name);
      return {
        put: (key, body, options) => call('put', key, () => bucket.put(key, body, options)),
        async get(key, options) {
          const bytes = await call('get', key, () => bucket.get(key, options));
          faults.bytesRead += bytes.length;
          return bytes;
        },
        list: (options) => call('list', options.prefix, () => bucket.list(options)),
        deleteMany: (keys, options) =>
          call('delete', keys[0] ?? '', () => bucket.deleteMany(keys, options)),
      };
    },
    space: (options) => inner.space(options),
    close: () => inner.close(),
  };
}
