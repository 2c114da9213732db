/**
 * Where a chunk lies, as six 32-bit words; the entry of the block map and of every page pointer:
 *
 *   word 0  epoch of the segment; 0: the chunk lies in the journal
 *   word 1  sequence of the segment in its epoch; in the journal: number of the file
 *   word 2  bytes from the start of the segment or journal file
 *   word 3  stored bytes (24 bits) | codec << 24 (0: none)
 *   word 4  CRC-32C of the chunk's plain bytes
 *   word 5  origin << 16: whose segment: 0: of the volume that holds this place; n: of its n-th
 *           ancestor (1: what it is a clone of)
 *
 * All words zero: a hole. Places live in `Uint32Array`s, never as objects: a million of them are
 * looked up for less than one I/O costs.
 */

export const placeWords = 6;
export const placeBytes = placeWords * 4;

export const placeWord = {
  epoch: 0,
  sequence: 1,
  offset: 2,
  length: 3,
  checksum: 4,
  origin: 5,
} as const;

/**
 * An epoch that no tenure has: what this place stood for is lost (its page could not be read when
 * the map was rewritten). Reading it is `corrupt`; writing over it heals it.
 */
export const lostEpoch = 0xffff_ffff;

const lengthMask = 0x00ff_ffff;

export function placeLength(words: Uint32Array, at: number): number {
  return (words[at + placeWord.length] as number) & lengthMask;
}

/** Codec 0, origin 0. */
export function setPlace(
  words: Uint32Array,
  at: number,
  epoch: number,
  sequence: number,
  offset: number,
  length: number,
  checksum: number,
): void {
  words[at] = epoch;
  words[at + 1] = sequence;
  words[at + 2] = offset;
  words[at + 3] = length;
  words[at + 4] = checksum;
  words[at + 5] = 0;
}

export function placeOrigin(words: Uint32Array, at: number): number {
  return (words[at + placeWord.origin] as number) >>> 16;
}

export function setOrigin(words: Uint32Array, at: number, origin: number): void {
  words[at + placeWord.origin] = (origin << 16) >>> 0;
}

/** Places as an ancestor holds them become places as its `distance`-th descendant does. */
export function shiftOrigins(words: Uint32Array, distance: number): void {
  if (distance === 0) return;
  for (let at = 0; at < words.length; at += placeWords)
    if (!isHole(words, at)) setOrigin(words, at, placeOrigin(words, at) + distance);
}

export function isHole(words: Uint32Array, at: number): boolean {
  return words[at + placeWord.length] === 0;
}

export function copyPlace(from: Uint32Array, at: number, to: Uint32Array, toAt: number): void {
  for (let word = 0; word < placeWords; word += 1) to[toAt + word] = from[at + word] as number;
}

export function samePlace(left: Uint32Array, at: number, right: Uint32Array, rightAt: number) {
  for (let word = 0; word < placeWords; word += 1)
    if (left[at + word] !== right[rightAt + word]) return false;
  return true;
}
