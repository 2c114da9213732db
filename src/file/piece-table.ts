/**
 * The pieces of one small file, in three layers; the first that knows a piece tells what it is:
 *
 *   changed      since the last commit began; memory of its own, or null: it became a hole
 *   committing   what the commit under way took with it; never changed again
 *   manifest     what is committed; what it does not name is a hole
 *
 * A commit that worked drops `committing` and replaces the manifest. One that came to nothing puts
 * `committing` back under `changed`. No I/O happens here, and each method is one synchronous step,
 * so nobody ever sees half of a change.
 */

import { invariant } from '../core/invariant.ts';
import { limits } from '../core/limits.ts';
import type { Manifest, Piece } from './manifest.ts';
import type { WriteBackBudget } from './write-back-budget.ts';

const { pieceBytes } = limits;
const capacityMin = limits.blockBytes;

/** Memory, a piece on the backend, or a hole. Any may be shorter than the file: zeroes follow. */
export type Source = Uint8Array | Piece | null;

/** A part of a range that lies in one piece. */
export interface Part {
  readonly index: number;
  /** From the start of the piece. */
  readonly from: number;
  readonly length: number;
}

type Layer = ReadonlyMap<number, Uint8Array | null>;

const noPieces: Layer = new Map();

export function partsOf(offset: number, length: number): Part[] {
  const parts: Part[] = [];
  for (let at = offset; at < offset + length; ) {
    const index = Math.floor(at / pieceBytes);
    const from = at - index * pieceBytes;
    const part = { index, from, length: Math.min(offset + length - at, pieceBytes - from) };
    parts.push(part);
    at += part.length;
  }
  return parts;
}

/** Memory for `bytes`: doubled as a file grows, so that appending to it costs no copy each time. */
export function capacityFor(bytes: number): number {
  let capacity = capacityMin;
  while (capacity < bytes) capacity *= 2;
  return capacity;
}

export class PieceTable {
  #manifest: Manifest;
  #sizeBytes: number;
  #changed = new Map<number, Uint8Array | null>();
  #committing: Layer = noPieces;
  readonly #budget: WriteBackBudget;

  constructor(manifest: Manifest, budget: WriteBackBudget) {
    this.#manifest = manifest;
    this.#sizeBytes = manifest.sizeBytes;
    this.#budget = budget;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** As it is committed. */
  get manifest(): Manifest {
    return this.#manifest;
  }

  source(index: number): Source {
    const changed = this.#changed.get(index);
    if (changed !== undefined) return changed;
    const committing = this.#committing.get(index);
    if (committing !== undefined) return committing;
    return this.#manifest.pieces[index] ?? null;
  }

  /** Bytes that are stored, or will be. */
  allocatedBytes(): number {
    let bytes = 0;
    for (let index = 0; index * pieceBytes < this.#sizeBytes; index += 1) {
      const source = this.source(index);
      if (source === null) continue;
      bytes += Math.min(lengthOf(source), this.#sizeBytes - index * pieceBytes);
    }
    return bytes;
  }

  /** Pieces on the backend of which a write of these parts needs what it leaves as it is. */
  basesOfWrite(parts: readonly Part[]): Piece[] {
    return this.#stored(parts, ({ from, length }, bytes) => from > 0 || length < bytes);
  }

  /** The same for zeroing them. */
  basesOfZero(parts: readonly Part[]): Piece[] {
    return this.#stored(parts, (part, bytes) => part.from < bytes && !this.#isWhole(part));
  }

  /** Bytes of the budget that writing these parts takes now. */
  costOfWrite(parts: readonly Part[]): number {
    return this.#cost(parts, ({ from, length }) => from + length);
  }

  /** The same for zeroing them. */
  costOfZero(parts: readonly Part[]): number {
    const edited = parts.filter(
      (part) => part.from < lengthOf(this.source(part.index)) && !this.#isWhole(part),
    );
    return this.#cost(edited, () => 0);
  }

  /**
   * Writes `data` over the parts; `bases` has what `basesOfWrite` named. The caller holds what
   * `costOfWrite` said.
   */
  write(parts: readonly Part[], data: Uint8Array, bases: (piece: Piece) => Uint8Array): void {
    let done = 0;
    for (const { index, from, length } of parts) {
      const isOverwritten = this.basesOfWrite([{ index, from, length }]).length === 0;
      const memory = this.#changeable(index, from + length, isOverwritten ? undefined : bases);
      memory.set(data.subarray(done, done + length), from);
      done += length;
      this.#sizeBytes = Math.max(this.#sizeBytes, index * pieceBytes + from + length);
    }
  }

  /** The parts read as zeroes; a piece of which nothing is left becomes a hole. */
  zero(parts: readonly Part[], bases: (piece: Piece) => Uint8Array): void {
    for (const part of parts) {
      const { index, from, length } = part;
      const bytes = lengthOf(this.source(index));
      if (from >= bytes) continue;
      if (this.#isWhole(part)) this.#change(index, null);
      else this.#changeable(index, 0, bases).fill(0, from, from + length);
    }
  }

  /** What lies behind the new end was zeroed before. */
  setSize(bytes: number): void {
    this.#sizeBytes = bytes;
  }

  /** What a commit has to write, frozen until it is adopted or taken back. */
  take(): Layer {
    invariant(this.#committing === noPieces, 'a file has one commit at a time');
    this.#committing = this.#changed;
    this.#changed = new Map();
    return this.#committing;
  }

  /** The commit is done. Gives the pieces that nothing names any more. */
  adopt(manifest: Manifest): Piece[] {
    const kept = new Set(manifest.pieces.map((piece) => piece?.key));
    const stale = this.#manifest.pieces.filter((piece) => piece && !kept.has(piece.key));
    for (const memory of this.#committing.values()) this.#giveBack(memory);
    this.#committing = noPieces;
    this.#manifest = manifest;
    return stale as Piece[];
  }

  /** The commit came to nothing: what it took is changed still, unless it was changed again. */
  takeBack(): void {
    for (const [index, memory] of this.#committing)
      if (this.#changed.has(index)) this.#giveBack(memory);
      else this.#changed.set(index, memory);
    this.#committing = noPieces;
  }

  /** Nothing is kept of what was not committed. */
  drop(): void {
    invariant(this.#committing === noPieces, 'no commit is under way when a file is let go');
    for (const memory of this.#changed.values()) this.#giveBack(memory);
    this.#changed.clear();
  }

  #stored(parts: readonly Part[], isNeeded: (part: Part, bytes: number) => boolean): Piece[] {
    return parts.flatMap((part) => {
      const source = this.source(part.index);
      if (source === null || source instanceof Uint8Array) return [];
      return isNeeded(part, source.bytes) ? [source] : [];
    });
  }

  #cost(parts: readonly Part[], bytesOf: (part: Part) => number): number {
    let cost = 0;
    for (const part of parts) {
      const { index } = part;
      const bytes = Math.max(bytesOf(part), lengthOf(this.source(index)));
      cost += capacityFor(bytes) - (this.#changed.get(index)?.length ?? 0);
    }
    return cost;
  }

  /** Nothing of the piece is left when the part is zeroed. */
  #isWhole({ index, from, length }: Part): boolean {
    return from === 0 && length >= Math.min(pieceBytes, this.#sizeBytes - index * pieceBytes);
  }

  /** The piece's memory in `changed`, with room for `bytes`; `bases` where it keeps old bytes. */
  #changeable(
    index: number,
    bytes: number,
    bases: ((piece: Piece) => Uint8Array) | undefined,
  ): Uint8Array {
    const source = this.source(index);
    const capacity = capacityFor(Math.max(bytes, lengthOf(source)));
    const changed = this.#changed.get(index);
    if (changed && changed.length === capacity) return changed;
    const memory = new Uint8Array(capacity);
    if (source instanceof Uint8Array) memory.set(source);
    else if (source !== null && bases) memory.set(bases(source));
    this.#change(index, memory);
    return memory;
  }

  #change(index: number, memory: Uint8Array | null): void {
    // Memory of the same piece that is replaced is a part of what the new one was granted.
    const replaced = this.#changed.get(index);
    if (memory === null) this.#giveBack(replaced);
    this.#changed.set(index, memory);
  }

  #giveBack(memory: Uint8Array | null | undefined): void {
    if (memory) this.#budget.release(memory.length);
  }
}

function lengthOf(source: Source): number {
  if (source === null) return 0;
  return source instanceof Uint8Array ? source.length : source.bytes;
}
