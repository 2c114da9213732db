/**
 * A small file in use: pieces of 1 MiB, changed in memory and committed as a whole (committer.ts).
 * Changes are applied one after another, each in one synchronous step once the bytes that it
 * leaves as they are and the memory that it needs are there; where both are, it is done at once.
 *
 *   open       requests pass
 *   closing    flushing for the last time; requests are refused; back to open when that fails, as
 *              nothing that was written may be lost for it
 *   closed     let go
 */

import { StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import { limits } from '../core/limits.ts';
import type { ObjectId } from '../core/units.ts';
import type { ChangesSoFar, DrivenObject } from '../ports/object-driver.ts';
import type { Tenure } from '../ports/tenure.ts';
import type { CommitterDeps } from './committer.ts';
import { Committer } from './committer.ts';
import type { Manifest, Piece } from './manifest.ts';
import type { Part } from './piece-table.ts';
import { partsOf, PieceTable } from './piece-table.ts';

const { pieceBytes } = limits;

/** A change of some parts, as the queue of changes sees it. */
interface Edit {
  /** Pieces of which it leaves a part as it is, and which lie on the backend. */
  readonly bases: () => readonly Piece[];
  /** Bytes of the budget that it takes now. */
  readonly cost: () => number;
  readonly apply: (bases: (piece: Piece) => Uint8Array) => void;
}

export class SmallFile implements DrivenObject {
  readonly id: ObjectId;
  readonly #deps: CommitterDeps;
  readonly #tenure: Tenure;
  readonly #pieces: PieceTable;
  readonly #committer: Committer;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  #state: 'open' | 'closing' | 'closed' = 'open';
  #closing: Promise<void> | undefined;
  /** Changes that wait for those before them, for bytes or for memory. */
  #changesWaiting = 0;
  #lastChange: Promise<unknown> = Promise.resolve();
  readonly #fetches = new Set<Promise<unknown>>();

  constructor(deps: CommitterDeps, tenure: Tenure, manifest: Manifest) {
    this.id = tenure.objectId;
    this.#deps = deps;
    this.#tenure = tenure;
    this.#pieces = new PieceTable(manifest, deps.budget);
    this.#committer = new Committer(deps, tenure, this.#pieces, () =>
      Promise.allSettled(this.#fetches),
    );
    this.#signal = AbortSignal.any([this.#stop.signal, tenure.signal]);
  }

  get epoch(): number {
    return this.#tenure.epoch;
  }

  get changes(): ChangesSoFar {
    return this.#committer.changes;
  }

  size(): number {
    return this.#pieces.sizeBytes;
  }

  allocatedBytes(): number {
    return this.#pieces.allocatedBytes();
  }

  read(offset: number, into: Uint8Array): Eventually<number> {
    this.#assertOpen();
    const bytes = Math.min(into.length, Math.max(0, this.size() - offset));
    return this.#readFrom(offset, into.subarray(0, bytes), 0);
  }

  write(offset: number, data: Uint8Array): Eventually<number> {
    this.#assertOpen();
    if (offset + data.length > limits.promoteBytes) throw tooLarge();
    const parts = partsOf(offset, data.length);
    return this.#change({
      bases: () => this.#pieces.basesOfWrite(parts),
      cost: () => this.#pieces.costOfWrite(parts),
      apply: (bases) => this.#pieces.write(parts, data, bases),
    });
  }

  trim(offset: number, length: number): Eventually<number> {
    this.#assertOpen();
    const parts = () => partsOf(offset, Math.min(length, this.size() - offset));
    return this.#change({
      ...this.#zeroing(parts),
      apply: (bases) => this.#pieces.zero(parts(), bases),
    });
  }

  resize(bytes: number): Eventually<number> {
    this.#assertOpen();
    if (bytes > limits.promoteBytes) throw tooLarge();
    const cut = () => partsOf(bytes, this.size() - bytes);
    return this.#change({
      ...this.#zeroing(cut),
      apply: (bases) => {
        this.#pieces.zero(cut(), bases);
        this.#pieces.setSize(bytes);
      },
    });
  }

  seek(offset: number, what: 'data' | 'hole'): number | undefined {
    this.#assertOpen();
    const size = this.size();
    for (let at = offset; at < size; at = (Math.floor(at / pieceBytes) + 1) * pieceBytes)
      if ((this.#pieces.source(Math.floor(at / pieceBytes)) === null) === (what === 'hole'))
        return at;
    return what === 'hole' && offset < size ? size : undefined;
  }

  /** Durable on the backend and in the registry; one commit for all who ask while another runs. */
  async flush(): Promise<void> {
    this.#assertOpen();
    await this.#committer.commit();
  }

  sync(): Promise<void> {
    return this.flush();
  }

  /** Rejects where the last flush fails; the file is open then as it was. */
  close(): Promise<void> {
    this.#closing ??= this.#close().catch((error: unknown) => {
      this.#closing = undefined;
      throw error;
    });
    return this.#closing;
  }

  async abandon(): Promise<void> {
    if (this.#state === 'closed') return this.#closing;
    this.#closing = this.#letGo();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#state = 'closing';
    try {
      await this.#lastChange;
      await this.#committer.commit();
    } catch (error) {
      // Unless it was abandoned meanwhile.
      if (this.#state === 'closing') this.#state = 'open';
      throw error;
    }
    if (this.#state === 'closing') await this.#letGo();
  }

  async #letGo(): Promise<void> {
    this.#state = 'closed';
    this.#stop.abort(closed());
    await this.#lastChange;
    await this.#committer.stop();
    await Promise.allSettled(this.#fetches);
  }

  /** Reads from `done` on: at once while the pieces are in memory. */
  #readFrom(offset: number, into: Uint8Array, done: number): Eventually<number> {
    for (let at = done; at < into.length; ) {
      const [part] = partsOf(offset + at, into.length - at) as [Part];
      const source = this.#pieces.source(part.index);
      const memory =
        source instanceof Uint8Array ? source : source && this.#deps.cache.peek(source);
      // Undefined: it lies on the backend.
      if (memory === undefined) return this.#readLater(source as Piece, part, offset, into, at);
      fill(into.subarray(at, at + part.length), memory, part.from);
      at += part.length;
    }
    return into.length;
  }

  async #readLater(
    piece: Piece,
    part: Part,
    offset: number,
    into: Uint8Array,
    at: number,
  ): Promise<number> {
    const memory = await this.#fetch(piece);
    this.#assertOpen();
    fill(into.subarray(at, at + part.length), memory, part.from);
    return this.#readFrom(offset, into, at + part.length);
  }

  #fetch(piece: Piece): Promise<Uint8Array> {
    const fetch = this.#deps.cache
      .read(piece, this.#signal)
      .finally(() => this.#fetches.delete(fetch));
    this.#fetches.add(fetch);
    return fetch;
  }

  #zeroing(parts: () => readonly Part[]): Pick<Edit, 'bases' | 'cost'> {
    return {
      bases: () => this.#pieces.basesOfZero(parts()),
      cost: () => this.#pieces.costOfZero(parts()),
    };
  }

  #change(edit: Edit): Eventually<number> {
    const { budget, cache } = this.#deps;
    if (this.#changesWaiting === 0) {
      const isInMemory = edit.bases().every((piece) => cache.peek(piece));
      if (isInMemory && budget.tryAcquire(edit.cost()))
        return this.#apply(edit, (piece) => cache.peek(piece) as Uint8Array);
    }
    this.#changesWaiting += 1;
    const change = this.#lastChange
      .then(() => this.#changeLater(edit))
      .finally(() => {
        this.#changesWaiting -= 1;
      });
    this.#lastChange = change.catch(() => {});
    return change;
  }

  async #changeLater(edit: Edit): Promise<number> {
    const { budget } = this.#deps;
    const fetched = new Map<string, Uint8Array>();
    let held = 0;
    try {
      for (;;) {
        const missing = edit.bases().filter(({ key }) => !fetched.has(key));
        for (const piece of missing) fetched.set(piece.key, await this.#fetch(piece));
        // A commit may have moved pieces to the backend while this waited; then it looks again.
        if (missing.length > 0) continue;
        const cost = edit.cost();
        if (cost <= held) break;
        // Nobody may wait for memory while it holds some that no commit gives back.
        budget.release(held);
        held = 0;
        await budget.acquire(cost, this.#signal);
        held = cost;
      }
      this.#signal.throwIfAborted();
      const unused = held - edit.cost();
      const change = this.#apply(edit, ({ key }) => fetched.get(key) as Uint8Array);
      held = unused;
      return change;
    } finally {
      budget.release(held);
    }
  }

  #apply(edit: Edit, bases: (piece: Piece) => Uint8Array): number {
    edit.apply(bases);
    return this.#committer.noteChange();
  }

  #assertOpen(): void {
    if (this.#state !== 'open') throw closed();
    this.#tenure.assertLive();
  }
}

const closed = () => new StorageError('closed', 'the file is closed');
const tooLarge = () => new StorageError('too_large', 'a small file has at most 64 MiB');

/** Bytes of a piece from `from` on, and zeroes behind its end. */
function fill(into: Uint8Array, piece: Uint8Array | null, from: number): void {
  const found = piece?.subarray(from, from + into.length);
  if (found) into.set(found);
  into.fill(0, found?.length ?? 0);
}
