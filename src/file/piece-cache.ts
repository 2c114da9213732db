/**
 * Pieces of small files in memory, bounded in bytes, verified when they come from the backend.
 * Who asks for a piece that is on its way shares the request.
 */

import { LRUCache } from '../core/lru-cache.ts';
import { isStorageError, StorageError } from '../core/errors.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Log } from '../ports/log.ts';
import type { Piece } from './manifest.ts';

/** A transfer may have been damaged on its way; what is wrong as often as this lies there so. */
const fetchesMax = 3;

export class PieceCache {
  readonly #store: BlobStore;
  readonly #checksum: Checksum;
  readonly #log: Log;
  readonly #pieces: LRUCache<string, Uint8Array>;
  readonly #onTheWay = new Map<string, Promise<Uint8Array>>();

  constructor(store: BlobStore, checksum: Checksum, log: Log, bytesMax: number) {
    this.#store = store;
    this.#checksum = checksum;
    this.#log = log;
    this.#pieces = new LRUCache({
      maxSize: bytesMax,
      // A view keeps the whole of its memory alive.
      sizeCalculation: (piece) => piece.buffer.byteLength,
    });
  }

  /** The piece's bytes where they are in memory, not to be changed. */
  peek(piece: Piece): Uint8Array | undefined {
    return this.#pieces.get(piece.key);
  }

  /** The piece's bytes, not to be changed. `corrupt` where the backend's are wrong or missing. */
  read(piece: Piece, signal: AbortSignal): Promise<Uint8Array> {
    const cached = this.peek(piece);
    if (cached) return Promise.resolve(cached);
    const joined = this.#onTheWay.get(piece.key);
    if (joined) return joined;
    const flight = this.#load(piece, signal).finally(() => this.#onTheWay.delete(piece.key));
    this.#onTheWay.set(piece.key, flight);
    return flight;
  }

  remember(key: string, bytes: Uint8Array): void {
    this.#pieces.set(key, bytes);
  }

  forget(keys: readonly string[]): void {
    for (const key of keys) this.#pieces.delete(key);
  }

  async #load(piece: Piece, signal: AbortSignal): Promise<Uint8Array> {
    for (let fetches = 1; ; fetches += 1) {
      const bytes = await this.#fetch(piece, signal);
      if (bytes?.length === piece.bytes && this.#checksum.crc32c(bytes) === piece.checksum) {
        const own = bytes.buffer.byteLength === bytes.length ? bytes : new Uint8Array(bytes);
        this.#pieces.set(piece.key, own);
        return own;
      }
      if (fetches < fetchesMax) continue;
      const what = bytes === undefined ? 'missing' : 'damaged';
      this.#log.error({ key: piece.key, found: what }, 'piece of a file can not be read');
      throw new StorageError('corrupt', `piece ${piece.key} is ${what}`);
    }
  }

  async #fetch(piece: Piece, signal: AbortSignal): Promise<Uint8Array | undefined> {
    try {
      return await this.#store.get(piece.key, { signal });
    } catch (error) {
      if (isStorageError(error, 'not_found')) return undefined;
      throw error;
    }
  }
}
