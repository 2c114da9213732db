/**
 * Live bytes of each segment of the volume's own that the checkpointed map reaches. A segment at
 * zero has died: nothing in the head refers to it. It may be deleted when no snapshot reaches it
 * either, and stays in the table until its blob is gone, so that a crash between a commit and the
 * deletion leaks nothing.
 *
 * Time is counted in names of segments, which grow: a snapshot is taken at the name that was handed
 * out last, a segment dies at one that is handed out for it. So a snapshot reaches a dead segment
 * exactly if the segment's name is not behind the snapshot's, and its death is. (Names that were
 * handed out before the snapshot and committed after it count as reached: a little too much.)
 *
 * Kept on the backend in pieces, rewritten at each checkpoint, little-endian: u32 number of entries
 * (bit 31: the table is incomplete, because a piece of it was lost once), u32 number of deaths; per
 * entry u32 epoch, u32 sequence, u32 live bytes; per death u32 epoch, u32 sequence, u32 epoch and
 * u32 sequence of the death. Their CRC-32C stands in the head. While a table is incomplete nothing
 * is taken for dead.
 */

import { StorageError } from '../core/errors.ts';
import { invariant } from '../core/invariant.ts';
import { isHole, lostEpoch, placeLength, placeOrigin, placeWord } from '../format/place.ts';

const fixedBytes = 8;
const entryBytes = 12;
const deathBytes = 16;
const entriesPerPiece = 20_000;
const sequences = 0x1_0000_0000;
const incompleteBit = 0x8000_0000;
const epochsMax = 0x20_0000;

export interface SegmentName {
  readonly epoch: number;
  readonly sequence: number;
}

/** A name as one number, in the order in which they were handed out. */
export function keyOf({ epoch, sequence }: SegmentName): number {
  invariant(epoch < epochsMax, 'epoch and sequence fit into one exact number');
  return epoch * sequences + sequence;
}

export function nameOf(key: number): SegmentName {
  return { epoch: Math.floor(key / sequences), sequence: key % sequences };
}

/** Whether `left` was handed out after `right`. */
export function isLater(left: SegmentName, right: SegmentName): boolean {
  return keyOf(left) > keyOf(right);
}

export class SegmentUsage {
  readonly #liveBytes = new Map<number, number>();
  /** When the segments died that are at zero, as far as that is committed. */
  readonly #deaths = new Map<number, number>();
  #isComplete = true;
  /** What has changed since `follow`. */
  #changes: Map<number, number> | undefined;

  get segmentCount(): number {
    return this.#liveBytes.size;
  }

  /** From now on the segment is accounted for; it may be dead from the start. */
  register(name: SegmentName): void {
    const key = keyOf(name);
    this.#deaths.delete(key);
    if (!this.#liveBytes.has(key)) this.#liveBytes.set(key, 0);
  }

  add(places: Uint32Array, at: number): void {
    this.#change(places, at, placeLength(places, at));
  }

  remove(places: Uint32Array, at: number): void {
    this.#change(places, at, -placeLength(places, at));
  }

  /** What is at zero has died at `now`, unless it is known to have died before. */
  noteDeaths(now: SegmentName): void {
    const time = keyOf(now);
    for (const [key, bytes] of this.#liveBytes)
      if (bytes === 0 && !this.#deaths.has(key)) this.#deaths.set(key, time);
  }

  /** The dead ones that no snapshot reaches. `snapshots`: when they were taken, in any order. */
  collectable(snapshots: readonly SegmentName[]): readonly SegmentName[] {
    if (!this.#isComplete) return [];
    const times = snapshots.map(keyOf).sort((left, right) => left - right);
    const names: SegmentName[] = [];
    for (const [key, death] of this.#deaths) {
      const next = firstAtOrAfter(times, key);
      if (next === undefined || next >= death) names.push(nameOf(key));
    }
    return names;
  }

  /** Of every segment; none while the table is incomplete. */
  *liveBytes(): Iterable<readonly [SegmentName, number]> {
    if (!this.#isComplete) return;
    for (const [key, bytes] of this.#liveBytes) yield [nameOf(key), bytes];
  }

  get isComplete(): boolean {
    return this.#isComplete;
  }

  has(name: SegmentName): boolean {
    return this.#liveBytes.has(keyOf(name));
  }

  /** Whether both count the same in all segments, or how many bytes more or less this one does. */
  compare(counted: SegmentUsage): { readonly tooFew: number; readonly tooMany: number } {
    let [tooFew, tooMany] = [0, 0];
    for (const key of new Set([...this.#liveBytes.keys(), ...counted.#liveBytes.keys()])) {
      const more = (this.#liveBytes.get(key) ?? 0) - (counted.#liveBytes.get(key) ?? 0);
      tooMany += Math.max(0, more);
      tooFew += Math.max(0, -more);
    }
    return { tooFew, tooMany };
  }

  /** From now on nothing counts as dead, until `adopt` brings what is counted meanwhile. */
  follow(): void {
    this.#isComplete = false;
    this.#changes = new Map();
  }

  /** `counted`: as it was at the time of `follow`. */
  adopt(counted: SegmentUsage): void {
    for (const key of new Set([...this.#liveBytes.keys(), ...counted.#liveBytes.keys()])) {
      const live = (counted.#liveBytes.get(key) ?? 0) + (this.#changes?.get(key) ?? 0);
      invariant(live >= 0, 'no more has died since than was counted', () => ({ ...nameOf(key) }));
      if (live > 0) this.#deaths.delete(key);
      if (live > 0 || this.#liveBytes.has(key)) this.#liveBytes.set(key, live);
    }
    this.#changes = undefined;
    this.#isComplete = true;
  }

  /** A piece of the table can't be read. */
  markIncomplete(): void {
    this.#isComplete = false;
  }

  forget(name: SegmentName): void {
    this.#liveBytes.delete(keyOf(name));
    this.#deaths.delete(keyOf(name));
  }

  /**
   * The head becomes that of a snapshot, whose table `kept` is: what lived then lives again, and
   * what was made since dies at `now`. What is dead in both keeps its death.
   */
  rollBack(kept: SegmentUsage, now: SegmentName): void {
    for (const key of this.#liveBytes.keys()) this.#liveBytes.set(key, 0);
    for (const [key, bytes] of kept.#liveBytes) {
      if (bytes === 0) continue;
      this.#liveBytes.set(key, bytes);
      this.#deaths.delete(key);
    }
    this.#isComplete &&= kept.#isComplete;
    this.noteDeaths(now);
  }

  /** Pieces of at most half a megabyte. */
  *encode(): Iterable<Uint8Array> {
    const entries = [...this.#liveBytes];
    for (let first = 0; first < entries.length; first += entriesPerPiece) {
      const piece = entries.slice(first, first + entriesPerPiece);
      const deaths = piece.flatMap(([key]) => {
        const death = this.#deaths.get(key);
        return death === undefined ? [] : [[key, death] as const];
      });
      const bytes = fixedBytes + piece.length * entryBytes + deaths.length * deathBytes;
      const words = new DataView(new ArrayBuffer(bytes));
      words.setUint32(0, piece.length | (this.#isComplete ? 0 : incompleteBit), true);
      words.setUint32(4, deaths.length, true);
      let at = fixedBytes;
      const put = (...values: readonly number[]) => {
        for (const value of values) {
          words.setUint32(at, value, true);
          at += 4;
        }
      };
      for (const [key, live] of piece) put(nameOf(key).epoch, nameOf(key).sequence, live);
      for (const [key, death] of deaths)
        for (const { epoch, sequence } of [nameOf(key), nameOf(death)]) put(epoch, sequence);
      yield new Uint8Array(words.buffer);
    }
  }

  /** Adds what a piece tells. Throws `corrupt`. */
  decode(piece: Uint8Array): void {
    const words = new DataView(piece.buffer, piece.byteOffset, piece.length);
    const first = piece.length < fixedBytes ? 0xffff_ffff : words.getUint32(0, true);
    const count = first & ~incompleteBit;
    const deathsAt = fixedBytes + count * entryBytes;
    const isFit =
      piece.length >= fixedBytes &&
      piece.length === deathsAt + words.getUint32(4, true) * deathBytes;
    if (!isFit)
      throw new StorageError('corrupt', 'a piece of the table of live bytes has a wrong length');
    if ((first & incompleteBit) !== 0) this.#isComplete = false;
    const keyAt = (at: number) => {
      const name = { epoch: words.getUint32(at, true), sequence: words.getUint32(at + 4, true) };
      if (name.epoch < epochsMax) return keyOf(name);
      throw new StorageError('corrupt', 'the table of live bytes names an epoch that is too large');
    };
    const live = new Map<number, number>();
    const deaths = new Map<number, number>();
    for (let at = fixedBytes; at < deathsAt; at += entryBytes)
      live.set(keyAt(at), words.getUint32(at + 8, true));
    for (let at = deathsAt; at < piece.length; at += deathBytes)
      deaths.set(keyAt(at), keyAt(at + 8));
    const isEachOnce = live.size === count && deaths.size === words.getUint32(4, true);
    if (!isEachOnce || ![...deaths.keys()].every((key) => live.has(key)))
      throw new StorageError('corrupt', 'the table of live bytes does not fit itself');
    for (const [key, bytes] of live) this.#liveBytes.set(key, bytes);
    for (const [key, death] of deaths) this.#deaths.set(key, death);
  }

  /** What an ancestor's segment holds is the ancestor's to count. */
  #change(places: Uint32Array, at: number, bytes: number): void {
    const epoch = places[at + placeWord.epoch] as number;
    if (isHole(places, at) || epoch === lostEpoch || placeOrigin(places, at) !== 0) return;
    const name = { epoch, sequence: places[at + placeWord.sequence] as number };
    const key = keyOf(name);
    this.#changes?.set(key, (this.#changes.get(key) ?? 0) + bytes);
    const live = (this.#liveBytes.get(key) ?? 0) + bytes;
    const isPossible = live >= 0 || !this.#isComplete;
    invariant(isPossible, 'no more dies in a segment than lived in it', () => ({ ...name }));
    this.#liveBytes.set(key, Math.max(0, live));
  }
}

function firstAtOrAfter(sorted: readonly number[], value: number): number | undefined {
  let low = 0;
  for (let high = sorted.length; low < high; ) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return sorted[low];
}
