/**
 * Live bytes of each segment that the checkpointed map reaches. A segment at zero is dead: nothing
 * committed refers to it. It stays in the table until its blob is deleted, so that a crash between
 * a commit and the deletion leaks nothing.
 *
 * Kept on the backend in pieces, rewritten at each checkpoint: u32 number of entries (bit 31: the
 * table is incomplete, because a piece of it was lost once), then per entry u32 epoch,
 * u32 sequence, u32 live bytes; little-endian. Their CRC-32C stands in the head. While a table is
 * incomplete nothing is taken for dead.
 */

import { StorageError } from '../core/errors.ts';
import { invariant } from '../core/invariant.ts';
import { isHole, lostEpoch, placeLength, placeWord } from '../format/place.ts';

const entryBytes = 12;
const entriesPerPiece = 40_000;
const sequences = 0x1_0000_0000;
const incompleteBit = 0x8000_0000;
const epochsMax = 0x20_0000;

export interface SegmentName {
  readonly epoch: number;
  readonly sequence: number;
}

function keyOf(epoch: number, sequence: number): number {
  invariant(epoch < epochsMax, 'epoch and sequence fit into one exact number');
  return epoch * sequences + sequence;
}

function nameOf(key: number): SegmentName {
  return { epoch: Math.floor(key / sequences), sequence: key % sequences };
}

export class SegmentUsage {
  readonly #liveBytes = new Map<number, number>();
  #isComplete = true;

  get segmentCount(): number {
    return this.#liveBytes.size;
  }

  /** From now on the segment is accounted for; it may be dead from the start. */
  register(epoch: number, sequence: number): void {
    const key = keyOf(epoch, sequence);
    if (!this.#liveBytes.has(key)) this.#liveBytes.set(key, 0);
  }

  add(places: Uint32Array, at: number): void {
    this.#change(places, at, placeLength(places, at));
  }

  remove(places: Uint32Array, at: number): void {
    this.#change(places, at, -placeLength(places, at));
  }

  dead(): readonly SegmentName[] {
    const names: SegmentName[] = [];
    if (!this.#isComplete) return names;
    for (const [key, bytes] of this.#liveBytes) if (bytes === 0) names.push(nameOf(key));
    return names;
  }

  /** Of every segment; none while the table is incomplete. */
  *liveBytes(): Iterable<readonly [SegmentName, number]> {
    if (!this.#isComplete) return;
    for (const [key, bytes] of this.#liveBytes) yield [nameOf(key), bytes];
  }

  /** A piece of the table can't be read. */
  markIncomplete(): void {
    this.#isComplete = false;
  }

  forget(name: SegmentName): void {
    this.#liveBytes.delete(keyOf(name.epoch, name.sequence));
  }

  /** Pieces of at most half a megabyte. */
  *encode(): Iterable<Uint8Array> {
    const entries = [...this.#liveBytes];
    for (let first = 0; first < entries.length; first += entriesPerPiece) {
      const piece = entries.slice(first, first + entriesPerPiece);
      const words = new DataView(new ArrayBuffer(4 + piece.length * entryBytes));
      words.setUint32(0, piece.length | (this.#isComplete ? 0 : incompleteBit), true);
      piece.forEach(([key, bytes], index) => {
        const { epoch, sequence } = nameOf(key);
        words.setUint32(4 + index * entryBytes, epoch, true);
        words.setUint32(8 + index * entryBytes, sequence, true);
        words.setUint32(12 + index * entryBytes, bytes, true);
      });
      yield new Uint8Array(words.buffer);
    }
  }

  /** Adds what a piece tells. Throws `corrupt`. */
  decode(piece: Uint8Array): void {
    const words = new DataView(piece.buffer, piece.byteOffset, piece.length);
    const first = piece.length < 4 ? 0xffff_ffff : words.getUint32(0, true);
    const count = first & ~incompleteBit;
    if (piece.length !== 4 + count * entryBytes)
      throw new StorageError('corrupt', 'a piece of the table of live bytes has a wrong length');
    if ((first & incompleteBit) !== 0) this.#isComplete = false;
    for (let at = 4; at < piece.length; at += entryBytes)
      this.#liveBytes.set(
        keyOf(words.getUint32(at, true), words.getUint32(at + 4, true)),
        words.getUint32(at + 8, true),
      );
  }

  #change(places: Uint32Array, at: number, bytes: number): void {
    const epoch = places[at + placeWord.epoch] as number;
    if (isHole(places, at) || epoch === lostEpoch) return;
    const key = keyOf(epoch, places[at + placeWord.sequence] as number);
    const live = (this.#liveBytes.get(key) ?? 0) + bytes;
    invariant(live >= 0 || !this.#isComplete, 'no more dies in a segment than lived in it', () => ({
      ...nameOf(key),
    }));
    this.#liveBytes.set(key, Math.max(0, live));
  }
}
