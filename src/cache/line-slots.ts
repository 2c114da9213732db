/**
 * The slots of the cache: which line is in which, which is given up for a new one, which are free.
 *
 *   free      holds nothing
 *   taken     handed out by `take`; becomes held by `put` or free by `giveBack`, in the same turn
 *   held      holds a line that `find` finds; may be evicted unless it is pinned
 *   dropped   its line is forgotten while readers have it pinned; free with the last of them
 *
 * A slot that is pinned keeps its bytes, so a reader in flight never gets those of another line.
 */

import { invariant } from '../core/invariant.ts';
import { limits } from '../core/limits.ts';
import { KiB } from '../core/units.ts';
import { LineTable, lineHash } from './line-table.ts';
import { S3Fifo } from './s3-fifo.ts';

export const lineBytes = 64 * KiB;
const partBytes = limits.blockBytes;

/** A bit for each 4 KiB part that `bytes` from `from` in a line touch. */
export function partsOf(from: number, bytes: number): number {
  return (1 << Math.ceil((from + bytes) / partBytes)) - (1 << Math.floor(from / partBytes));
}

export class LineSlots {
  readonly #table: LineTable;
  readonly #policy: S3Fifo;
  readonly #slotCount: number;
  /** Parts that were read since the line came, or since it last counted as used. */
  readonly #read: Uint16Array;
  readonly #pins: Uint16Array;
  #free: number[] = [];
  /** Lines held of each object. */
  readonly #lines = new Map<number, number>();
  /** Slots from here on were never used. */
  #unusedFrom = 0;
  readonly #isPinned = (slot: number) => this.#pins[slot] !== 0;

  constructor(slotCount: number) {
    this.#slotCount = slotCount;
    this.#table = new LineTable(slotCount);
    this.#policy = new S3Fifo(slotCount);
    this.#read = new Uint16Array(slotCount);
    this.#pins = new Uint16Array(slotCount);
  }

  /** Slots that are not free. */
  get usedCount(): number {
    return this.#unusedFrom - this.#free.length;
  }

  /** Lines of the object that are held. */
  linesOf(object: number): number {
    return this.#lines.get(object) ?? 0;
  }

  /** The slot that holds the line, or -1. */
  find(object: number, epoch: number, sequence: number, line: number): number {
    return this.#table.find(object, epoch, sequence, line);
  }

  /** Bits of the parts that the slot holds; 0: it holds nothing. */
  valid(slot: number): number {
    return this.#table.valid(slot);
  }

  /**
   * Parts of the line are being read. A line counts as used when a part is read again: reading it
   * piece by piece, as every scan does, is one use and not sixteen.
   */
  noteRead(slot: number, parts: number): void {
    const before = this.#read[slot] as number;
    const isAgain = (before & parts) !== 0;
    if (isAgain) this.#policy.touch(slot);
    this.#read[slot] = isAgain ? parts : before | parts;
  }

  pin(slot: number): void {
    const pins = this.#pins[slot] as number;
    invariant(pins < 0xffff, 'the pins of a slot are counted');
    this.#pins[slot] = pins + 1;
  }

  unpin(slot: number): void {
    const pins = this.#pins[slot] as number;
    invariant(pins > 0, 'a slot is unpinned as often as it was pinned');
    this.#pins[slot] = pins - 1;
    if (pins === 1 && this.#table.valid(slot) === 0) this.#free.push(slot);
  }

  /** A slot for a new line; -1 where all are pinned, or none is used and none may be. */
  take(mayGrow: () => boolean): number {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#unusedFrom < this.#slotCount && mayGrow()) {
      this.#unusedFrom += 1;
      return this.#unusedFrom - 1;
    }
    const slot = this.#policy.evict(this.#isPinned);
    if (slot >= 0) this.#forget(slot);
    return slot;
  }

  /** The taken slot holds the line now, which is in no other. */
  put(
    slot: number,
    object: number,
    epoch: number,
    sequence: number,
    line: number,
    valid: number,
  ): void {
    this.#table.set(slot, object, epoch, sequence, line, valid);
    this.#policy.admit(slot, lineHash(object, epoch, sequence, line));
    this.#read[slot] = 0;
    this.#lines.set(object, this.linesOf(object) + 1);
  }

  /** The taken slot is not needed. */
  giveBack(slot: number): void {
    this.#free.push(slot);
  }

  /** Forgets the line of a held slot. */
  drop(slot: number): void {
    if (this.#table.valid(slot) === 0) return;
    this.#forget(slot);
    this.#policy.remove(slot);
    if (this.#pins[slot] === 0) this.#free.push(slot);
  }

  /** Forgets the object's lines in `count` slots from `from`. False: there are no slots behind. */
  dropObject(object: number, from: number, count: number): boolean {
    const end = Math.min(from + count, this.#unusedFrom);
    for (let slot = from; slot < end; slot += 1)
      if (this.#table.valid(slot) !== 0 && this.#table.objectOf(slot) === object) this.drop(slot);
    return end < this.#unusedFrom;
  }

  /** Gives up the last slots, as many of `count` as nobody reads. How many are left. */
  shrink(count: number): number {
    const end = Math.max(0, this.#unusedFrom - count);
    while (this.#unusedFrom > end && !this.#isPinned(this.#unusedFrom - 1)) {
      this.drop(this.#unusedFrom - 1);
      this.#unusedFrom -= 1;
    }
    this.#free = this.#free.filter((slot) => slot < this.#unusedFrom);
    return this.#unusedFrom;
  }

  /** Takes that very slot; only at the start, in ascending order. Those before it are free. */
  takeNext(slot: number): void {
    invariant(slot >= this.#unusedFrom, 'slots are restored in ascending order');
    for (let free = this.#unusedFrom; free < slot; free += 1) this.#free.push(free);
    this.#unusedFrom = slot + 1;
  }

  #forget(slot: number): void {
    const object = this.#table.objectOf(slot);
    this.#table.remove(slot);
    const left = this.linesOf(object) - 1;
    if (left > 0) this.#lines.set(object, left);
    else this.#lines.delete(object);
  }
}
