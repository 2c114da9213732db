/** Bounds the requests that are under way at a backend at once; the others wait their turn. */

import { Permits } from '../core/permits.ts';
import type { Backend } from '../ports/blob-store.ts';

export function withLimit(inner: Backend, requestsMax: number): Backend {
  const permits = new Permits(requestsMax);
  return {
    conditionalPut: inner.conditionalPut,
    createBucket: (name, options) => permits.run(1, () => inner.createBucket(name, options)),
    deleteBucket: (name, options) => permits.run(1, () => inner.deleteBucket(name, options)),
    listBuckets: (options) => permits.run(1, () => inner.listBuckets(options)),
    bucket(name) {
      const bucket = inner.bucket(name);
      return {
        put: (key, body, options) => permits.run(1, () => bucket.put(key, body, options)),
        get: (key, options) => permits.run(1, () => bucket.get(key, options)),
        list: (options) => permits.run(1, () => bucket.list(options)),
        deleteMany: (keys, options) => permits.run(1, () => bucket.deleteMany(keys, options)),
      };
    },
    space: (options) => inner.space(options),
    close: () => inner.close(),
  };
}
