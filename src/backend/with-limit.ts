/**
 * Bounds what is under way at a backend at once, in requests and in bytes of bodies; the others
 * wait their turn, first come, first served. It stands below the retries, so that a call which
 * waits for the store to get better holds nothing that another call needs.
 */

import { Permits } from '../core/permits.ts';
import type { Backend, CallOptions } from '../ports/blob-store.ts';

/** What a get without a range counts for; segments have this size by default. */
const wholeBlobBytes = 4 * 2 ** 20;

export function withLimit(
  inner: Backend,
  requestsMax: number,
  { bytesMax = Number.POSITIVE_INFINITY }: { readonly bytesMax?: number } = {},
): Backend {
  const requests = new Permits(requestsMax);
  const bodies = new Permits(bytesMax);
  const run = async <T>(
    bytes: number,
    options: CallOptions | undefined,
    call: () => Promise<T>,
  ): Promise<T> => {
    const waiting = { ...(options?.signal && { signal: options.signal }) };
    await bodies.acquire(bytes, waiting);
    try {
      await requests.acquire(1, waiting);
      try {
        return await call();
      } finally {
        requests.release(1);
      }
    } finally {
      bodies.release(bytes);
    }
  };
  return {
    get conditionalPut() {
      return inner.conditionalPut;
    },
    createBucket: (name, options) => run(0, options, () => inner.createBucket(name, options)),
    deleteBucket: (name, options) => run(0, options, () => inner.deleteBucket(name, options)),
    listBuckets: (options) => run(0, options, () => inner.listBuckets(options)),
    bucket(name) {
      const bucket = inner.bucket(name);
      return {
        put: (key, body, options) =>
          run(body.length, options, () => bucket.put(key, body, options)),
        get: (key, options) =>
          run(options?.length ?? wholeBlobBytes, options, () => bucket.get(key, options)),
        list: (options) => run(0, options, () => bucket.list(options)),
        deleteMany: (keys, options) => run(0, options, () => bucket.deleteMany(keys, options)),
      };
    },
    space: (options) => run(0, options, () => inner.space(options)),
    close: () => inner.close(),
  };
}
