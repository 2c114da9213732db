/**
 * Which line of which segment is in which slot: open addressing over typed arrays, 26 to
 * 34 bytes a slot. A line is named by the object's number in this process, epoch, sequence and its
 * index in the segment. `valid` has a bit for each 4 KiB of the line that is there.
 */

const keyWords = 4;
const free = 0;

export class LineTable {
  /** Slot + 1 by hash; at most half full. */
  readonly #table: Int32Array;
  readonly #keys: Uint32Array;
  readonly #valid: Uint16Array;

  constructor(slotCount: number) {
    this.#table = new Int32Array(2 ** Math.ceil(Math.log2(Math.max(4, slotCount * 2))));
    this.#keys = new Uint32Array(slotCount * keyWords);
    this.#valid = new Uint16Array(slotCount);
  }

  /** The slot of the line, or -1. */
  find(object: number, epoch: number, sequence: number, line: number): number {
    const mask = this.#table.length - 1;
    for (let at = lineHash(object, epoch, sequence, line) & mask; ; at = (at + 1) & mask) {
      const slot = (this.#table[at] as number) - 1;
      if (slot < 0 || this.#isKey(slot, object, epoch, sequence, line)) return slot;
    }
  }

  valid(slot: number): number {
    return this.#valid[slot] as number;
  }

  set(
    slot: number,
    object: number,
    epoch: number,
    sequence: number,
    line: number,
    valid: number,
  ): void {
    const mask = this.#table.length - 1;
    let at = lineHash(object, epoch, sequence, line) & mask;
    while (this.#table[at] !== free) at = (at + 1) & mask;
    this.#table[at] = slot + 1;
    const key = slot * keyWords;
    this.#keys[key] = object;
    this.#keys[key + 1] = epoch;
    this.#keys[key + 2] = sequence;
    this.#keys[key + 3] = line;
    this.#valid[slot] = valid;
  }

  /** The slot holds nothing any more. */
  remove(slot: number): void {
    if (this.#valid[slot] === 0) return;
    const mask = this.#table.length - 1;
    let at = this.#hashOf(slot) & mask;
    while (this.#table[at] !== slot + 1) at = (at + 1) & mask;
    this.#valid[slot] = 0;
    this.#table[at] = free;
    // Those behind it move up where their probe would now stop too early.
    for (let next = (at + 1) & mask; this.#table[next] !== free; next = (next + 1) & mask) {
      const home = this.#hashOf((this.#table[next] as number) - 1) & mask;
      if (((next - home) & mask) < ((next - at) & mask)) continue;
      this.#table[at] = this.#table[next] as number;
      this.#table[next] = free;
      at = next;
    }
  }

  /** Number of the object whose line is in the slot. */
  objectOf(slot: number): number {
    return this.#keys[slot * keyWords] as number;
  }

  #hashOf(slot: number): number {
    const at = slot * keyWords;
    const word = (index: number) => this.#keys[at + index] as number;
    return lineHash(word(0), word(1), word(2), word(3));
  }

  #isKey(slot: number, object: number, epoch: number, sequence: number, line: number): boolean {
    const at = slot * keyWords;
    return (
      this.#keys[at + 2] === sequence &&
      this.#keys[at + 3] === line &&
      this.#keys[at + 1] === epoch &&
      this.#keys[at] === object
    );
  }
}

export function lineHash(object: number, epoch: number, sequence: number, line: number): number {
  let hash = Math.imul(object, 0x9e37_79b1) ^ Math.imul(epoch, 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 15) ^ sequence, 0xc2b2_ae35);
  hash = Math.imul(hash ^ (hash >>> 13) ^ line, 0x27d4_eb2f);
  return (hash ^ (hash >>> 16)) >>> 0;
}
