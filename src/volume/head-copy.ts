/** A copy of the head beside the segments: with the registry gone, the buckets are enough. */

import { encodeHead, type Head } from '../format/head.ts';
import { segmentKey } from '../format/segment-key.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';

/** In place of older ones; its name is handed out like a segment's. */
export async function copyHead(
  store: BlobStore,
  head: Head,
  sequence: number,
  { checksum, signal }: { readonly checksum: Checksum; readonly signal: AbortSignal },
): Promise<void> {
  const key = `head/${segmentKey(head.epoch, sequence).slice('segment/'.length)}`;
  await store.put(key, encodeHead(head, checksum), { signal });
  const older = await store.list({ prefix: 'head/', signal });
  const stale = older.blobs.map((blob) => blob.key).filter((blob) => blob < key);
  await store.deleteMany(stale, { signal });
}
