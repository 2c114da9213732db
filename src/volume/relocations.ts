/** What a checkpoint moves on the occasion: blocks to new places, and pages that are written anew. */

import { limits } from '../core/limits.ts';
import { pageSpan } from '../format/map-page.ts';
import { placeWord, placeWords } from '../format/place.ts';
import { BlockOverlay } from './block-overlay.ts';
import type { MapSegmentWriter } from './map-segment-writer.ts';
import type { SourcesByOrigin } from './page-tree.ts';
import { sourceOf } from './page-tree.ts';

const { blockBytes } = limits;
const blocksMax = limits.volumeBytesMax / blockBytes;
export const blocksPerRead = 64;

/** Of a page: it is asked for with each slot of each inner page that a checkpoint comes by. */
const keyOf = (level: number, firstBlock: number) => level * blocksMax + firstBlock;

/** Blocks of one segment that lie one behind another. */
export interface MovingRun {
  /** Of the first one. */
  readonly place: Uint32Array;
  readonly blocks: number[];
  readonly checksums: number[];
}

export class Relocations {
  /** Of blocks: where they are, and where they will be. */
  readonly from = new BlockOverlay();
  readonly to = new BlockOverlay();
  readonly #pages = new Set<number>();

  /** Of a page that is to be written anew; the pages above it are so as well. */
  addPage(level: number, firstBlock: number, rootLevel: number): void {
    for (let above = level; above <= rootLevel; above += 1)
      this.#pages.add(keyOf(above, firstBlock - (firstBlock % pageSpan(above))));
  }

  hasPage(level: number, firstBlock: number): boolean {
    return this.#pages.has(keyOf(level, firstBlock));
  }

  /** Copies the run by `writer`. Throws `corrupt`, then nothing of it moves. */
  async copy(sources: SourcesByOrigin, run: MovingRun, writer: MapSegmentWriter): Promise<void> {
    const { place: old, blocks } = run;
    const bytes = new Uint8Array(blocks.length * blockBytes);
    const offset = old[placeWord.offset] as number;
    const chunks = {
      epoch: old[placeWord.epoch] as number,
      sequence: old[placeWord.sequence] as number,
      ...{ offset, chunkBytes: blockBytes },
      ...{ checksums: Uint32Array.from(run.checksums), firstChecksum: 0 },
    };
    await sourceOf(sources, old, 0).read(chunks, bytes);
    const from = old.slice();
    const to = new Uint32Array(placeWords);
    for (const [index, block] of blocks.entries()) {
      const checksum = run.checksums[index] as number;
      from[placeWord.offset] = offset + index * blockBytes;
      from[placeWord.checksum] = checksum;
      const content = bytes.subarray(index * blockBytes, (index + 1) * blockBytes);
      await writer.addBlock(block, content, checksum, to);
      this.from.put(block, from);
      this.to.put(block, to);
    }
  }
}
