/**
 * What is reached of each segment, in a few bits a chunk: blocks begin at multiples of 4 KiB, and no
 * two pages in the same 64 bytes. Of the blocks a sum is kept as well, of where each one is and which
 * checksum it should have, to be compared with what the segment's index says of the same blocks.
 */

import { limits } from '../core/limits.ts';
import { placeLength, placeWord } from '../format/place.ts';
import type { ChunkEntry } from '../format/segment.ts';
import type { SegmentName } from './segment-usage.ts';
import { keyOf, nameOf } from './segment-usage.ts';

const pageGrain = 64;

class Bits {
  #bytes = new Uint8Array(16);

  has(index: number): boolean {
    return ((this.#bytes[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;
  }

  set(index: number): void {
    const at = index >> 3;
    if (at >= this.#bytes.length) {
      const longer = new Uint8Array(Math.max(at + 1, this.#bytes.length * 2));
      longer.set(this.#bytes);
      this.#bytes = longer;
    }
    this.#bytes[at] = (this.#bytes[at] as number) | (1 << (index & 7));
  }
}

export interface Mark {
  readonly name: SegmentName;
  readonly hasBlocks: boolean;
  /** Whether the block at this offset is reached. */
  readonly isReached: (offset: number) => boolean;
  /** Whether the index tells the same of all that is reached. */
  readonly agrees: (chunks: readonly ChunkEntry[]) => boolean;
}

interface Reach {
  blocks: Bits | undefined;
  pages: Bits | undefined;
  sum: number;
}

export class ScrubMarks {
  readonly #segments = new Map<number, Reach>();

  has(name: SegmentName): boolean {
    return this.#segments.has(keyOf(name));
  }

  /** False where it was reached before. */
  addPage(places: Uint32Array, at: number): boolean {
    const reach = this.#reach(nameAt(places, at));
    reach.pages ??= new Bits();
    const index = Math.floor((places[at + placeWord.offset] as number) / pageGrain);
    if (reach.pages.has(index)) return false;
    reach.pages.set(index);
    return true;
  }

  addBlock(places: Uint32Array, at: number): void {
    const offset = places[at + placeWord.offset] as number;
    const checksum = places[at + placeWord.checksum] as number;
    this.#addBlock(nameAt(places, at), offset, placeLength(places, at), checksum);
  }

  /** All that a segment of the tail holds. */
  addSegment(name: SegmentName, chunks: readonly ChunkEntry[]): void {
    this.#reach(name);
    for (const { kind, offset, bytes, checksum } of chunks)
      if (kind === 'block') this.#addBlock(name, offset, bytes, checksum);
  }

  *list(): Iterable<Mark> {
    for (const [key, { blocks, sum }] of this.#segments) {
      const isReached = (offset: number) => blocks?.has(offset / limits.blockBytes) === true;
      yield {
        name: nameOf(key),
        hasBlocks: blocks !== undefined,
        isReached,
        agrees: (chunks) => {
          let found = 0;
          for (const { kind, offset, bytes, checksum } of chunks)
            if (kind === 'block' && isReached(offset))
              found = (found + mix(offset, bytes, checksum)) >>> 0;
          return found === sum;
        },
      };
    }
  }

  get count(): number {
    return this.#segments.size;
  }

  #addBlock(name: SegmentName, offset: number, bytes: number, checksum: number): void {
    const reach = this.#reach(name);
    reach.blocks ??= new Bits();
    const index = Math.floor(offset / limits.blockBytes);
    if (reach.blocks.has(index)) return;
    reach.blocks.set(index);
    reach.sum = (reach.sum + mix(offset, bytes, checksum)) >>> 0;
  }

  #reach(name: SegmentName): Reach {
    const key = keyOf(name);
    let reach = this.#segments.get(key);
    if (!reach) {
      reach = { blocks: undefined, pages: undefined, sum: 0 };
      this.#segments.set(key, reach);
    }
    return reach;
  }
}

function nameAt(places: Uint32Array, at: number): SegmentName {
  return { epoch: places[at] as number, sequence: places[at + placeWord.sequence] as number };
}

/** A step of a hash: equal sums of other blocks are one in 2^32. */
function mix(offset: number, bytes: number, checksum: number): number {
  let hash = Math.imul(offset ^ Math.imul(bytes, 0x9e37_79b1), 0x85eb_ca6b) ^ checksum;
  hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2_ae35);
  return (hash ^ (hash >>> 13)) >>> 0;
}
