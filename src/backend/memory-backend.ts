/**
 * A backend in memory, for tests and for trying things out. Honours put-if-absent. It never waits,
 * so a signal has nothing to end.
 */

import { StorageError } from '../core/errors.ts';
import type { Backend, BlobStore } from '../ports/blob-store.ts';

export class MemoryBackend implements Backend {
  readonly conditionalPut = 'honoured';
  readonly #buckets = new Map<string, Map<string, Uint8Array>>();

  async createBucket(name: string): Promise<void> {
    if (!this.#buckets.has(name)) this.#buckets.set(name, new Map());
  }

  async deleteBucket(name: string): Promise<void> {
    this.#buckets.delete(name);
  }

  async listBuckets({ prefix }: { readonly prefix: string }): Promise<readonly string[]> {
    return [...this.#buckets.keys()].filter((name) => name.startsWith(prefix)).sort();
  }

  bucket(name: string): BlobStore {
    const blobs = () => {
      const found = this.#buckets.get(name);
      if (!found) throw new StorageError('not_found', 'no such bucket', { detail: { name } });
      return found;
    };
    return {
      async put(key, body, options) {
        if (options?.if === 'absent' && blobs().has(key))
          throw new StorageError('exists', 'the blob exists', { detail: { key } });
        blobs().set(key, new Uint8Array(body));
      },
      async get(key, { offset = 0, length } = {}) {
        const body = blobs().get(key);
        if (!body) throw new StorageError('not_found', 'no such blob', { detail: { key } });
        return body.slice(offset, length === undefined ? undefined : offset + length);
      },
      async list({ prefix, after = '', limit = 1000 }) {
        const keys = [...blobs().keys()].filter((key) => key.startsWith(prefix) && key > after);
        const page = keys.sort().slice(0, limit);
        const last = page.at(-1);
        return {
          blobs: page.map((key) => ({ key, bytes: blobs().get(key)?.length ?? 0 })),
          ...(last !== undefined && keys.length > limit && { next: last }),
        };
      },
      async deleteMany(keys) {
        for (const key of keys) blobs().delete(key);
      },
    };
  }

  async space(): Promise<undefined> {
    return undefined;
  }

  async close(): Promise<void> {}

  /** What lies in a bucket, for tests that damage it. */
  blobs(name: string): Map<string, Uint8Array> {
    return this.#buckets.get(name) ?? new Map<string, Uint8Array>();
  }
}
