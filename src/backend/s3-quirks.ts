/** Where S3 servers differ, and how one lives with it. */

import { createHash } from 'node:crypto';
import type { ConditionalPut } from '../ports/blob-store.ts';
import { nameOf, statusOf } from './s3-errors.ts';

/** What servers say that delete one blob at a time only. */
const refusalsOfLists: ReadonlySet<string> = new Set([
  'InvalidDigest',
  'InvalidRequest',
  'MalformedXML',
  'MethodNotAllowed',
  'MissingContentMD5',
  'NotImplemented',
]);

export function isRefusalOfLists(error: unknown): boolean {
  return refusalsOfLists.has(nameOf(error));
}

/** A list of deletions needs this header for some servers, and the library no longer sends it. */
export function addContentMd5(request: unknown): void {
  const { body, headers } = request as { body: string; headers: Record<string, string> };
  headers['content-md5'] = createHash('md5').update(body).digest('base64');
}

/** Puts twice under the condition that nothing is there, which the second time does not hold. */
export async function learnConditionalPut(
  put: () => Promise<'done' | 'refused'>,
): Promise<ConditionalPut> {
  if ((await put()) === 'refused') return 'refused';
  try {
    return (await put()) === 'done' ? 'ignored' : 'refused';
  } catch (error) {
    if (statusOf(error) === 412) return 'honoured';
    throw error;
  }
}

/** A server that does not know ranges sends all of the blob, and no Content-Range. */
export function cutRange(
  bytes: Uint8Array,
  contentRange: string | undefined,
  { offset = 0, length }: { readonly offset?: number; readonly length?: number },
): Uint8Array {
  if (contentRange !== undefined || (offset === 0 && length === undefined)) return bytes;
  return bytes.slice(offset, length === undefined ? undefined : offset + length);
}
