/** Checks the chunks of a run against their checksums. */

import { invariant } from '../core/invariant.ts';
import { limits } from '../core/limits.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { ChunkRun } from '../ports/segment-source.ts';

export class ChunkVerifier {
  readonly #checksum: Checksum;
  readonly #found = new Uint32Array(limits.segmentBytesMax / limits.blockBytes);

  constructor(checksum: Checksum) {
    this.#checksum = checksum;
  }

  isRight(run: ChunkRun, bytes: Uint8Array): boolean {
    return this.#nextWrong(run, this.#compute(run, bytes), 0) === -1;
  }

  /** Indexes of the chunks in `bytes` that are wrong. */
  wrongChunks(run: ChunkRun, bytes: Uint8Array): number[] {
    const count = this.#compute(run, bytes);
    const wrong: number[] = [];
    for (let next = this.#nextWrong(run, count, 0); next !== -1; ) {
      wrong.push(next);
      next = this.#nextWrong(run, count, next + 1);
    }
    return wrong;
  }

  #compute(run: ChunkRun, bytes: Uint8Array): number {
    const count = bytes.length / run.chunkBytes;
    invariant(count <= this.#found.length, 'a run has no more chunks than a segment');
    this.#checksum.crc32cBlocks(bytes, run.chunkBytes, this.#found, 0);
    return count;
  }

  #nextWrong({ checksums, firstChecksum }: ChunkRun, count: number, from: number): number {
    for (let index = from; index < count; index += 1)
      if (this.#found[index] !== checksums[firstChecksum + index]) return index;
    return -1;
  }
}
