/**
 * Ranges of segments from the backend. What is missing or wrong there is asked for again a few
 * times, because stores may lag and transfers may err; then it is `corrupt`.
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
  readonly #signal: AbortSignal;
  bytes = 0;
  requests = 0;

  constructor(deps: FetcherDeps, store: BlobStore, signal: AbortSignal) {
    this.#deps = deps;
    this.#store = store;
    this.#signal = signal;
  }

  /** Fewer bytes at the end of the segment. */
  async range(
    epoch: number,
    sequence: number,
    offset: number,
    length: number,
  ): Promise<Uint8Array> {
    const key = segmentKey(epoch, sequence);
    const options = { offset, length, signal: this.#signal };
    for (let attempt = 1; ; attempt += 1) {
      try {
        const bytes = await this.#store.get(key, options);
        this.bytes += bytes.length;
        this.requests += 1;
        return bytes;
      } catch (error) {
        if (!isStorageError(error, 'not_found')) throw error;
        if (attempt === attemptsMax) {
          this.#deps.log.error({ epoch, sequence }, 'segment is missing on the backend');
          throw new StorageError('corrupt', `segment ${key} is missing`, { cause: error });
        }
      }
      await this.#deps.clock.sleep(pauseMs * attempt, { signal: this.#signal });
    }
  }

  /** Fills `into` with the run's chunks, verified. */
  async run(run: ChunkRun, into: Uint8Array): Promise<void> {
    const { epoch, sequence, offset } = run;
    for (let attempt = 1; ; attempt += 1) {
      const bytes = await this.range(epoch, sequence, offset, into.length);
      if (bytes.length === into.length) {
        const wrong = this.#deps.verifier.firstWrong(run, bytes);
        if (wrong === -1) return into.set(bytes);
      }
      if (attempt < attemptsMax) continue;
      this.#deps.log.error({ epoch, sequence, offset }, 'segment is damaged on the backend');
      throw new StorageError('corrupt', 'a chunk is damaged on the backend', {
        detail: { epoch, sequence, offset },
      });
    }
  }
}
