/**
 * S3-FIFO (Yang et al., SOSP 2023): which slot to give up. New slots enter a small queue; those
 * used again there move to the main queue, the others leave early, so a scan does not wash out
 * what is used. A key that left the small queue and comes back enters the main queue at once.
 * All state is in typed arrays: 14 bytes a slot, and a ghost of four to eight.
 */

import { invariant } from '../core/invariant.ts';

const frequencyMax = 3;
const smallShare = 0.1;
const none = -1;

/** A queue of slots: pushed at the head, taken from the tail, or out of the middle. */
class SlotQueue {
  /** Towards the head, and towards the tail. */
  readonly #next: Int32Array;
  readonly #before: Int32Array;
  #head = none;
  tail = none;
  length = 0;

  constructor(next: Int32Array, before: Int32Array) {
    this.#next = next;
    this.#before = before;
  }

  push(slot: number): void {
    this.#next[slot] = none;
    this.#before[slot] = this.#head;
    if (this.#head === none) this.tail = slot;
    else this.#next[this.#head] = slot;
    this.#head = slot;
    this.length += 1;
  }

  remove(slot: number): void {
    const next = this.#next[slot] as number;
    const before = this.#before[slot] as number;
    if (next === none) this.#head = before;
    else this.#before[next] = before;
    if (before === none) this.tail = next;
    else this.#next[before] = next;
    this.length -= 1;
  }
}

const nowhere = 0;
const inSmall = 1;
const inMain = 2;

export class S3Fifo {
  readonly #frequency: Uint8Array;
  readonly #where: Uint8Array;
  /** Hash of the key in each slot, for the ghost. */
  readonly #hashes: Uint32Array;
  /** Hashes of keys that left the small queue, direct-mapped; 0: none. */
  readonly #ghost: Uint32Array;
  readonly #small: SlotQueue;
  readonly #main: SlotQueue;
  readonly #smallMax: number;

  constructor(slotCount: number) {
    this.#frequency = new Uint8Array(slotCount);
    this.#where = new Uint8Array(slotCount);
    this.#hashes = new Uint32Array(slotCount);
    this.#ghost = new Uint32Array(2 ** Math.ceil(Math.log2(Math.max(2, slotCount))));
    // A slot is in one queue at a time, so they share the links.
    const next = new Int32Array(slotCount);
    const before = new Int32Array(slotCount);
    this.#small = new SlotQueue(next, before);
    this.#main = new SlotQueue(next, before);
    this.#smallMax = Math.max(1, Math.floor(slotCount * smallShare));
  }

  touch(slot: number): void {
    const frequency = this.#frequency[slot] as number;
    if (frequency < frequencyMax) this.#frequency[slot] = frequency + 1;
  }

  /** The slot now holds the key of that hash. */
  admit(slot: number, hash: number): void {
    invariant(this.#where[slot] === nowhere, 'a slot is admitted once');
    this.#frequency[slot] = 0;
    this.#hashes[slot] = hash;
    const at = hash & (this.#ghost.length - 1);
    const isRemembered = this.#ghost[at] === hash && hash !== 0;
    if (isRemembered) this.#ghost[at] = 0;
    this.#push(slot, isRemembered ? inMain : inSmall);
  }

  /** The slot holds nothing any more. */
  remove(slot: number): void {
    const where = this.#where[slot];
    if (where === inSmall) this.#small.remove(slot);
    if (where === inMain) this.#main.remove(slot);
    this.#where[slot] = nowhere;
  }

  /**
   * Takes a slot out; the caller forgets what it held. A pinned one is passed over as if it had
   * just been used; -1 where there is no other.
   */
  evict(isPinned: (slot: number) => boolean = () => false): number {
    for (let passed = 0; passed <= this.#main.length; ) {
      const isSmall = this.#small.length > this.#smallMax || this.#main.length === 0;
      const slot = isSmall ? this.#small.tail : this.#main.tail;
      if (slot === none) return none;
      this.remove(slot);
      const frequency = this.#frequency[slot] as number;
      if (isPinned(slot)) {
        if (!isSmall) passed += 1;
        this.#push(slot, inMain);
      } else if (frequency > 0) {
        this.#frequency[slot] = isSmall ? 0 : frequency - 1;
        this.#push(slot, inMain);
      } else {
        if (isSmall) this.#remember(this.#hashes[slot] as number);
        return slot;
      }
    }
    return none;
  }

  #push(slot: number, where: typeof inSmall | typeof inMain): void {
    this.#where[slot] = where;
    (where === inSmall ? this.#small : this.#main).push(slot);
  }

  #remember(hash: number): void {
    this.#ghost[hash & (this.#ghost.length - 1)] = hash;
  }
}
