/** Compares segments with what is reached of them: whole ones, from their start to their end. */

import { isStorageError } from '../core/errors.ts';
import type { ObjectId } from '../core/units.ts';
import { KiB } from '../core/units.ts';
import type { SegmentHeader } from '../format/segment.ts';
import { decodeSegmentHead, segmentHeaderBytes, segmentIndexBytes } from '../format/segment.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Mark, ScrubMarks } from './scrub-marks.ts';
import type { ScrubReader } from './scrub-reader.ts';
import type { SegmentName } from './segment-usage.ts';

/** Holds the index of a 4 MiB segment. */
const startBytes = 32 * KiB;
/** A transfer may have been damaged on its way; what is wrong as often as this lies there so. */
const attemptsMax = 3;

export interface ScrubSegmentDeps {
  readonly reader: ScrubReader;
  readonly checksum: Checksum;
  readonly id: ObjectId;
}

export interface BadSegment {
  readonly name: SegmentName;
  readonly what: 'is missing' | 'is cut short' | 'has a damaged index' | 'has damaged blocks';
}

/** Each segment of which something is wrong; what that means for the blocks, is another question. */
export async function* badSegments(
  deps: ScrubSegmentDeps,
  marks: ScrubMarks,
): AsyncGenerator<BadSegment> {
  for (const mark of marks.list()) {
    let what: BadSegment['what'] | undefined;
    for (let attempt = 1; attempt <= attemptsMax; attempt += 1) {
      what = await verify(deps, mark);
      if (what === undefined) break;
    }
    if (what !== undefined) yield { name: mark.name, what };
  }
}

async function verify(deps: ScrubSegmentDeps, mark: Mark): Promise<BadSegment['what'] | undefined> {
  const { reader, checksum } = deps;
  const length = mark.hasBlocks ? Number.POSITIVE_INFINITY : startBytes;
  const segment = await reader.segment(mark.name, length);
  if (!segment) return 'is missing';
  const header = await headerOf(deps, mark.name, segment);
  if (!header) return 'has a damaged index';
  if (!mark.hasBlocks) return undefined;
  for (const { kind, offset, bytes, checksum: expected } of header.chunks) {
    if (kind !== 'block' || !mark.isReached(offset)) continue;
    if (offset + bytes > segment.length) return 'is cut short';
    if (checksum.crc32c(segment.subarray(offset, offset + bytes)) !== expected)
      return 'has damaged blocks';
  }
  return mark.agrees(header.chunks) ? undefined : 'has damaged blocks';
}

/** What a segment holds, given as much of it as was read; undefined where that is damaged. */
export async function headerOf(
  { reader, checksum, id }: ScrubSegmentDeps,
  name: SegmentName,
  start?: Uint8Array,
): Promise<SegmentHeader | undefined> {
  try {
    let bytes = start ?? (await reader.segment(name, startBytes)) ?? new Uint8Array(0);
    const needed = segmentIndexBytes(bytes.subarray(0, segmentHeaderBytes));
    if (needed > bytes.length) bytes = (await reader.segment(name, needed)) ?? bytes;
    const header = decodeSegmentHead(bytes, checksum);
    const isRight =
      header.objectId === id && header.epoch === name.epoch && header.sequence === name.sequence;
    return isRight ? header : undefined;
  } catch (error) {
    if (!isStorageError(error)) throw error;
    if (error.code !== 'corrupt' && error.code !== 'invalid') throw error;
    return undefined;
  }
}
