/** All buckets as prefixes in one real bucket, for accounts that have few (`layout: prefix`). */

import type { Backend, BlobStore } from '../ports/blob-store.ts';

const deletionsPerCall = 1000;

export function withPrefixLayout(inner: Backend, realBucket: string): Backend {
  const store = inner.bucket(realBucket);
  const inside = (name: string): BlobStore => {
    const root = `${name}/`;
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
  };
  return {
    conditionalPut: inner.conditionalPut,
    // Without a marker an empty bucket would not be listed.
    async createBucket(name, options) {
      await inner.createBucket(realBucket, options);
      await store.put(`bucket/${name}`, new Uint8Array(0), options);
    },
    async deleteBucket(name, options) {
      for (;;) {
        const page = await store.list({ ...options, prefix: `${name}/`, limit: deletionsPerCall });
        if (page.blobs.length === 0) break;
        await store.deleteMany(
          page.blobs.map(({ key }) => key),
          options,
        );
      }
      await store.deleteMany([`bucket/${name}`], options);
    },
    async listBuckets({ prefix, ...options }) {
      const names: string[] = [];
      for (let after: string | undefined; ; ) {
        const from = after === undefined ? {} : { after };
        const page = await store.list({ ...options, prefix: `bucket/${prefix}`, ...from });
        names.push(...page.blobs.map(({ key }) => key.slice('bucket/'.length)));
        after = page.next;
        if (after === undefined) return names;
      }
    },
    bucket: inside,
    space: (options) => inner.space(options),
    close: () => inner.close(),
  };
}
