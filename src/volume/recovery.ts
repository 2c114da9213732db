/**
 * Opening a volume is always recovery: the head from the registry, the indexes of the segments
 * committed after its checkpoint, then the journal's tail. Its cost depends on those alone, not on
 * the volume's size.
 */

import { isStorageError, StorageError } from '../core/errors.ts';
import type { ObjectId } from '../core/units.ts';
import type { Head, SegmentRange } from '../format/head.ts';
import { decodeHead } from '../format/head.ts';
import { placeWords, setOrigin, setPlace } from '../format/place.ts';
import type { SegmentHeader } from '../format/segment.ts';
import { decodeSegmentHead, segmentHeaderBytes, segmentIndexBytes } from '../format/segment.ts';
import { segmentKey } from '../format/segment-key.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Heads } from '../registry/object-records.ts';
import type { BlockMap } from './block-map.ts';
import type { SegmentName } from './segment-usage.ts';

/** Enough for the index of a 4 MiB segment in one request. */
const firstReadBytes = 32 * 1024;
const readsAtOnce = 16;
/** A transfer may have been damaged on its way; what is wrong as often as this lies there so. */
const attemptsMax = 3;

/** Undefined where none was ever committed. */
export async function findHead(
  heads: Heads,
  id: ObjectId,
  checksum: Checksum,
): Promise<Head | undefined> {
  const bytes = await heads.loadHead(id);
  return bytes && decodeHead(bytes, checksum);
}

/** The data segment that was committed last. */
export function lastDataSegment(head: Head): SegmentName {
  const last = head.tail.at(-1);
  return last?.origin === 0
    ? { epoch: last.epoch, sequence: last.last }
    : { epoch: 0, sequence: 0 };
}

/** Where the segments of a volume are, or those of an ancestor. */
export interface Bucket {
  readonly id: ObjectId;
  readonly store: BlobStore;
}

export interface TailDeps {
  /** By origin, the volume's own first. */
  readonly buckets: readonly Bucket[];
  readonly checksum: Checksum;
  readonly signal: AbortSignal;
}

/** Brings the head's tail into the map's delta, in the order of the log. */
export async function applyTail(
  deps: TailDeps,
  tail: readonly SegmentRange[],
  map: BlockMap,
): Promise<void> {
  const names = tail.flatMap(({ epoch, first, last, origin }) =>
    Array.from({ length: last - first + 1 }, (_, index) => ({
      ...{ epoch, sequence: first + index, origin },
    })),
  );
  for (let first = 0; first < names.length; first += readsAtOnce) {
    const batch = names.slice(first, first + readsAtOnce);
    const headers = await Promise.all(batch.map((name) => readIndex(deps, name, name.origin)));
    for (const [index, header] of headers.entries())
      applySegment(header, (batch[index] as (typeof batch)[number]).origin, map);
  }
}

function applySegment(header: SegmentHeader, origin: number, map: BlockMap): void {
  map.applyTrims(header.trims.map(({ block, count }) => [block, block + count] as const));
  const place = new Uint32Array(placeWords);
  for (const { kind, block, offset, bytes, checksum } of header.chunks) {
    if (kind !== 'block') continue;
    setPlace(place, 0, header.epoch, header.sequence, offset, bytes, checksum);
    setOrigin(place, 0, origin);
    map.applyBlock(block, place);
  }
}

/** What a segment holds. `corrupt` where that can't be read. */
export async function readIndex(
  deps: TailDeps,
  name: SegmentName,
  origin = 0,
): Promise<SegmentHeader> {
  const bucket = deps.buckets[origin] ?? unknownAncestor();
  for (let attempt = 1; ; attempt += 1)
    try {
      return await tryReadIndex(deps, bucket, name);
    } catch (error) {
      if (!isStorageError(error, 'not_found') && !isStorageError(error, 'corrupt')) throw error;
      if (attempt < attemptsMax) continue;
      const key = segmentKey(name.epoch, name.sequence);
      throw new StorageError(
        'corrupt',
        `volume ${bucket.id} can't be opened: the index of committed segment ${key} is missing or damaged`,
        { cause: error },
      );
    }
}

async function tryReadIndex(
  { checksum, signal }: TailDeps,
  { id, store }: Bucket,
  name: SegmentName,
): Promise<SegmentHeader> {
  const key = segmentKey(name.epoch, name.sequence);
  let start = await store.get(key, { offset: 0, length: firstReadBytes, signal });
  const bytes = segmentIndexBytes(start.subarray(0, segmentHeaderBytes));
  if (bytes > start.length) start = await store.get(key, { offset: 0, length: bytes, signal });
  const header = decodeSegmentHead(start, checksum);
  const isRight =
    header.objectId === id && header.epoch === name.epoch && header.sequence === name.sequence;
  if (!isRight) throw new StorageError('corrupt', 'a segment stands under a wrong name');
  return header;
}

function unknownAncestor(): never {
  throw new StorageError('corrupt', 'a segment is of an ancestor that is not known');
}
