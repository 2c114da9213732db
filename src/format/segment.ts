/**
 * A segment: an immutable blob of chunks with their index in front, so that one range GET from its
 * start tells all it holds. Little-endian.
 *
 *     0  u32  magic "WSEG"
 *     4  u16  version (1)
 *     6  u8   kind: 1 data, 2 map
 *     7  u8   flags: bit 0: the last segment of its cut; bit 1: bytes 80 to 87 are told
 *     8  u32  bytes before the first chunk's area: header and index, rounded up to 4096
 *    12  u32  bytes of the whole segment
 *    16  16 B object id
 *    32  u32  epoch
 *    36  u32  sequence in the epoch, from 1
 *    40  u32  sequence of the first segment of the cut (data), or of the checkpoint (map)
 *    44  u32  reserved, zero
 *    48  u64  journal sequence: the last record that the cut holds
 *    56  u64  size of the volume after the cut, bytes
 *    64  u32  epoch, and
 *    68  u32  sequence of the data segment before the cut (0, 0: none): the log's backward chain
 *    72  u32  number of chunks
 *    76  u32  number of trims
 *    80  u64  journal sequence: the last record before the cut (data); a cut continues the state that
 *             ends with it
 *    88  u32  reserved, zero
 *    92  u32  CRC-32C of bytes 0 to 91 and of trims and index entries
 *    96  trims: u64 first block, u64 count; they take effect before the cut's chunks
 *     …  index: per chunk u8 kind, u8 codec (0: none), u16 level, u32 CRC-32C of the plain bytes,
 *        u64 first block, u32 offset in the segment, u32 stored bytes
 *     …  zeroes to the next multiple of 4096, then the chunks
 *
 * A cut is a run of data segments, one behind another in sequence, that holds the volume's state
 * after some record of the journal; it counts only whole. Its trims stand in its first segment.
 */

import { StorageError } from '../core/errors.ts';
import { invariant } from '../core/invariant.ts';
import { limits } from '../core/limits.ts';
import type { ObjectId } from '../core/units.ts';
import { objectId } from '../core/units.ts';
import type { Checksum } from '../ports/checksum.ts';
import { countAt, isZero } from './fields.ts';

const magic = 0x4745_5357;
const version = 1;
export const segmentHeaderBytes = 96;
export const trimEntryBytes = 16;
export const indexEntryBytes = 24;
const checksumAt = 92;
const lastOfCutFlag = 1;
const followsFlag = 2;

const segmentKinds = { data: 1, map: 2 } as const;
export type SegmentKind = keyof typeof segmentKinds;

/** `page`: a page of the block map; `usage`: a piece of the table of live bytes by segment. */
const chunkKinds = { block: 1, page: 2, usage: 3 } as const;
export type ChunkKind = keyof typeof chunkKinds;

export interface SegmentIdentity {
  readonly kind: SegmentKind;
  readonly objectId: ObjectId;
  readonly epoch: number;
  readonly sequence: number;
  readonly groupFirst: number;
  readonly lastOfCut: boolean;
  readonly journalSequence: number;
  readonly volumeBytes: number;
  /** Of data: the last record before the cut. */
  readonly followsSequence?: number;
  readonly previous: { readonly epoch: number; readonly sequence: number };
}

export interface ChunkEntry {
  readonly kind: ChunkKind;
  readonly level: number;
  readonly checksum: number;
  /** First block of the volume that the chunk stands for. */
  readonly block: number;
  readonly offset: number;
  readonly bytes: number;
}

export interface Trim {
  readonly block: number;
  readonly count: number;
}

export interface SegmentHeader extends SegmentIdentity {
  /** Where the chunks begin. */
  readonly headBytes: number;
  readonly segmentBytes: number;
  readonly trims: readonly Trim[];
  readonly chunks: readonly ChunkEntry[];
}

/** Bytes in front of the chunks of a segment with so many trims and at most so many chunks. */
export function segmentHeadBytes(trims: number, chunksMax: number): number {
  const bytes = segmentHeaderBytes + trims * trimEntryBytes + chunksMax * indexEntryBytes;
  return Math.ceil(bytes / limits.blockBytes) * limits.blockBytes;
}

function nameOf<Names extends Record<string, number>>(names: Names, code: number) {
  return (Object.keys(names) as (keyof Names)[]).find((name) => names[name] === code);
}

/** Writes header and index into the front of `segment`, whose chunks are in place. */
export function encodeSegmentHead(
  segment: Uint8Array,
  header: Omit<SegmentHeader, 'segmentBytes'>,
  checksum: Checksum,
): void {
  const { trims, chunks } = header;
  const view = new DataView(segment.buffer, segment.byteOffset, header.headBytes);
  const usedBytes =
    segmentHeaderBytes + trims.length * trimEntryBytes + chunks.length * indexEntryBytes;
  invariant(usedBytes <= header.headBytes, 'the index fits before the chunks');
  segment.fill(0, 0, header.headBytes);
  view.setUint32(0, magic, true);
  view.setUint16(4, version, true);
  view.setUint8(6, segmentKinds[header.kind]);
  const { followsSequence } = header;
  const follows = followsSequence === undefined ? 0 : followsFlag;
  view.setUint8(7, (header.lastOfCut ? lastOfCutFlag : 0) | follows);
  view.setUint32(8, header.headBytes, true);
  view.setUint32(12, segment.length, true);
  segment.set(Buffer.from(header.objectId, 'hex'), 16);
  view.setUint32(32, header.epoch, true);
  view.setUint32(36, header.sequence, true);
  view.setUint32(40, header.groupFirst, true);
  view.setBigUint64(48, BigInt(header.journalSequence), true);
  view.setBigUint64(56, BigInt(header.volumeBytes), true);
  view.setUint32(64, header.previous.epoch, true);
  view.setUint32(68, header.previous.sequence, true);
  view.setUint32(72, chunks.length, true);
  view.setUint32(76, trims.length, true);
  view.setBigUint64(80, BigInt(followsSequence ?? 0), true);
  let at = segmentHeaderBytes;
  for (const trim of trims) {
    view.setBigUint64(at, BigInt(trim.block), true);
    view.setBigUint64(at + 8, BigInt(trim.count), true);
    at += trimEntryBytes;
  }
  for (const chunk of chunks) {
    view.setUint8(at, chunkKinds[chunk.kind]);
    view.setUint16(at + 2, chunk.level, true);
    view.setUint32(at + 4, chunk.checksum, true);
    view.setBigUint64(at + 8, BigInt(chunk.block), true);
    view.setUint32(at + 16, chunk.offset, true);
    view.setUint32(at + 20, chunk.bytes, true);
    at += indexEntryBytes;
  }
  view.setUint32(checksumAt, headChecksum(segment, usedBytes, checksum), true);
}

function headChecksum(segment: Uint8Array, usedBytes: number, checksum: Checksum): number {
  const fixed = checksum.crc32c(segment.subarray(0, checksumAt));
  return checksum.crc32c(segment.subarray(segmentHeaderBytes, usedBytes), fixed);
}

function corrupt(what: string, detail?: Record<string, unknown>): never {
  throw new StorageError('corrupt', `not a segment: ${what}`, detail ? { detail } : {});
}

/** How many bytes from the start hold header and index, told by the first 96 of them. */
export function segmentIndexBytes(start: Uint8Array): number {
  if (start.length < segmentHeaderBytes) corrupt('too short');
  const view = new DataView(start.buffer, start.byteOffset, start.length);
  if (view.getUint32(0, true) !== magic) corrupt('wrong magic');
  const found = view.getUint16(4, true);
  if (found !== version) corrupt('unknown version', { found, known: version });
  const bytes =
    segmentHeaderBytes +
    view.getUint32(72, true) * indexEntryBytes +
    view.getUint32(76, true) * trimEntryBytes;
  const headBytes = view.getUint32(8, true);
  if (bytes > headBytes) corrupt('index longer than its area');
  if (headBytes > view.getUint32(12, true)) corrupt('its head longer than the segment');
  return bytes;
}

/** Decodes from the first `segmentIndexBytes` bytes (or more). Throws `corrupt`. */
export function decodeSegmentHead(start: Uint8Array, checksum: Checksum): SegmentHeader {
  const usedBytes = segmentIndexBytes(start);
  if (start.length < usedBytes) corrupt('truncated index');
  const view = new DataView(start.buffer, start.byteOffset, start.length);
  if (view.getUint32(checksumAt, true) !== headChecksum(start, usedBytes, checksum))
    corrupt('wrong checksum');
  const flags = view.getUint8(7);
  const isFollowing = (flags & followsFlag) !== 0;
  const isPlain = isZero(view, 44, 48) && isZero(view, isFollowing ? 88 : 80, checksumAt);
  if (!isPlain || flags > (lastOfCutFlag | followsFlag)) corrupt('reserved bytes are used');
  const count = (at: number) => countAt(view, at) ?? corrupt('a number is too large');
  const kind = nameOf(segmentKinds, view.getUint8(6)) ?? corrupt('unknown kind');
  const trimCount = view.getUint32(76, true);
  const trims: Trim[] = [];
  let at = segmentHeaderBytes;
  for (let index = 0; index < trimCount; index += 1, at += trimEntryBytes)
    trims.push({ block: count(at), count: count(at + 8) });
  const chunks: ChunkEntry[] = [];
  for (; at < usedBytes; at += indexEntryBytes) {
    if (view.getUint8(at + 1) !== 0) corrupt('unknown codec');
    chunks.push({
      kind: nameOf(chunkKinds, view.getUint8(at)) ?? corrupt('unknown kind of chunk'),
      level: view.getUint16(at + 2, true),
      checksum: view.getUint32(at + 4, true),
      block: count(at + 8),
      offset: view.getUint32(at + 16, true),
      bytes: view.getUint32(at + 20, true),
    });
  }
  return {
    kind,
    lastOfCut: (flags & lastOfCutFlag) !== 0,
    headBytes: view.getUint32(8, true),
    segmentBytes: view.getUint32(12, true),
    objectId: objectId(Buffer.from(start.subarray(16, 32)).toString('hex')),
    epoch: view.getUint32(32, true),
    sequence: view.getUint32(36, true),
    groupFirst: view.getUint32(40, true),
    journalSequence: count(48),
    volumeBytes: count(56),
    ...(isFollowing && { followsSequence: count(80) }),
    previous: { epoch: view.getUint32(64, true), sequence: view.getUint32(68, true) },
    trims,
    chunks,
  };
}
