/**
 * All buckets as prefixes in one real bucket, for accounts that have few (`layout: prefix`):
 * `NAME/key` is a blob, `_buckets/NAME` says that the bucket is there, for an empty one would not
 * be seen otherwise. No bucket can be called `_buckets`.
 *
 * A put into a bucket that was never made, or was deleted, is not noticed: to look first would
 * cost a request and prove nothing.
 */

import { isStorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Backend, BlobStore, CallOptions } from '../ports/blob-store.ts';

const markers = '_buckets/';

export function withPrefixLayout(inner: Backend, realBucket: string): Backend {
  const store = inner.bucket(realBucket);
  return {
    get conditionalPut() {
      return inner.conditionalPut;
    },
    async createBucket(name, options) {
      await inner.createBucket(realBucket, options);
      await store.put(markers + name, new Uint8Array(0), options);
    },
    // The marker goes last: what was cut short is still listed, and is deleted the next time.
    deleteBucket: (name, options) =>
      unlessMissing(undefined, async () => {
        for (;;) {
          const page = await store.list({ ...options, prefix: `${name}/` });
          if (page.blobs.length === 0 && page.next === undefined) break;
          const keys = page.blobs.map(({ key }) => key);
          await store.deleteMany(keys, options);
        }
        await store.deleteMany([markers + name], options);
      }),
    listBuckets: ({ prefix, ...options }) =>
      unlessMissing([], async () => {
        const keys = await allKeys(store, markers + prefix, options);
        return keys.map((key) => key.slice(markers.length));
      }),
    bucket: (name) => bucketInside(store, `${name}/`),
    space: (options) => inner.space(options),
    close: () => inner.close(),
  };
}

/** The real bucket is made with the first bucket in it. */
async function unlessMissing<T>(nothing: T, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (isStorageError(error, 'not_found')) return nothing;
    throw error;
  }
}

async function allKeys(store: BlobStore, prefix: string, options: CallOptions): Promise<string[]> {
  const keys: string[] = [];
  for (let after: string | undefined; ; ) {
    const from = after === undefined ? {} : { after };
    const page = await store.list({ ...options, prefix, limit: limits.listEntriesMax, ...from });
    keys.push(...page.blobs.map(({ key }) => key));
    after = page.next;
    if (after === undefined) return keys;
  }
}

function bucketInside(store: BlobStore, root: string): BlobStore {
  const strip = (key: string) => key.slice(root.length);
  return {
    put: (key, body, options) => store.put(root + key, body, options),
    get: (key, options) => store.get(root + key, options),
    async list({ prefix, after, ...options }) {
      const from = after === undefined ? {} : { after: root + after };
      const page = await store.list({ ...options, prefix: root + prefix, ...from });
      const blobs = page.blobs.map(({ key, bytes }) => ({ key: strip(key), bytes }));
      return { blobs, ...(page.next !== undefined && { next: strip(page.next) }) };
    },
    deleteMany: (keys, options) =>
      store.deleteMany(
        keys.map((key) => root + key),
        options,
      ),
  };
}
