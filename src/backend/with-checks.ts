/**
 * Holds callers and stores to the contract of the port, once for all stores: what is asked must be
 * allowed (`invalid` otherwise, and nothing is sent), and what is answered must be an answer to it
 * (`corrupt` otherwise). On in production; it costs nothing beside a request.
 */

import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Backend, BlobStore } from '../ports/blob-store.ts';
import {
  faultOfPage,
  isBucketName,
  isCount,
  isKey,
  isListLimit,
  isPrefix,
  type ListRequest,
} from './blob-rules.ts';

function ask(isAllowed: boolean, what: string, found: unknown): void {
  if (!isAllowed) throw new StorageError('invalid', `not a valid ${what}`, { detail: { found } });
}

function answer(fault: string | undefined, detail: Readonly<Record<string, unknown>>): void {
  if (fault !== undefined)
    throw new StorageError('corrupt', `the object store answered ${fault}`, { detail });
}

export function withChecks(inner: Backend): Backend {
  return {
    get conditionalPut() {
      return inner.conditionalPut;
    },
    async createBucket(name, options) {
      ask(isBucketName(name), 'bucket name', name);
      await inner.createBucket(name, options);
    },
    async deleteBucket(name, options) {
      ask(isBucketName(name), 'bucket name', name);
      await inner.deleteBucket(name, options);
    },
    async listBuckets(options) {
      ask(isPrefix(options.prefix), 'prefix', options.prefix);
      const names = await inner.listBuckets(options);
      const isWrong = names.some(
        (name, index) =>
          !name.startsWith(options.prefix) || (index > 0 && name <= (names[index - 1] as string)),
      );
      answer(isWrong ? 'buckets not asked for, or not in order' : undefined, { names });
      return names;
    },
    bucket(name) {
      ask(isBucketName(name), 'bucket name', name);
      return checkedBucket(inner.bucket(name));
    },
    space: (options) => inner.space(options),
    close: () => inner.close(),
  };
}

function checkList({ prefix, after = '', limit = limits.listEntriesMax }: ListRequest): void {
  ask(isPrefix(prefix), 'prefix', prefix);
  ask(isPrefix(after), 'key to list after', after);
  ask(isListLimit(limit), 'limit of a page', limit);
}

function checkedBucket(inner: BlobStore): BlobStore {
  return {
    async put(key, body, options) {
      ask(isKey(key), 'key', key);
      await inner.put(key, body, options);
    },
    async get(key, options = {}) {
      const { offset = 0, length } = options;
      ask(isKey(key), 'key', key);
      ask(isCount(offset), 'offset', offset);
      ask(length === undefined || isCount(length), 'length', length);
      const bytes = await inner.get(key, options);
      const isTooLong = length !== undefined && bytes.length > length;
      answer(isTooLong ? 'more bytes than asked for' : undefined, { key, offset, length });
      return bytes;
    },
    async list(options) {
      checkList(options);
      const page = await inner.list(options);
      answer(faultOfPage(page, options), { prefix: options.prefix });
      return page;
    },
    async deleteMany(keys, options) {
      ask(keys.length <= limits.listEntriesMax, 'number of keys to delete', keys.length);
      for (const key of keys) ask(isKey(key), 'key', key);
      await inner.deleteMany(keys, options);
    },
  };
}
