/** Checks the chunks of a run against their checksums. */

import { limits } from '../core/limits.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { ChunkRun } from '../ports/segment-source.ts';

export class ChunkVerifier {
  readonly #checksum: Checksum;
  readonly #found = new Uint32Array(limits.segmentBytesMax / limits.blockBytes);

  constructor(checksum: Checksum) {
    this.#checksum = checksum;
  }

  /** Index of the first chunk in `bytes` that is wrong; -1 where all are right. */
  firstWrong(run: ChunkRun, bytes: Uint8Array): number {
    const { chunkBytes, checksums, firstChecksum } = run;
    const found = this.#found;
    this.#checksum.crc32cBlocks(bytes, chunkBytes, found, 0);
    const count = bytes.length / chunkBytes;
    for (let index = 0; index < count; index += 1)
      if (found[index] !== checksums[firstChecksum + index]) return index;
    return -1;
  }
}
