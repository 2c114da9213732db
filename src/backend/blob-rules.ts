/** What the port of blobs allows, as predicates: names, ranges, pages. */

import { limits } from '../core/limits.ts';
import type { BlobPage } from '../ports/blob-store.ts';

const keyCharactersMax = 512;
const partCharactersMax = 255;

export function isBucketName(name: string): boolean {
  return /^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/.test(name);
}

export function isKey(key: string): boolean {
  return (
    key.length <= keyCharactersMax &&
    /^[A-Za-z0-9._/-]+$/.test(key) &&
    key.split('/').every((part) => part !== '' && part[0] !== '.' && isShort(part))
  );
}

const isShort = (part: string) => part.length <= partCharactersMax;

/** Of keys or of buckets: whatever a name could start with, and nothing. */
export function isPrefix(prefix: string): boolean {
  return prefix.length <= keyCharactersMax && /^[A-Za-z0-9._/-]*$/.test(prefix);
}

export function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

export function isListLimit(limit: number): boolean {
  return Number.isInteger(limit) && limit >= 1 && limit <= limits.listEntriesMax;
}

export interface ListRequest {
  readonly prefix: string;
  readonly after?: string;
  readonly limit?: number;
}

/** What is wrong with a page as the answer to `asked`, or undefined. */
export function faultOfPage(page: BlobPage, asked: ListRequest): string | undefined {
  const { prefix, limit = limits.listEntriesMax } = asked;
  let before = asked.after ?? '';
  if (page.blobs.length > limit) return 'more blobs than asked for';
  for (const { key, bytes } of page.blobs) {
    if (!key.startsWith(prefix)) return 'a key without the prefix';
    if (key <= before) return 'a key out of order';
    if (!isCount(bytes)) return 'a size that is none';
    before = key;
  }
  return page.next !== undefined && page.next < before ? 'a next page behind this one' : undefined;
}
