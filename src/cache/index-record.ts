/**
 * The index of the cache on SSD: a record for each slot, at the slot's number times 64 bytes.
 * Little-endian.
 *
 *     0  u32  magic "WCIX"
 *     4  u16  version (1)
 *     6  u16  a bit for each 4 KiB part of the line that the slot holds, from the lowest on
 *     8  16 B object id
 *    24  u32  epoch of the segment
 *    28  u32  sequence of the segment
 *    32  u32  index of the line in the segment
 *    36  24 B reserved, zero
 *    60  u32  CRC-32C of all before it
 *
 * Whatever is no record stands for an empty slot: torn, damaged, of another version, zeroes.
 */

import type { ObjectId } from '../core/units.ts';
import { objectId } from '../core/units.ts';
import { isZero } from '../format/fields.ts';
import type { Checksum } from '../ports/checksum.ts';

export const indexRecordBytes = 64;
const checksumAt = 60;
const magic = 0x5849_4357;
const version = 1;
/** The CRC-32C of any bytes followed by their own CRC-32C. */
const residue = 0x4867_4bc7;

export interface StoredLine {
  readonly slot: number;
  readonly id: ObjectId;
  readonly epoch: number;
  readonly sequence: number;
  readonly line: number;
  /** Not 0. */
  readonly valid: number;
}

export function encodeIndexRecord(line: StoredLine, into: Uint8Array, checksum: Checksum): void {
  const view = new DataView(into.buffer, into.byteOffset, indexRecordBytes);
  into.fill(0, 0, indexRecordBytes);
  view.setUint32(0, magic, true);
  view.setUint16(4, version, true);
  view.setUint16(6, line.valid, true);
  into.set(Buffer.from(line.id, 'hex'), 8);
  view.setUint32(24, line.epoch, true);
  view.setUint32(28, line.sequence, true);
  view.setUint32(32, line.line, true);
  view.setUint32(checksumAt, checksum.crc32c(into.subarray(0, checksumAt)), true);
}

/** Hands out the lines of the whole records in `bytes`, the first of which is that of `firstSlot`. */
export function decodeIndexRecords(
  bytes: Uint8Array,
  firstSlot: number,
  checksum: Checksum,
  found: (line: StoredLine) => void,
): void {
  const count = Math.floor(bytes.length / indexRecordBytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const checksums = new Uint32Array(count);
  checksum.crc32cBlocks(bytes, indexRecordBytes, checksums, 0);
  // Lines of one object come in long runs.
  let idAt = -1;
  let id: ObjectId | undefined;
  for (let index = 0; index < count; index += 1) {
    const at = index * indexRecordBytes;
    if (checksums[index] !== residue) continue;
    if (view.getUint32(at, true) !== magic || view.getUint16(at + 4, true) !== version) continue;
    const valid = view.getUint16(at + 6, true);
    if (valid === 0 || !isZero(view, at + 36, at + checksumAt)) continue;
    if (id === undefined || !isSameId(view, idAt, at + 8)) {
      idAt = at + 8;
      id = objectId(Buffer.from(bytes.subarray(idAt, idAt + 16)).toString('hex'));
    }
    found({
      ...{ slot: firstSlot + index, id, valid },
      epoch: view.getUint32(at + 24, true),
      sequence: view.getUint32(at + 28, true),
      line: view.getUint32(at + 32, true),
    });
  }
}

function isSameId(view: DataView, left: number, right: number): boolean {
  for (let at = 0; at < 16; at += 4)
    if (view.getUint32(left + at) !== view.getUint32(right + at)) return false;
  return true;
}
