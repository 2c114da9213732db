/**
 * A small file in use: pieces of 1 MiB, changed in memory and committed as a whole. A commit puts
 * the changed pieces under new names, then replaces the manifest (which compares the epoch), then
 * deletes what the old one named. A crash before the manifest leaves the old version, after it the
 * new one; what lies about is found at the next open.
 */

import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Permits } from '../core/permits.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { ObjectId } from '../core/units.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import type { DataObject } from '../ports/data-object.ts';
import type { Log } from '../ports/log.ts';
import type { Tenure } from '../ports/tenure.ts';
import type { Manifest, Piece } from './manifest.ts';
import type { PieceCache } from './piece-cache.ts';

const { pieceBytes } = limits;

export interface SmallFileDeps {
  readonly store: BlobStore;
  readonly cache: PieceCache;
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly log: Log;
  /** Bytes of changed pieces, over all files. */
  readonly dirtyBytes: Permits;
  readonly commitManifest: (manifest: Manifest) => Promise<void>;
  readonly writeBackDelayMs: number;
}

export class SmallFile implements DataObject {
  readonly id: ObjectId;
  readonly #deps: SmallFileDeps;
  readonly #tenure: Tenure;
  #manifest: Manifest;
  #size: number;
  #lastVersion: number;
  /** Changed since the last commit began; null: became a hole. */
  readonly #dirty = new Map<number, Uint8Array | null>();
  /** What the commit under way takes with it. */
  #committing: ReadonlyMap<number, Uint8Array | null> = new Map<number, Uint8Array | null>();
  #isChanged = false;
  #commit: Promise<void> | undefined;
  #nextCommit: Promise<void> | undefined;
  #isTimed = false;
  #isClosed = false;
  #closing: Promise<void> | undefined;
  readonly #stop = new AbortController();
  readonly #tasks: TaskGroup;
  /** Changes are applied one after another: some of them have to fetch what they change. */
  #lastChange: Promise<void> = Promise.resolve();

  constructor(deps: SmallFileDeps, tenure: Tenure, manifest: Manifest) {
    this.id = tenure.objectId;
    this.#deps = deps;
    this.#tenure = tenure;
    this.#manifest = manifest;
    this.#size = manifest.sizeBytes;
    this.#lastVersion = manifest.version;
    this.#tasks = new TaskGroup((error) => {
      if (!this.#isClosed)
        deps.log.warn({ error: String(error) }, 'file could not be written back');
    });
  }

  size(): number {
    return this.#size;
  }

  allocatedBytes(): number {
    const count = Math.ceil(this.#size / pieceBytes);
    let bytes = 0;
    for (let index = 0; index < count; index += 1)
      if (this.#isData(index)) bytes += Math.min(pieceBytes, this.#size - index * pieceBytes);
    return bytes;
  }

  async read(offset: number, into: Uint8Array): Promise<number> {
    this.#assertOpen();
    const bytes = Math.min(into.length, Math.max(0, this.#size - offset));
    for (let done = 0; done < bytes; ) {
      const { index, from, length } = partAt(offset + done, bytes - done);
      const piece = await this.#piece(index);
      const part = piece?.subarray(from, from + length) ?? new Uint8Array(0);
      into.set(part, done);
      into.fill(0, done + part.length, done + length);
      done += length;
    }
    this.#assertOpen();
    return bytes;
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    this.#assertOpen();
    if (offset + data.length > limits.promoteBytes)
      throw new StorageError('too_large', 'a small file has at most 64 MiB');
    return this.#change(async () => {
      for (let done = 0; done < data.length; ) {
        const { index, from, length } = partAt(offset + done, data.length - done);
        const piece = await this.#changeable(index);
        piece.set(data.subarray(done, done + length), from);
        done += length;
      }
      this.#size = Math.max(this.#size, offset + data.length);
    });
  }

  trim(offset: number, length: number): Promise<void> {
    this.#assertOpen();
    return this.#change(async () => {
      const end = Math.min(offset + length, this.#size);
      await this.#zero(offset, end);
    });
  }

  resize(bytes: number): Promise<void> {
    this.#assertOpen();
    if (bytes > limits.promoteBytes)
      throw new StorageError('too_large', 'a small file has at most 64 MiB');
    return this.#change(async () => {
      if (bytes < this.#size) await this.#zero(bytes, this.#size);
      this.#size = bytes;
    });
  }

  seek(offset: number, what: 'data' | 'hole'): number | undefined {
    this.#assertOpen();
    for (let at = offset; at < this.#size; at = (Math.floor(at / pieceBytes) + 1) * pieceBytes)
      if (this.#isData(Math.floor(at / pieceBytes)) === (what === 'data')) return at;
    return what === 'hole' && offset < this.#size ? this.#size : undefined;
  }

  /** Durable on the backend and in the registry; one commit for all who ask while another runs. */
  async flush(): Promise<void> {
    this.#assertOpen();
    await this.#lastChange;
    if (this.#commit === undefined) {
      if (!this.#isChanged) return;
      return this.#startCommit();
    }
    this.#nextCommit ??= this.#commit
      .catch(() => {})
      .then(() => {
        this.#nextCommit = undefined;
        return this.#isChanged ? this.#startCommit() : undefined;
      });
    return this.#nextCommit;
  }

  sync(): Promise<void> {
    return this.flush();
  }

  close(): Promise<void> {
    this.#closing ??= this.#flushAndLetGo();
    return this.#closing;
  }

  abandon(): Promise<void> {
    this.#closing ??= this.#letGo();
    return this.#closing;
  }

  async #flushAndLetGo(): Promise<void> {
    try {
      await this.flush();
    } finally {
      await this.#letGo();
    }
  }

  async #letGo(): Promise<void> {
    this.#isClosed = true;
    this.#stop.abort(new StorageError('closed', 'the file is closed'));
    await this.#tasks.drained();
    for (const piece of this.#dirty.values()) this.#giveBack(piece);
    this.#dirty.clear();
  }

  #change(edit: () => Promise<void>): Promise<void> {
    const change = this.#lastChange.then(async () => {
      this.#tenure.assertLive();
      await edit();
      this.#isChanged = true;
      this.#commitLater();
    });
    this.#lastChange = change.catch(() => {});
    return change;
  }

  #isData(index: number): boolean {
    const changed = this.#dirty.get(index) ?? this.#committing.get(index);
    if (this.#dirty.has(index)) return this.#dirty.get(index) !== null;
    if (changed !== undefined) return changed !== null;
    return (this.#manifest.pieces[index] ?? null) !== null;
  }

  /** The piece as it is now; undefined: a hole. It may be shorter than 1 MiB. */
  async #piece(index: number): Promise<Uint8Array | undefined> {
    if (this.#dirty.has(index)) return this.#dirty.get(index) ?? undefined;
    if (this.#committing.has(index)) return this.#committing.get(index) ?? undefined;
    const stored = this.#manifest.pieces[index];
    return stored ? this.#deps.cache.read(stored, this.#tenure.signal) : undefined;
  }

  /** The piece's own memory, 1 MiB of it, as a part of the next commit. */
  async #changeable(index: number): Promise<Uint8Array> {
    const known = this.#dirty.get(index);
    if (known) return known;
    const { dirtyBytes } = this.#deps;
    if (!dirtyBytes.tryAcquire(pieceBytes)) {
      // Memory is short: what this file holds goes out first, then it waits for its share.
      if (this.#dirty.size > 0 && this.#commit === undefined)
        this.#tasks.run(() => this.#startCommit());
      await dirtyBytes.acquire(pieceBytes, { signal: this.#tenure.signal });
    }
    const copy = new Uint8Array(pieceBytes);
    copy.set((await this.#piece(index)) ?? new Uint8Array(0));
    this.#dirty.set(index, copy);
    return copy;
  }

  async #zero(offset: number, end: number): Promise<void> {
    for (let at = offset; at < end; ) {
      const { index, from, length } = partAt(at, end - at);
      const isRest = from === 0 && at + length >= Math.min(this.#size, (index + 1) * pieceBytes);
      if (isRest) {
        this.#giveBack(this.#dirty.get(index));
        this.#dirty.set(index, null);
      } else if (this.#isData(index)) (await this.#changeable(index)).fill(0, from, from + length);
      at += length;
    }
  }

  #giveBack(piece: Uint8Array | null | undefined): void {
    if (piece) this.#deps.dirtyBytes.release(pieceBytes);
  }

  #commitLater(): void {
    if (this.#isTimed) return;
    this.#isTimed = true;
    const { clock, writeBackDelayMs } = this.#deps;
    const signal = AbortSignal.any([this.#stop.signal, this.#tenure.signal]);
    this.#tasks.run(async () => {
      await clock.sleep(writeBackDelayMs, { signal }).catch(() => {});
      this.#isTimed = false;
      if (!signal.aborted) await this.flush();
    });
  }

  #startCommit(): Promise<void> {
    this.#commit = this.#runCommit().finally(() => {
      this.#commit = undefined;
    });
    return this.#commit;
  }

  async #runCommit(): Promise<void> {
    const { store, cache, commitManifest, checksum } = this.#deps;
    const taken = new Map(this.#dirty);
    const sizeBytes = this.#size;
    this.#committing = taken;
    this.#dirty.clear();
    this.#isChanged = false;
    // Each attempt has names of its own: none is ever written twice with different content.
    this.#lastVersion += 1;
    const version = this.#lastVersion;
    const pieces: (Piece | null)[] = Array.from(
      { length: Math.ceil(sizeBytes / pieceBytes) },
      (_, index) => this.#manifest.pieces[index] ?? null,
    );
    try {
      await Promise.all(
        [...taken].map(async ([index, piece]) => {
          if (index >= pieces.length) return;
          pieces[index] = null;
          if (piece === null) return;
          const body = piece.slice(0, Math.min(pieceBytes, sizeBytes - index * pieceBytes));
          const key = `file/${this.id}/${this.#tenure.epoch}-${version}-${index}`;
          await store.put(key, body, { signal: this.#tenure.signal });
          pieces[index] = { key, bytes: body.length, checksum: checksum.crc32c(body) };
          cache.remember(key, body);
        }),
      );
      this.#tenure.assertLive();
      await commitManifest({ version, sizeBytes, pieces });
    } catch (error) {
      this.#takeBack(taken);
      throw error;
    }
    this.#adopt({ version, sizeBytes, pieces }, taken);
  }

  #adopt(manifest: Manifest, taken: ReadonlyMap<number, Uint8Array | null>): void {
    const kept = new Set(manifest.pieces.map((piece) => piece?.key));
    const stale = this.#manifest.pieces.flatMap((piece) =>
      piece && !kept.has(piece.key) ? [piece.key] : [],
    );
    this.#manifest = manifest;
    this.#committing = new Map();
    for (const piece of taken.values()) this.#giveBack(piece);
    if (stale.length === 0) return;
    this.#tasks.run(() => this.#deps.store.deleteMany(stale, { signal: this.#tenure.signal }));
  }

  /** The commit came to nothing: what it took is changed still, unless it was changed again. */
  #takeBack(taken: ReadonlyMap<number, Uint8Array | null>): void {
    for (const [index, piece] of taken)
      if (this.#dirty.has(index)) this.#giveBack(piece);
      else this.#dirty.set(index, piece);
    this.#committing = new Map();
    this.#isChanged = true;
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new StorageError('closed', 'the file is closed');
    this.#tenure.assertLive();
  }
}

/** The part of a range that lies in the piece in which it begins. */
function partAt(offset: number, bytes: number): { index: number; from: number; length: number } {
  const index = Math.floor(offset / pieceBytes);
  const from = offset - index * pieceBytes;
  return { index, from, length: Math.min(bytes, pieceBytes - from) };
}
