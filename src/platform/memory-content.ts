/**
 * The bytes of a file of the memory disk: what its readers see, what is durable, and the changes
 * between the two in the order in which they were made.
 */

import type { Random } from '../ports/random.ts';

const sectorBytes = 512;

type Change =
  | { readonly kind: 'write'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'resize'; readonly bytes: number };

/** Bytes that grow without being copied each time. */
class Bytes {
  #memory: Uint8Array;
  length: number;

  constructor(from: Uint8Array) {
    this.#memory = from.slice();
    this.length = from.length;
  }

  get view(): Uint8Array {
    return this.#memory.subarray(0, this.length);
  }

  apply(change: Change): void {
    if (change.kind === 'resize') return this.resize(change.bytes);
    const end = change.offset + change.bytes.length;
    if (end > this.length) this.resize(end);
    this.#memory.set(change.bytes, change.offset);
  }

  resize(length: number): void {
    if (length > this.#memory.length) {
      const larger = new Uint8Array(Math.max(length, this.#memory.length * 2));
      larger.set(this.view);
      this.#memory = larger;
    } else if (length < this.length) this.#memory.fill(0, length, this.length);
    this.length = length;
  }
}

export class MemoryContent {
  readonly #current: Bytes;
  readonly #durable: Bytes;
  #unsynced: Change[] = [];
  /** Changes that have left `#unsynced`, so that a mark stays right when another sync ends. */
  #settledCount = 0;

  constructor(durable: Uint8Array = new Uint8Array(0)) {
    this.#current = new Bytes(durable);
    this.#durable = new Bytes(durable);
  }

  get bytes(): Uint8Array {
    return this.#current.view;
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#change({ kind: 'write', offset, bytes });
  }

  resize(bytes: number): void {
    this.#change({ kind: 'resize', bytes });
  }

  /** Stands for all changes made up to now. */
  mark(): number {
    return this.#settledCount + this.#unsynced.length;
  }

  /** The changes up to the mark are durable. */
  settle(mark: number): void {
    for (const change of this.#takeUpTo(mark)) this.#durable.apply(change);
  }

  /**
   * A datasync of the changes up to the mark has failed: readers see them as long as the power
   * stays, and no later datasync writes them, as Linux does it.
   */
  doom(mark: number): void {
    this.#takeUpTo(mark);
  }

  /** Becomes what nobody wrote there, as far as it goes. */
  damage(offset: number, wrong: Uint8Array): void {
    for (const bytes of [this.#current.view, this.#durable.view])
      if (offset < bytes.length) bytes.set(wrong.subarray(0, bytes.length - offset), offset);
  }

  /** As it may be found after a power cut: each unsynced change survived, was lost or was torn. */
  crashed(random: Random): MemoryContent {
    const found = new Bytes(this.#durable.view);
    for (const change of this.#unsynced) {
      const fate = random.fraction();
      if (fate < 0.4) continue;
      if (fate < 0.8 || change.kind === 'resize') found.apply(change);
      else tear(change.offset, change.bytes, random, (part) => found.apply(part));
    }
    return new MemoryContent(found.view);
  }

  #change(change: Change): void {
    this.#current.apply(change);
    this.#unsynced.push(change);
  }

  #takeUpTo(mark: number): Change[] {
    const taken = this.#unsynced.splice(0, Math.max(0, mark - this.#settledCount));
    this.#settledCount += taken.length;
    return taken;
  }
}

/** Some of the sectors, cut where the disk's sectors are. */
function tear(
  offset: number,
  bytes: Uint8Array,
  random: Random,
  survived: (part: Change) => void,
): void {
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + sectorBytes - ((offset + at) % sectorBytes));
    if (random.fraction() < 0.5)
      survived({ kind: 'write', offset: offset + at, bytes: bytes.subarray(at, end) });
    at = end;
  }
}
