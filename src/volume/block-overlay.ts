/**
 * One generation of changes over the block map, in memory: blocks with their new places, and
 * ranges that were trimmed. A volume stacks a few of them (see block-map.ts).
 *
 * A row beats a trimmed range: ranges are added only together with making the rows inside them
 * holes, and a later write makes its row data again. Rows are found by open addressing over typed
 * arrays, about 50 bytes a block; a block is looked up in some ten nanoseconds.
 */

import { orderBy } from '../core/order-by.ts';
import { RangeSet } from '../core/ranges.ts';
import { copyPlace, isHole, placeOrigin, placeWords } from '../format/place.ts';
import { pageFanout } from '../format/map-page.ts';

const rowsAtFirst = 64;
const rowsAStep = 16_384;
const noRow = -1;

export class BlockOverlay {
  /** Row number + 1 by hash; 0: free. Always at most half full. */
  #slots = new Int32Array(rowsAtFirst * 2);
  #blocks = new Float64Array(rowsAtFirst);
  #words = new Uint32Array(rowsAtFirst * placeWords);
  #rows = 0;
  readonly #trims = new RangeSet();
  /** Numbers of the leaves that rows fall into, for jumps over holes. */
  readonly #leaves = new Set<number>();
  #sortedLeaves: Float64Array | undefined;
  /** By how many blocks of data this generation changes what lies below it; an estimate. */
  growth = 0;

  get rowCount(): number {
    return this.#rows;
  }

  get trims(): RangeSet {
    return this.#trims;
  }

  get isEmpty(): boolean {
    return this.#rows === 0 && this.#trims.count === 0;
  }

  /** `data` (its place is then in `place`), `hole`, or `absent`: ask an older generation. */
  find(block: number, place: Uint32Array): 'data' | 'hole' | 'absent' {
    const row = this.#rowOf(block);
    if (row === noRow) return this.#trims.count > 0 && this.#trims.has(block) ? 'hole' : 'absent';
    const at = row * placeWords;
    if (isHole(this.#words, at)) return 'hole';
    copyPlace(this.#words, at, place, 0);
    return 'data';
  }

  put(block: number, place: Uint32Array, at = 0): void {
    // The row first: making it may replace the arrays.
    const to = this.#rowFor(block) * placeWords;
    copyPlace(place, at, this.#words, to);
  }

  /** As `put` with a chunk of the journal, whose places have epoch 0. */
  putJournalBlock(block: number, file: number, offset: number, bytes: number, crc: number): void {
    const at = this.#rowFor(block) * placeWords;
    const words = this.#words;
    words[at] = 0;
    words[at + 1] = file;
    words[at + 2] = offset;
    words[at + 3] = bytes;
    words[at + 4] = crc;
    words[at + 5] = 0;
  }

  trim(from: number, to: number): void {
    if (from >= to) return;
    if (to - from < this.#rows) {
      for (let block = from; block < to; block += 1) this.#clear(this.#rowOf(block));
    } else {
      for (let row = 0; row < this.#rows; row += 1) {
        const block = this.#blocks[row] as number;
        if (block >= from && block < to) this.#clear(row);
      }
    }
    this.#trims.add(from, to);
  }

  /**
   * Row numbers whose blocks hold data, in ascending order of block, in short steps. Nothing may be
   * put until the last one.
   */
  *sortedDataRows(): Generator<undefined, Uint32Array> {
    const rows = new Uint32Array(this.#rows);
    let count = 0;
    for (let row = 0; row < this.#rows; row += 1) {
      if (!isHole(this.#words, row * placeWords)) rows[count++] = row;
      if (row % rowsAStep === rowsAStep - 1) yield;
    }
    const blocks = Float64Array.from(rows.subarray(0, count), (row) => this.blockOfRow(row));
    yield;
    const order = yield* orderBy(blocks);
    for (let index = 0; index < count; index += 1) order[index] = rows[order[index] as number] ?? 0;
    return order;
  }

  /** How many rows of data come from no ancestor. */
  countOwnRows(): number {
    let count = 0;
    for (let at = 0; at < this.#rows * placeWords; at += placeWords)
      if (!isHole(this.#words, at) && placeOrigin(this.#words, at) === 0) count += 1;
    return count;
  }

  /** Row `rows[i]` lies at place `i` of `places` from now on. */
  move(rows: Uint32Array, places: Uint32Array): void {
    for (let index = 0; index < rows.length; index += 1)
      copyPlace(places, index * placeWords, this.#words, (rows[index] as number) * placeWords);
  }

  blockOfRow(row: number): number {
    return this.#blocks[row] as number;
  }

  /** Six words a row, at `row * placeWords`. Not to be kept over a `put`. */
  get words(): Uint32Array {
    return this.#words;
  }

  /** The first leaf (256 blocks each) at or after `leaf` that rows fall into, or Infinity. */
  nextLeaf(leaf: number): number {
    this.#sortedLeaves ??= Float64Array.from(this.#leaves).sort();
    const sorted = this.#sortedLeaves;
    let low = 0;
    let high = sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((sorted[middle] as number) < leaf) low = middle + 1;
      else high = middle;
    }
    return sorted[low] ?? Number.POSITIVE_INFINITY;
  }

  #clear(row: number): void {
    if (row !== noRow) this.#words.fill(0, row * placeWords, (row + 1) * placeWords);
  }

  #rowOf(block: number): number {
    const mask = this.#slots.length - 1;
    for (let slot = hash(block) & mask; ; slot = (slot + 1) & mask) {
      const row = (this.#slots[slot] as number) - 1;
      if (row === noRow || this.#blocks[row] === block) return row;
    }
  }

  /** The block's row, made where there is none. */
  #rowFor(block: number): number {
    const mask = this.#slots.length - 1;
    let slot = hash(block) & mask;
    for (; ; slot = (slot + 1) & mask) {
      const row = (this.#slots[slot] as number) - 1;
      if (row === noRow) break;
      if (this.#blocks[row] === block) return row;
    }
    if (this.#rows === this.#blocks.length) {
      this.#grow();
      return this.#rowFor(block);
    }
    const row = this.#rows++;
    this.#slots[slot] = row + 1;
    this.#blocks[row] = block;
    const leaf = Math.floor(block / pageFanout);
    if (!this.#leaves.has(leaf)) {
      this.#leaves.add(leaf);
      this.#sortedLeaves = undefined;
    }
    return row;
  }

  #grow(): void {
    const rowsMax = this.#blocks.length * 2;
    const blocks = new Float64Array(rowsMax);
    blocks.set(this.#blocks);
    const words = new Uint32Array(rowsMax * placeWords);
    words.set(this.#words);
    const slots = new Int32Array(rowsMax * 2);
    const mask = slots.length - 1;
    for (let row = 0; row < this.#rows; row += 1) {
      let slot = hash(blocks[row] as number) & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = row + 1;
    }
    this.#blocks = blocks;
    this.#words = words;
    this.#slots = slots;
  }
}

/** Mixes both halves of a block number (below 2^34), so that runs and strides spread. */
function hash(block: number): number {
  let mixed = Math.imul(
    (block | 0) ^ Math.imul((block / 0x1_0000_0000) | 0, 0x9e37_79b1),
    0x85eb_ca6b,
  );
  mixed ^= mixed >>> 15;
  mixed = Math.imul(mixed, 0xc2b2_ae35);
  return (mixed ^ (mixed >>> 13)) >>> 0;
}
