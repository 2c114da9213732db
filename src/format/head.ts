/**
 * The head of a volume: its committed state, from which everything else is found. It is replaced
 * as a whole in the registry by a transaction that compares the epoch. Little-endian.
 *
 *     0  u32  magic "WHED"
 *     4  u16  version (1)
 *     6  u8   level of the root page
 *     7  u8   reserved, zero
 *     8  u32  epoch of the tenure that committed it
 *    12  u32  number of tail ranges
 *    16  u64  size of the volume, bytes
 *    24  u64  journal sequence: the last record that the head holds
 *    32  u64  blocks that hold data (an estimate)
 *    40  24 B place of the root page (all zero: none)
 *    64  u32  number of usage pieces
 *    68  u32  reserved, zero
 *    72  tail: u32 epoch, u32 first sequence, u32 last sequence: the data segments committed after
 *        the map's checkpoint, in the order in which they are applied to it
 *     …  usage: places of the pieces of the table of live bytes by segment
 *     …  u32  CRC-32C of all before it
 */

import { StorageError } from '../core/errors.ts';
import type { Checksum } from '../ports/checksum.ts';
import { placeBytes, placeWords } from './place.ts';

const magic = 0x4445_4857;
const version = 1;
const fixedBytes = 72;
const rangeBytes = 12;

export interface SegmentRange {
  readonly epoch: number;
  readonly first: number;
  readonly last: number;
}

export interface Head {
  readonly epoch: number;
  readonly volumeBytes: number;
  readonly journalSequence: number;
  readonly dataBlocks: number;
  readonly rootLevel: number;
  /** One place. */
  readonly root: Uint32Array;
  readonly tail: readonly SegmentRange[];
  /** Places, six words each. */
  readonly usage: Uint32Array;
}

export const emptyHead: Head = {
  epoch: 0,
  volumeBytes: 0,
  journalSequence: 0,
  dataBlocks: 0,
  rootLevel: 0,
  root: new Uint32Array(placeWords),
  tail: [],
  usage: new Uint32Array(0),
};

export function encodeHead(head: Head, checksum: Checksum): Uint8Array {
  const usageCount = head.usage.length / placeWords;
  const bytes = new Uint8Array(
    fixedBytes + head.tail.length * rangeBytes + usageCount * placeBytes + 4,
  );
  const view = new DataView(bytes.buffer);
  view.setUint32(0, magic, true);
  view.setUint16(4, version, true);
  view.setUint8(6, head.rootLevel);
  view.setUint32(8, head.epoch, true);
  view.setUint32(12, head.tail.length, true);
  view.setBigUint64(16, BigInt(head.volumeBytes), true);
  view.setBigUint64(24, BigInt(head.journalSequence), true);
  view.setBigUint64(32, BigInt(head.dataBlocks), true);
  for (let word = 0; word < placeWords; word += 1)
    view.setUint32(40 + word * 4, head.root[word] as number, true);
  view.setUint32(64, usageCount, true);
  let at = fixedBytes;
  for (const range of head.tail) {
    view.setUint32(at, range.epoch, true);
    view.setUint32(at + 4, range.first, true);
    view.setUint32(at + 8, range.last, true);
    at += rangeBytes;
  }
  for (const word of head.usage) {
    view.setUint32(at, word, true);
    at += 4;
  }
  view.setUint32(at, checksum.crc32c(bytes.subarray(0, at)), true);
  return bytes;
}

function corrupt(what: string): never {
  throw new StorageError('corrupt', `not the head of a volume: ${what}`);
}

/** Throws `corrupt`. */
export function decodeHead(bytes: Uint8Array, checksum: Checksum): Head {
  if (bytes.length < fixedBytes + 4) corrupt('too short');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== magic) corrupt('wrong magic');
  if (view.getUint16(4, true) !== version) corrupt('unknown version');
  const end = bytes.length - 4;
  if (view.getUint32(end, true) !== checksum.crc32c(bytes.subarray(0, end)))
    corrupt('wrong checksum');
  const ranges = view.getUint32(12, true);
  const pieces = view.getUint32(64, true);
  if (end !== fixedBytes + ranges * rangeBytes + pieces * placeBytes) corrupt('wrong length');
  const words = (at: number, count: number) =>
    Uint32Array.from({ length: count }, (_, word) => view.getUint32(at + word * 4, true));
  const tail: SegmentRange[] = [];
  let at = fixedBytes;
  for (let index = 0; index < ranges; index += 1, at += rangeBytes)
    tail.push({
      epoch: view.getUint32(at, true),
      first: view.getUint32(at + 4, true),
      last: view.getUint32(at + 8, true),
    });
  return {
    rootLevel: view.getUint8(6),
    epoch: view.getUint32(8, true),
    volumeBytes: Number(view.getBigUint64(16, true)),
    journalSequence: Number(view.getBigUint64(24, true)),
    dataBlocks: Number(view.getBigUint64(32, true)),
    root: words(40, placeWords),
    tail,
    usage: words(at, pieces * placeWords),
  };
}
