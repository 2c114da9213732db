/**
 * An increment: what makes one snapshot of a volume of another. A header, records in ascending order
 * of their offsets, and one that says that these were all. Little-endian.
 *
 *     0  u32  magic "WINC"
 *     4  u16  version (1)
 *     6  u16  bytes of the name of the snapshot that it starts from
 *     8  u16  bytes of the name of the one that it leads to
 *    10  6 B  reserved, zero
 *    16  16 B id of the volume
 *    32  u64  size of the volume in the first snapshot, bytes
 *    40  u64  and in the second
 *    48  u64  when the first was made, nanoseconds since 1970
 *    56  u64  and the second
 *    64  both names, in UTF-8
 *     …  u32  CRC-32C of all before it
 *
 * A record:
 *
 *     0  u8   kind: 1 data, which follow; 2 zeroes; 3 the end
 *     1  7 B  reserved, zero
 *     8  u64  offset in the volume; of the end: the number of records before it
 *    16  u64  bytes: of data at most 1 MiB; of the end: those of all data before it
 *    24  u32  of data: what stood there before, as the CRC-32C over the CRC-32C of each block of
 *             4 KiB (a block that the volume's end cuts off counts with zeroes behind it)
 *    28  u32  of data: their CRC-32C
 *    32  u32  CRC-32C of bytes 0 to 31, going on from that of the record before, or of the header:
 *             none can be missing, be moved, or come from another increment
 */

import { isUtf8 } from 'node:buffer';
import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ObjectId } from '../core/units.ts';
import { objectId } from '../core/units.ts';
import type { Checksum } from '../ports/checksum.ts';
import { countAt, isZero } from './fields.ts';

const magic = 0x434e_4957;
const version = 1;
const namesAt = 64;
const nameBytesMax = 255;
const recordChecksumAt = 32;
export const incrementRecordBytes = 36;
/** Enough of the header to know its length. */
export const incrementStartBytes = namesAt;
export const incrementDataBytesMax = limits.requestBytesMax;

const kinds = { data: 1, zeroes: 2, end: 3 } as const;

export interface IncrementState {
  readonly name: string;
  /** Nanoseconds since 1970. */
  readonly createdNs: bigint;
  readonly sizeBytes: number;
}

export interface IncrementHeader {
  readonly volume: ObjectId;
  readonly from: IncrementState;
  readonly to: IncrementState;
}

export type IncrementRecord =
  | {
      readonly kind: 'data';
      readonly offset: number;
      readonly length: number;
      readonly before: number;
      readonly checksum: number;
    }
  | { readonly kind: 'zeroes'; readonly offset: number; readonly length: number }
  | { readonly kind: 'end'; readonly records: number; readonly dataBytes: number };

/** With the CRC-32C that the next record goes on from. */
export interface Chained<T> {
  readonly value: T;
  readonly chain: number;
}

/** Of blocks whose own CRC-32Cs are given: the CRC-32C of those, little-endian. */
export function blocksChecksum(checksums: Uint32Array, checksum: Checksum): number {
  const bytes = new DataView(new ArrayBuffer(checksums.length * 4));
  checksums.forEach((crc, index) => bytes.setUint32(index * 4, crc, true));
  return checksum.crc32c(new Uint8Array(bytes.buffer));
}

export function encodeIncrementHeader(
  { volume, from, to }: IncrementHeader,
  checksum: Checksum,
): Chained<Uint8Array> {
  const names = [Buffer.from(from.name), Buffer.from(to.name)] as const;
  const end = namesAt + names[0].length + names[1].length;
  const bytes = new Uint8Array(end + 4);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, magic, true);
  view.setUint16(4, version, true);
  view.setUint16(6, names[0].length, true);
  view.setUint16(8, names[1].length, true);
  bytes.set(Buffer.from(volume, 'hex'), 16);
  view.setBigUint64(32, BigInt(from.sizeBytes), true);
  view.setBigUint64(40, BigInt(to.sizeBytes), true);
  view.setBigUint64(48, from.createdNs, true);
  view.setBigUint64(56, to.createdNs, true);
  bytes.set(names[0], namesAt);
  bytes.set(names[1], namesAt + names[0].length);
  const chain = checksum.crc32c(bytes.subarray(0, end));
  view.setUint32(end, chain, true);
  return { value: bytes, chain };
}

function corrupt(what: string): never {
  throw new StorageError('corrupt', what);
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** Bytes of the whole header, told by the first 64 of them. Throws `corrupt`. */
export function incrementHeaderBytes(start: Uint8Array): number {
  const view = viewOf(start);
  if (start.length < incrementStartBytes || view.getUint32(0, true) !== magic)
    corrupt('it is no increment');
  const found = view.getUint16(4, true);
  if (found !== version) corrupt(`it is of version ${found}; known is ${version}`);
  const names = [view.getUint16(6, true), view.getUint16(8, true)] as const;
  if (names.some((length) => length === 0 || length > nameBytesMax) || !isZero(view, 10, 16))
    corrupt('its header is damaged');
  return namesAt + names[0] + names[1] + 4;
}

/** From all of its bytes. Throws `corrupt`. */
export function decodeIncrementHeader(
  bytes: Uint8Array,
  checksum: Checksum,
): Chained<IncrementHeader> {
  const end = incrementHeaderBytes(bytes) - 4;
  if (bytes.length !== end + 4) corrupt('its header is cut off');
  const view = viewOf(bytes);
  const chain = checksum.crc32c(bytes.subarray(0, end));
  if (view.getUint32(end, true) !== chain) corrupt('its header is damaged');
  const middle = namesAt + view.getUint16(6, true);
  const text = (from: number, to: number) => {
    const name = Buffer.from(bytes.subarray(from, to));
    return isUtf8(name) ? name.toString() : corrupt('its header is damaged');
  };
  const state = (name: string, index: 0 | 1) => ({
    name,
    sizeBytes: countAt(view, 32 + index * 8) ?? corrupt('its header is damaged'),
    createdNs: view.getBigUint64(48 + index * 8, true),
  });
  const value = {
    volume: objectId(Buffer.from(bytes.subarray(16, 32)).toString('hex')),
    from: state(text(namesAt, middle), 0),
    to: state(text(middle, end), 1),
  };
  return { value, chain };
}

export function encodeIncrementRecord(
  record: IncrementRecord,
  before: number,
  checksum: Checksum,
): Chained<Uint8Array> {
  const bytes = new Uint8Array(incrementRecordBytes);
  const view = viewOf(bytes);
  const isEnd = record.kind === 'end';
  view.setUint8(0, kinds[record.kind]);
  view.setBigUint64(8, BigInt(isEnd ? record.records : record.offset), true);
  view.setBigUint64(16, BigInt(isEnd ? record.dataBytes : record.length), true);
  if (record.kind === 'data') {
    view.setUint32(24, record.before, true);
    view.setUint32(28, record.checksum, true);
  }
  const chain = checksum.crc32c(bytes.subarray(0, recordChecksumAt), before);
  view.setUint32(recordChecksumAt, chain, true);
  return { value: bytes, chain };
}

/** `before`: the chain up to it. Throws `corrupt`. */
export function decodeIncrementRecord(
  bytes: Uint8Array,
  before: number,
  checksum: Checksum,
): Chained<IncrementRecord> {
  if (bytes.length !== incrementRecordBytes) corrupt('it is cut off');
  const view = viewOf(bytes);
  const chain = checksum.crc32c(bytes.subarray(0, recordChecksumAt), before);
  if (view.getUint32(recordChecksumAt, true) !== chain) corrupt('it is damaged');
  const kind = view.getUint8(0);
  const isPlain = isZero(view, 1, 8) && (kind === kinds.data || isZero(view, 24, recordChecksumAt));
  const [offset, length] = [countAt(view, 8), countAt(view, 16)];
  if (!isPlain || offset === undefined || length === undefined) return corrupt('it is damaged');
  switch (kind) {
    case kinds.data: {
      if (length === 0 || length > incrementDataBytesMax) corrupt('it is damaged');
      const [expected, own] = [view.getUint32(24, true), view.getUint32(28, true)];
      return { value: { kind: 'data', offset, length, before: expected, checksum: own }, chain };
    }
    case kinds.zeroes:
      if (length === 0) corrupt('it is damaged');
      return { value: { kind: 'zeroes', offset, length }, chain };
    case kinds.end:
      return { value: { kind: 'end', records: offset, dataBytes: length }, chain };
    default:
      return corrupt('it is damaged');
  }
}
