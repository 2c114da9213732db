/** Pieces of small files in memory, bounded in bytes, verified when they came from the backend. */

import { LRUCache } from 'lru-cache';
import { StorageError } from '../core/errors.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Log } from '../ports/log.ts';
import type { Piece } from './manifest.ts';

const fetchesMax = 3;

export class PieceCache {
  readonly #store: BlobStore;
  readonly #checksum: Checksum;
  readonly #log: Log;
  readonly #pieces: LRUCache<string, Uint8Array>;

  constructor(store: BlobStore, checksum: Checksum, log: Log, bytesMax: number) {
    this.#store = store;
    this.#checksum = checksum;
    this.#log = log;
    this.#pieces = new LRUCache({ maxSize: bytesMax, sizeCalculation: (piece) => piece.length });
  }

  /** The piece's bytes, not to be changed. `corrupt` where the backend's are wrong or missing. */
  async read(piece: Piece, signal: AbortSignal): Promise<Uint8Array> {
    const cached = this.#pieces.get(piece.key);
    if (cached) return cached;
    for (let fetches = 1; ; fetches += 1) {
      const bytes = await this.#fetch(piece, signal);
      if (bytes?.length === piece.bytes && this.#checksum.crc32c(bytes) === piece.checksum) {
        this.#pieces.set(piece.key, bytes);
        return bytes;
      }
      if (fetches < fetchesMax) continue;
      this.#log.error({ key: piece.key }, 'piece of a file is damaged or missing');
      throw new StorageError('corrupt', `piece ${piece.key} is damaged or missing`);
    }
  }

  remember(key: string, bytes: Uint8Array): void {
    this.#pieces.set(key, bytes);
  }

  async #fetch(piece: Piece, signal: AbortSignal): Promise<Uint8Array | undefined> {
    try {
      return await this.#store.get(piece.key, { signal });
    } catch (error) {
      if (error instanceof StorageError && error.code === 'not_found') return undefined;
      throw error;
    }
  }
}
