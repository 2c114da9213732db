/** A copy of the head beside the segments: with the registry gone, the buckets are enough. */

import { encodeHead, type Head } from '../format/head.ts';
import { segmentKey } from '../format/segment-key.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { SegmentSequencer } from './segment-sequencer.ts';

/** In place of older ones; its name is handed out like a segment's, by the tenure that makes it. */
export async function copyHead(
  store: BlobStore,
  head: Head,
  sequencer: SegmentSequencer,
  { checksum, signal }: { readonly checksum: Checksum; readonly signal: AbortSignal },
): Promise<void> {
  const key = `head/${segmentKey(sequencer.epoch, sequencer.next()).slice('segment/'.length)}`;
  await store.put(key, encodeHead(head, checksum), { signal });
  const older = await store.list({ prefix: 'head/', signal });
  const stale = older.blobs.map((blob) => blob.key).filter((blob) => blob < key);
  await store.deleteMany(stale, { signal });
}
