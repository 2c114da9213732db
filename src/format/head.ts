/**
 * The head of a volume: its committed state, from which everything else is found. It is replaced
 * as a whole in the registry by a transaction that compares the epoch. Little-endian.
 *
 *     0  u32  magic "WHED"
 *     4  u16  version: 3, or 2 where there are no starts of tenures
 *     6  u8   level of the root page
 *     7  u8   number of starts of tenures
 *     8  u32  epoch of the tenure that committed it
 *    12  u32  number of tail ranges
 *    16  u64  size of the volume, bytes
 *    24  u64  journal sequence: the last record that the head holds
 *    32  u64  blocks that hold data (an estimate)
 *    40  24 B place of the root page (all zero: none)
 *    64  u32  number of usage pieces
 *    68  u32  number of ancestors
 *    72  tail: u32 epoch, u32 first sequence, u32 last sequence, u32 origin (as in a place): the data
 *        segments committed after the map's checkpoint, in the order in which they are applied to it
 *     …  usage: places of the pieces of the table of live bytes by segment
 *     …  ancestors: ids, 16 B each: what the volume is a clone of, what that is a clone of, and so on
 *     …  starts: u32 epoch, u64 journal sequence: of the newest tenures, the last record that each
 *        began with
 *     …  u32  CRC-32C of all before it
 */

import type { TenureStart } from '../core/changes.ts';
import { areStarts } from '../core/changes.ts';
import { StorageError } from '../core/errors.ts';
import type { ObjectId } from '../core/units.ts';
import { objectId } from '../core/units.ts';
import type { Checksum } from '../ports/checksum.ts';
import { countAt } from './fields.ts';
import { pageLevelsMax } from './map-page.ts';
import { isHole, placeBytes, placeOrigin, placeWords, setOrigin } from './place.ts';

const magic = 0x4445_4857;
const version = 3;
const versionWithoutStarts = 2;
const fixedBytes = 72;
const rangeBytes = 16;
const idBytes = 16;
const startBytes = 12;

export interface SegmentRange {
  readonly epoch: number;
  readonly first: number;
  readonly last: number;
  readonly origin: number;
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
  /** By origin, from 1 on. */
  readonly ancestors: readonly ObjectId[];
  readonly starts: readonly TenureStart[];
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
  ancestors: [],
  starts: [],
};

/** The head of a new volume that begins as `parent` was when `kept` was its head. */
export function cloneHead(kept: Head, parent: ObjectId): Head {
  const root = kept.root.slice();
  if (!isHole(root, 0)) setOrigin(root, 0, placeOrigin(root, 0) + 1);
  return {
    ...kept,
    epoch: 0,
    journalSequence: 0,
    root,
    tail: kept.tail.map((range) => ({ ...range, origin: range.origin + 1 })),
    usage: new Uint32Array(0),
    ancestors: [parent, ...kept.ancestors],
    starts: [],
  };
}

export function encodeHead(head: Head, checksum: Checksum): Uint8Array {
  const usageCount = head.usage.length / placeWords;
  const bytes = new Uint8Array(
    fixedBytes +
      head.tail.length * rangeBytes +
      usageCount * placeBytes +
      head.ancestors.length * idBytes +
      head.starts.length * startBytes +
      4,
  );
  const view = new DataView(bytes.buffer);
  view.setUint32(0, magic, true);
  view.setUint16(4, head.starts.length > 0 ? version : versionWithoutStarts, true);
  view.setUint8(6, head.rootLevel);
  view.setUint8(7, head.starts.length);
  view.setUint32(8, head.epoch, true);
  view.setUint32(12, head.tail.length, true);
  view.setBigUint64(16, BigInt(head.volumeBytes), true);
  view.setBigUint64(24, BigInt(head.journalSequence), true);
  view.setBigUint64(32, BigInt(head.dataBlocks), true);
  for (let word = 0; word < placeWords; word += 1)
    view.setUint32(40 + word * 4, head.root[word] as number, true);
  view.setUint32(64, usageCount, true);
  view.setUint32(68, head.ancestors.length, true);
  let at = fixedBytes;
  for (const range of head.tail) {
    view.setUint32(at, range.epoch, true);
    view.setUint32(at + 4, range.first, true);
    view.setUint32(at + 8, range.last, true);
    view.setUint32(at + 12, range.origin, true);
    at += rangeBytes;
  }
  for (const word of head.usage) {
    view.setUint32(at, word, true);
    at += 4;
  }
  for (const id of head.ancestors) {
    bytes.set(Buffer.from(id, 'hex'), at);
    at += idBytes;
  }
  for (const { epoch, after } of head.starts) {
    view.setUint32(at, epoch, true);
    view.setBigUint64(at + 4, BigInt(after), true);
    at += startBytes;
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
  const startCount = view.getUint8(7);
  if (view.getUint16(4, true) !== (startCount > 0 ? version : versionWithoutStarts))
    corrupt('unknown version');
  const end = bytes.length - 4;
  if (view.getUint32(end, true) !== checksum.crc32c(bytes.subarray(0, end)))
    corrupt('wrong checksum');
  const rootLevel = view.getUint8(6);
  if (rootLevel >= pageLevelsMax) corrupt('level out of range');
  const ranges = view.getUint32(12, true);
  const pieces = view.getUint32(64, true);
  const ancestorCount = view.getUint32(68, true);
  const usageAt = fixedBytes + ranges * rangeBytes;
  const ancestorsAt = usageAt + pieces * placeBytes;
  const startsAt = ancestorsAt + ancestorCount * idBytes;
  if (end !== startsAt + startCount * startBytes) corrupt('wrong length');
  const words = (at: number, count: number) =>
    Uint32Array.from({ length: count }, (_, word) => view.getUint32(at + word * 4, true));
  const count = (at: number) => countAt(view, at) ?? corrupt('a number is too large');
  const tail: SegmentRange[] = [];
  let at = fixedBytes;
  for (let index = 0; index < ranges; index += 1, at += rangeBytes)
    tail.push({
      epoch: view.getUint32(at, true),
      first: view.getUint32(at + 4, true),
      last: view.getUint32(at + 8, true),
      origin: view.getUint32(at + 12, true),
    });
  const ancestors = Array.from({ length: ancestorCount }, (_, index) => {
    const from = ancestorsAt + index * idBytes;
    return objectId(Buffer.from(bytes.subarray(from, from + idBytes)).toString('hex'));
  });
  const starts = Array.from({ length: startCount }, (_, index) => {
    const from = startsAt + index * startBytes;
    return { epoch: view.getUint32(from, true), after: count(from + 4) };
  });
  if (!areStarts(starts)) corrupt('starts of tenures are out of order');
  return {
    rootLevel,
    epoch: view.getUint32(8, true),
    volumeBytes: count(16),
    journalSequence: count(24),
    dataBlocks: count(32),
    root: words(40, placeWords),
    tail,
    usage: words(usageAt, pieces * placeWords),
    ancestors,
    starts,
  };
}
