/**
 * A page of the block map: 256 places. A leaf (level 0) maps 256 blocks, 1 MiB of the volume; a
 * page of level n holds the places of 256 pages of level n - 1. Holes are left out, so a page over
 * scattered blocks is small. Little-endian.
 *
 *     0  u32  magic "WMAP"
 *     4  u8   version (1)
 *     5  u8   level
 *     6  u16  number of places (1 to 256)
 *     8  u64  first block that the page maps
 *    16  32 B bitmap: slot i is bit i % 8 of byte i / 8
 *    48  places in the order of their slots, 24 bytes each
 *
 * The page's CRC-32C stands in the place that points to it.
 */

import { StorageError } from '../core/errors.ts';
import { countAt } from './fields.ts';
import { isHole, placeBytes, placeWords } from './place.ts';

const magic = 0x5041_4d57;
const version = 1;
const headerBytes = 48;
const bitmapAt = 16;

/** Places of a page. */
export const pageFanout = 256;
/** Levels that 64 TiB need: 256^5 blocks are more than 2^34. */
export const pageLevelsMax = 5;
export const pageBytesMax = headerBytes + pageFanout * placeBytes;

/** Blocks that a page of this level maps. */
export function pageSpan(level: number): number {
  return pageFanout ** (level + 1);
}

export interface MapPage {
  readonly level: number;
  readonly firstBlock: number;
  /** 256 places. */
  readonly words: Uint32Array;
}

export function encodeMapPage(page: MapPage): Uint8Array {
  const { words } = page;
  const bytes = new Uint8Array(pageBytesMax);
  const view = new DataView(bytes.buffer);
  let count = 0;
  for (let slot = 0; slot < pageFanout; slot += 1) {
    const from = slot * placeWords;
    if (isHole(words, from)) continue;
    bytes[bitmapAt + (slot >> 3)] = (bytes[bitmapAt + (slot >> 3)] as number) | (1 << (slot & 7));
    const at = headerBytes + count * placeBytes;
    for (let word = 0; word < placeWords; word += 1)
      view.setUint32(at + word * 4, words[from + word] as number, true);
    count += 1;
  }
  view.setUint32(0, magic, true);
  view.setUint8(4, version);
  view.setUint8(5, page.level);
  view.setUint16(6, count, true);
  view.setBigUint64(8, BigInt(page.firstBlock), true);
  return bytes.subarray(0, headerBytes + count * placeBytes);
}

function corrupt(what: string): never {
  throw new StorageError('corrupt', `not a page of the block map: ${what}`);
}

/** Throws `corrupt`. The checksum is the caller's to verify. */
export function decodeMapPage(bytes: Uint8Array): MapPage {
  if (bytes.length < headerBytes) corrupt('too short');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== magic) corrupt('wrong magic');
  if (view.getUint8(4) !== version) corrupt('unknown version');
  const level = view.getUint8(5);
  if (level >= pageLevelsMax) corrupt('level out of range');
  const count = view.getUint16(6, true);
  if (bytes.length !== headerBytes + count * placeBytes) corrupt('wrong length');
  const words = new Uint32Array(pageFanout * placeWords);
  let at = headerBytes;
  for (let slot = 0; slot < pageFanout; slot += 1) {
    if (((bytes[bitmapAt + (slot >> 3)] as number) & (1 << (slot & 7))) === 0) continue;
    if (at + placeBytes > bytes.length) corrupt('more slots than places');
    for (let word = 0; word < placeWords; word += 1)
      words[slot * placeWords + word] = view.getUint32(at + word * 4, true);
    if (isHole(words, slot * placeWords)) corrupt('a place that is a hole');
    at += placeBytes;
  }
  if (at !== bytes.length) corrupt('fewer slots than places');
  const firstBlock = countAt(view, 8) ?? corrupt('a number is too large');
  return { level, firstBlock, words };
}
