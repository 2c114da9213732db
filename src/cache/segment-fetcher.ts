/**
 * Ranges of segments from the bucket of one volume, for as long as its signal lives. What is
 * missing or wrong there is asked for again a few times, because stores may lag and transfers may
 * err; then it is `corrupt`. The store waits for a backend in trouble by itself.
 */

import { isStorageError, StorageError } from '../core/errors.ts';
import { segmentKey } from '../format/segment-key.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { ChunkRun } from '../ports/segment-source.ts';
import type { ChunkVerifier } from './chunk-verifier.ts';

const attemptsMax = 3;
const pauseMs = 100;

export interface FetcherDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly verifier: ChunkVerifier;
}

export class SegmentFetcher {
  readonly #deps: FetcherDeps;
  readonly #store: BlobStore;
  readonly signal: AbortSignal;

  constructor(deps: FetcherDeps, store: BlobStore, signal: AbortSignal) {
    this.#deps = deps;
    this.#store = store;
    this.signal = signal;
  }

  /** Fewer bytes at the end of the segment. */
  async range(
    epoch: number,
    sequence: number,
    offset: number,
    length: number,
  ): Promise<Uint8Array> {
    const key = segmentKey(epoch, sequence);
    const options = { offset, length, signal: this.signal };
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#store.get(key, options);
      } catch (error) {
        if (!isStorageError(error, 'not_found')) throw error;
        if (attempt === attemptsMax) {
          this.#deps.log.error({ epoch, sequence }, 'segment is missing on the backend');
          throw new StorageError('corrupt', `segment ${key} is missing`, { cause: error });
        }
      }
      await this.#deps.clock.sleep(pauseMs * attempt, { signal: this.signal });
    }
  }

  /** Fills `into` with the run's chunks, verified. */
  async run(run: ChunkRun, into: Uint8Array): Promise<void> {
    const bytes = await this.range(run.epoch, run.sequence, run.offset, into.length);
    into.set(bytes);
    into.fill(0, bytes.length);
    await this.repair(run, into);
  }

  /** Fetches those chunks of `into` anew that are wrong. */
  async repair(run: ChunkRun, into: Uint8Array): Promise<void> {
    for (const index of this.#deps.verifier.wrongChunks(run, into))
      into.set(await this.#chunk(run, index), index * run.chunkBytes);
  }

  /** Called when the chunk has come wrong once. */
  async #chunk(run: ChunkRun, index: number): Promise<Uint8Array> {
    const { epoch, sequence, chunkBytes } = run;
    const offset = run.offset + index * chunkBytes;
    const alone = { ...run, offset, firstChecksum: run.firstChecksum + index };
    for (let attempt = 2; attempt <= attemptsMax; attempt += 1) {
      const bytes = await this.range(epoch, sequence, offset, chunkBytes);
      if (bytes.length === chunkBytes && this.#deps.verifier.isRight(alone, bytes)) return bytes;
    }
    const detail = { epoch, sequence, offset, bytes: chunkBytes };
    this.#deps.log.error(detail, 'segment is damaged on the backend');
    throw new StorageError('corrupt', 'a chunk is damaged on the backend', { detail });
  }
}
