/**
 * Copies what lives in mostly dead segments into new ones, for a checkpoint to bring into the tree:
 *
 *   plan       segments with few live bytes (compaction-plan.ts)
 *   copy       blocks that the map still finds there, with the checksums that they have
 *   checkpoint places that are still the old ones become the new ones, pages are written anew
 *   delete     the segments are dead then, like any others
 *
 * Until the checkpoint's commit nothing refers to a copy, so a crash leaves garbage, not damage.
 */

import { isStorageError } from '../core/errors.ts';
import { placeWords, samePlace, setPlace } from '../format/place.ts';
import type { ChunkEntry, SegmentHeader } from '../format/segment.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { BlockMap } from './block-map.ts';
import type { MapSegmentWriter } from './map-segment-writer.ts';
import type { SourcesByOrigin } from './page-tree.ts';
import type { TailDeps } from './recovery.ts';
import { readIndex } from './recovery.ts';
import type { MovingRun, Relocations } from './relocations.ts';
import { blocksPerRead } from './relocations.ts';
import type { SegmentName } from './segment-usage.ts';
import { Turns } from './turns.ts';

export interface CompactorDeps extends TailDeps {
  readonly map: BlockMap;
  readonly sources: SourcesByOrigin;
  readonly clock: Clock;
  readonly log: Log;
}

export class Compactor {
  readonly #deps: CompactorDeps;
  #rewrittenBytes = 0;
  #reclaimedBytes = 0;

  constructor(deps: CompactorDeps) {
    this.#deps = deps;
  }

  /** Live bytes that were copied, and dead ones whose segments could go for it. */
  get statistics(): { readonly rewrittenBytes: number; readonly reclaimedBytes: number } {
    return { rewrittenBytes: this.#rewrittenBytes, reclaimedBytes: this.#reclaimedBytes };
  }

  /** Copies the live blocks of the segments by `writer`. */
  async relocate(
    victims: readonly SegmentName[],
    writer: MapSegmentWriter,
    relocations: Relocations,
  ): Promise<void> {
    const turns = new Turns(this.#deps.clock);
    for (const name of victims) {
      try {
        await this.#relocateSegment(name, writer, relocations, turns);
      } catch (error) {
        if (!isStorageError(error, 'corrupt')) throw error;
        // It stays as it is: whoever reads what is damaged in it is told.
        this.#deps.log.error({ ...name, error: error.message }, 'segment is not compacted');
      }
    }
  }

  async #relocateSegment(
    name: SegmentName,
    writer: MapSegmentWriter,
    relocations: Relocations,
    turns: Turns,
  ): Promise<void> {
    const { map } = this.#deps;
    const header = await readIndex(this.#deps, name);
    let liveBytes = 0;
    let run: MovingRun | undefined;
    const flush = async () => {
      if (run) await relocations.copy(this.#deps.sources, run, writer);
      run = undefined;
    };
    let end = 0;
    for (const chunk of header.chunks) {
      const turn = turns.step();
      if (turn) await turn;
      if (chunk.kind === 'usage' || !(await this.#isLive(header, chunk))) continue;
      liveBytes += chunk.bytes;
      if (chunk.kind === 'page') {
        relocations.addPage(chunk.level, chunk.block, map.tree.rootLevel);
        continue;
      }
      if (end !== chunk.offset || run?.blocks.length === blocksPerRead) await flush();
      run ??= { place: placeOf(header, chunk), blocks: [], checksums: [] };
      run.blocks.push(chunk.block);
      run.checksums.push(chunk.checksum);
      end = chunk.offset + chunk.bytes;
    }
    await flush();
    this.#rewrittenBytes += liveBytes;
    this.#reclaimedBytes += header.segmentBytes - liveBytes;
  }

  /** Whether the map still finds it there. */
  async #isLive(header: SegmentHeader, chunk: ChunkEntry) {
    const { map } = this.#deps;
    const { kind, level, block } = chunk;
    const here = placeOf(header, chunk);
    const found = new Uint32Array(placeWords);
    if (kind === 'page')
      return (await map.tree.pagePlace(level, block, found)) && samePlace(here, 0, found, 0);
    for (;;) {
      const where = map.find(block, found);
      if (where instanceof Promise) await where;
      else return where === 'data' && samePlace(here, 0, found, 0);
    }
  }
}

function placeOf({ epoch, sequence }: SegmentHeader, chunk: ChunkEntry): Uint32Array {
  const place = new Uint32Array(placeWords);
  setPlace(place, 0, epoch, sequence, chunk.offset, chunk.bytes, chunk.checksum);
  return place;
}
