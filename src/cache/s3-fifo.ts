/**
 * S3-FIFO (Yang et al., SOSP 2023): which slot to give up. New slots enter a small queue; those
 * touched again there move to the main queue, the others leave early, so a scan does not wash out
 * what is used. A key that left the small queue and comes back enters the main queue at once.
 * All state is in typed arrays: nine bytes a slot, and a ghost of four.
 */

import { invariant } from '../core/invariant.ts';

const frequencyMax = 3;
const smallShare = 0.1;
const none = -1;

/** A queue of slots: pushed at the head, popped at the tail. */
class SlotQueue {
  readonly #next: Int32Array;
  #head = none;
  #tail = none;
  length = 0;

  constructor(next: Int32Array) {
    this.#next = next;
  }

  push(slot: number): void {
    this.#next[slot] = none;
    if (this.#head === none) this.#tail = slot;
    else this.#next[this.#head] = slot;
    this.#head = slot;
    this.length += 1;
  }

  pop(): number {
    invariant(this.#tail !== none, 'a slot is popped from a queue that has one');
    const slot = this.#tail;
    this.#tail = this.#next[slot] as number;
    if (this.#tail === none) this.#head = none;
    this.length -= 1;
    return slot;
  }
}

export class S3Fifo {
  readonly #frequency: Uint8Array;
  /** Hash of the key in each slot, for the ghost. */
  readonly #hashes: Uint32Array;
  /** Hashes of keys that left the small queue, direct-mapped; 0: none. */
  readonly #ghost: Uint32Array;
  readonly #small: SlotQueue;
  readonly #main: SlotQueue;
  readonly #smallMax: number;

  constructor(slotCount: number) {
    this.#frequency = new Uint8Array(slotCount);
    this.#hashes = new Uint32Array(slotCount);
    this.#ghost = new Uint32Array(2 ** Math.ceil(Math.log2(Math.max(2, slotCount))));
    // A slot is in one queue at a time, so they share the links.
    const next = new Int32Array(slotCount);
    this.#small = new SlotQueue(next);
    this.#main = new SlotQueue(next);
    this.#smallMax = Math.max(1, Math.floor(slotCount * smallShare));
  }

  touch(slot: number): void {
    const frequency = this.#frequency[slot] as number;
    if (frequency < frequencyMax) this.#frequency[slot] = frequency + 1;
  }

  /** The slot now holds the key of that hash. */
  admit(slot: number, hash: number): void {
    this.#frequency[slot] = 0;
    this.#hashes[slot] = hash;
    const at = hash & (this.#ghost.length - 1);
    if (this.#ghost[at] === hash && hash !== 0) {
      this.#ghost[at] = 0;
      this.#main.push(slot);
    } else this.#small.push(slot);
  }

  /** Takes a slot out; the caller forgets what it held. At least one slot was admitted. */
  evict(): number {
    for (;;) {
      if (this.#small.length > this.#smallMax || this.#main.length === 0) {
        const slot = this.#small.pop();
        if ((this.#frequency[slot] as number) > 0) {
          this.#frequency[slot] = 0;
          this.#main.push(slot);
          continue;
        }
        const hash = this.#hashes[slot] as number;
        this.#ghost[hash & (this.#ghost.length - 1)] = hash;
        return slot;
      }
      const slot = this.#main.pop();
      const frequency = this.#frequency[slot] as number;
      if (frequency === 0) return slot;
      this.#frequency[slot] = frequency - 1;
      this.#main.push(slot);
    }
  }
}
