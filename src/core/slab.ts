/**
 * Memory for what lives briefly: small pieces are parts of one block, because a block of their own
 * costs more than filling them. A block goes when nobody holds a piece of it.
 */

import { KiB } from './units.ts';

const blockBytes = 64 * KiB;
/** Anything larger has a block of its own. */
const pieceBytesMax = 16 * KiB;

export class Slab {
  #block = new Uint8Array(0);
  #used = 0;

  /** Zeroes, and nobody else's. */
  take(bytes: number): Uint8Array {
    if (bytes > pieceBytesMax) return new Uint8Array(bytes);
    if (this.#used + bytes > this.#block.length) {
      this.#block = new Uint8Array(blockBytes);
      this.#used = 0;
    }
    const piece = this.#block.subarray(this.#used, this.#used + bytes);
    this.#used += bytes;
    return piece;
  }
}
