/**
 * The journal of a volume, on local SSD: files of records. Little-endian, records aligned to 64
 * bytes.
 *
 * File header, 64 bytes:
 *
 *     0  u32  magic "WJFL"
 *     4  u16  version (1)
 *     6  u16  reserved, zero
 *     8  u32  number of the file, from 1
 *    12  u32  epoch of the tenure that began it
 *    16  u64  sequence of its first record
 *    24  36 B reserved, zero
 *    60  u32  CRC-32C of bytes 0 to 59
 *
 * Record: header, 64 bytes; checksum table, 4 bytes for each block of payload; zeroes to the next
 * multiple of 64; payload:
 *
 *     0  u32  magic "WJRC"
 *     4  u8   kind: 1 write, 2 trim, 3 resize
 *     5  u8   codec of the payload (0: none)
 *     6  u16  blocks of payload, 0 to 256
 *     8  u32  epoch
 *    12  u32  tag of the volume, so that a journal inside a guest's data is not taken for this one
 *    16  u64  sequence: consecutive over all files of the journal
 *    24  u64  sequence of the last record that was durable when this one was appended
 *    32  u64  first block
 *    40  u64  blocks (of a write: as many as its payload has; of a resize: its payload's, 0 or 1)
 *    48  u64  size of the volume after the record, bytes
 *    56  u32  reserved, zero
 *    60  u32  CRC-32C of bytes 0 to 59 and of the checksum table
 *
 * The payload has a CRC-32C for each block, in the table; the header's says that the table is
 * right. What is left of an older record in a file is told by its sequence.
 */

import { StorageError } from '../core/errors.ts';
import { invariant } from '../core/invariant.ts';
import { limits } from '../core/limits.ts';
import type { Checksum } from '../ports/checksum.ts';
import { countAt, isZero } from './fields.ts';

const fileMagic = 0x4c46_4a57;
const recordMagic = 0x4352_4a57;
const version = 1;
const checksumAt = 60;

export const journalAlignment = 64;
export const fileHeaderBytes = 64;
export const recordHeaderBytes = 64;
export const payloadBlocksMax = limits.requestBytesMax / limits.blockBytes;

const kinds = { write: 1, trim: 2, resize: 3 } as const;
export type RecordKind = keyof typeof kinds;

export interface FileHeader {
  readonly number: number;
  readonly epoch: number;
  readonly firstSequence: number;
}

export interface RecordHeader {
  readonly kind: RecordKind;
  readonly epoch: number;
  readonly tag: number;
  readonly sequence: number;
  readonly durableSequence: number;
  readonly block: number;
  readonly count: number;
  readonly volumeBytes: number;
  /** CRC-32C of each block of payload. */
  readonly checksums: Uint32Array;
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / journalAlignment) * journalAlignment;
}

/** Bytes from a record's start to its payload. */
export function payloadOffset(payloadBlocks: number): number {
  return aligned(recordHeaderBytes + payloadBlocks * 4);
}

/** Bytes of a whole record. */
export function recordBytes(payloadBlocks: number): number {
  return payloadOffset(payloadBlocks) + payloadBlocks * limits.blockBytes;
}

export function encodeFileHeader(header: FileHeader, checksum: Checksum): Uint8Array {
  const bytes = new Uint8Array(fileHeaderBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, fileMagic, true);
  view.setUint16(4, version, true);
  view.setUint32(8, header.number, true);
  view.setUint32(12, header.epoch, true);
  view.setBigUint64(16, BigInt(header.firstSequence), true);
  view.setUint32(checksumAt, checksum.crc32c(bytes.subarray(0, checksumAt)), true);
  return bytes;
}

/** Undefined where there is no whole header. One that nobody here understands is an error. */
export function decodeFileHeader(bytes: Uint8Array, checksum: Checksum): FileHeader | undefined {
  if (bytes.length < fileHeaderBytes) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, fileHeaderBytes);
  if (view.getUint32(0, true) !== fileMagic) return undefined;
  if (view.getUint32(checksumAt, true) !== checksum.crc32c(bytes.subarray(0, checksumAt)))
    return undefined;
  const found = view.getUint16(4, true);
  if (found !== version)
    throw new StorageError('corrupt', `journal of version ${found}; this is version ${version}`);
  const firstSequence = countAt(view, 16);
  if (firstSequence === undefined || !isZero(view, 6, 8) || !isZero(view, 24, checksumAt))
    throw new StorageError('corrupt', 'the header of a journal file is not valid');
  return { number: view.getUint32(8, true), epoch: view.getUint32(12, true), firstSequence };
}

/** Writes numbers of up to 2^53 as u64 without a bigint: this is on the path of every write. */
function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Fills `scratch` from its start with header, table and padding; gives their bytes. */
export function encodeRecordHead(
  scratch: Uint8Array,
  view: DataView,
  header: RecordHeader,
  checksum: Checksum,
): number {
  const blocks = header.checksums.length;
  invariant(blocks <= payloadBlocksMax, 'a payload is at most one request');
  const bytes = payloadOffset(blocks);
  const tableEnd = recordHeaderBytes + blocks * 4;
  scratch.fill(0, 0, recordHeaderBytes);
  scratch.fill(0, tableEnd, bytes);
  view.setUint32(0, recordMagic, true);
  view.setUint8(4, kinds[header.kind]);
  view.setUint16(6, blocks, true);
  view.setUint32(8, header.epoch, true);
  view.setUint32(12, header.tag, true);
  setU64(view, 16, header.sequence);
  setU64(view, 24, header.durableSequence);
  setU64(view, 32, header.block);
  setU64(view, 40, header.count);
  setU64(view, 48, header.volumeBytes);
  for (let index = 0; index < blocks; index += 1)
    view.setUint32(recordHeaderBytes + index * 4, header.checksums[index] as number, true);
  view.setUint32(checksumAt, headChecksum(scratch, tableEnd, checksum), true);
  return bytes;
}

function headChecksum(bytes: Uint8Array, tableEnd: number, checksum: Checksum): number {
  const fixed = checksum.crc32c(bytes.subarray(0, checksumAt));
  return checksum.crc32c(bytes.subarray(recordHeaderBytes, tableEnd), fixed);
}

/** The header and table at the start of `bytes`; undefined where there is no whole, right one. */
export function decodeRecordHead(bytes: Uint8Array, checksum: Checksum): RecordHeader | undefined {
  if (bytes.length < recordHeaderBytes) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== recordMagic) return undefined;
  const blocks = view.getUint16(6, true);
  const tableEnd = recordHeaderBytes + blocks * 4;
  if (blocks > payloadBlocksMax || bytes.length < tableEnd) return undefined;
  if (view.getUint32(checksumAt, true) !== headChecksum(bytes, tableEnd, checksum))
    return undefined;
  const kind = (Object.keys(kinds) as RecordKind[]).find(
    (name) => kinds[name] === view.getUint8(4),
  );
  if (kind === undefined || view.getUint8(5) !== 0 || !isZero(view, 56, checksumAt))
    return undefined;
  const counts = [16, 24, 32, 40, 48].map((at) => countAt(view, at) ?? -1);
  if (Math.min(...counts) < 0) return undefined;
  const [sequence = 0, durableSequence = 0, block = 0, count = 0, volumeBytes = 0] = counts;
  if (!isPayloadOf(kind, count, blocks)) return undefined;
  const checksums = Uint32Array.from({ length: blocks }, (_, index) =>
    view.getUint32(recordHeaderBytes + index * 4, true),
  );
  return {
    kind,
    epoch: view.getUint32(8, true),
    tag: view.getUint32(12, true),
    ...{ sequence, durableSequence, block, count, volumeBytes, checksums },
  };
}

/** Whether a record about `count` blocks has a payload of so many. */
function isPayloadOf(kind: RecordKind, count: number, blocks: number): boolean {
  if (kind === 'trim') return blocks === 0;
  return blocks === count && (kind === 'write' || blocks <= 1);
}

/** Length and sequence of the record at the start of `bytes`, unchecked; undefined where cut short. */
export function peekRecord(
  bytes: Uint8Array,
): { readonly bytes: number; readonly sequence: number } | undefined {
  if (bytes.length < recordHeaderBytes) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const length = recordBytes(view.getUint16(6, true));
  if (length > bytes.length) return undefined;
  return { bytes: length, sequence: Number(view.getBigUint64(16, true)) };
}
