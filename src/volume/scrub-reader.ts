/**
 * What lies in a volume's bucket, read from there and nowhere else: the copies on SSDs say nothing
 * about the backend. Small chunks come out of a few windows that stay in memory, because a checkpoint
 * writes pages one behind another. What comes wrong is read again before it is believed.
 */

import { isStorageError, StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { LRUCache } from '../core/lru-cache.ts';
import { KiB, MiB } from '../core/units.ts';
import { placeLength, placeWord } from '../format/place.ts';
import { segmentKey } from '../format/segment-key.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { SegmentName } from './segment-usage.ts';

const windowBytes = 128 * KiB;
const windowsBytesMax = 16 * MiB;
const attemptsMax = 3;
const partBytes = 4 * MiB;
/** A segment's payload at most, and more index than any has. */
const blobBytesMax = limits.segmentBytesMax + 4 * MiB;

export class ScrubReader {
  readonly #store: BlobStore;
  readonly #checksum: Checksum;
  readonly #signal: AbortSignal;
  readonly #windows = new LRUCache<string, Uint8Array>({
    maxSize: windowsBytesMax,
    sizeCalculation: (window) => Math.max(1, window.length),
  });

  constructor(store: BlobStore, checksum: Checksum, signal: AbortSignal) {
    this.#store = store;
    this.#checksum = checksum;
    this.#signal = signal;
  }

  /** The chunk at a place of the volume's own, verified. `corrupt` where it is wrong or missing. */
  async chunk(places: Uint32Array, at: number): Promise<Uint8Array> {
    const key = segmentKey(places[at] as number, places[at + placeWord.sequence] as number);
    const offset = places[at + placeWord.offset] as number;
    const length = placeLength(places, at);
    for (let attempt = 1; ; attempt += 1) {
      const bytes = await this.#range(key, offset, length);
      const isRight =
        bytes?.length === length &&
        this.#checksum.crc32c(bytes) === places[at + placeWord.checksum];
      if (isRight) return bytes;
      if (attempt === attemptsMax)
        throw new StorageError('corrupt', bytes ? `a chunk of ${key} is damaged` : `no ${key}`);
      this.#windows.clear();
    }
  }

  /** The segment, from its start; undefined where it is missing. Longer than any segment: cut. */
  async segment({ epoch, sequence }: SegmentName, length: number): Promise<Uint8Array | undefined> {
    const key = segmentKey(epoch, sequence);
    const parts: Uint8Array[] = [];
    const end = Math.min(length, blobBytesMax);
    for (let offset = 0; offset < end; offset += partBytes) {
      const part = await this.#get(key, offset, Math.min(partBytes, end - offset));
      if (!part) return undefined;
      parts.push(part);
      if (part.length < partBytes) break;
    }
    return parts.length === 1 ? parts[0] : Buffer.concat(parts);
  }

  async #range(key: string, offset: number, length: number): Promise<Uint8Array | undefined> {
    const first = offset - (offset % windowBytes);
    if (offset + length > first + windowBytes) return this.#get(key, offset, length);
    const name = `${key} ${first}`;
    const window = this.#windows.get(name) ?? (await this.#get(key, first, windowBytes));
    if (!window) return undefined;
    this.#windows.set(name, window);
    return window.subarray(offset - first, offset - first + length);
  }

  async #get(key: string, offset: number, length: number): Promise<Uint8Array | undefined> {
    try {
      return await this.#store.get(key, { offset, length, signal: this.#signal });
    } catch (error) {
      if (isStorageError(error, 'not_found')) return undefined;
      throw error;
    }
  }
}
