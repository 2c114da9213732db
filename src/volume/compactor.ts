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
import { limits } from '../core/limits.ts';
import { pageSpan } from '../format/map-page.ts';
import { placeWords, samePlace, setPlace } from '../format/place.ts';
import type { ChunkEntry, SegmentHeader } from '../format/segment.ts';
import type { Log } from '../ports/log.ts';
import type { SegmentSource } from '../ports/segment-source.ts';
import type { BlockMap } from './block-map.ts';
import { BlockOverlay } from './block-overlay.ts';
import type { MapSegmentWriter } from './map-segment-writer.ts';
import type { TailDeps } from './recovery.ts';
import { readIndex } from './recovery.ts';
import type { SegmentName } from './segment-usage.ts';

const { blockBytes } = limits;
const blocksPerRead = 64;

export interface CompactorDeps extends TailDeps {
  readonly map: BlockMap;
  readonly source: SegmentSource;
  readonly log: Log;
}

/** What moves with a checkpoint. */
export class Relocations {
  /** Of blocks: where they are, and where they will be. */
  readonly from = new BlockOverlay();
  readonly to = new BlockOverlay();
  readonly #pages = new Set<string>();

  /** Of a page that is to be written anew; the pages above it are so as well. */
  addPage(level: number, firstBlock: number, rootLevel: number): void {
    for (let above = level; above <= rootLevel; above += 1)
      this.#pages.add(`${above}:${firstBlock - (firstBlock % pageSpan(above))}`);
  }

  hasPage(level: number, firstBlock: number): boolean {
    return this.#pages.has(`${level}:${firstBlock}`);
  }
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
    for (const name of victims) {
      try {
        await this.#relocateSegment(name, writer, relocations);
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
  ): Promise<void> {
    const { map } = this.#deps;
    const header = await readIndex(this.#deps, writer.objectId, name);
    let liveBytes = 0;
    let run: ChunkEntry[] = [];
    const flush = async () => {
      await this.#copy(header, run, writer, relocations);
      run = [];
    };
    for (const chunk of header.chunks) {
      if (chunk.kind === 'usage' || !(await this.#isLive(header, chunk))) continue;
      liveBytes += chunk.bytes;
      if (chunk.kind === 'page') {
        relocations.addPage(chunk.level, chunk.block, map.tree.rootLevel);
        continue;
      }
      const last = run.at(-1);
      const isNext = last === undefined || last.offset + last.bytes === chunk.offset;
      if (!isNext || run.length === blocksPerRead) await flush();
      run.push(chunk);
    }
    await flush();
    this.#rewrittenBytes += liveBytes;
    this.#reclaimedBytes += header.segmentBytes - liveBytes;
  }

  /** Whether the map still finds it there. */
  async #isLive(header: SegmentHeader, { kind, level, block, ...chunk }: ChunkEntry) {
    const { map } = this.#deps;
    const here = new Uint32Array(placeWords);
    setPlace(here, 0, header.epoch, header.sequence, chunk.offset, chunk.bytes, chunk.checksum);
    const found = new Uint32Array(placeWords);
    if (kind === 'page')
      return (await map.tree.pagePlace(level, block, found)) && samePlace(here, 0, found, 0);
    for (;;) {
      const where = map.find(block, found);
      if (where instanceof Promise) await where;
      else return where === 'data' && samePlace(here, 0, found, 0);
    }
  }

  /** Of blocks that lie one behind another. */
  async #copy(
    { epoch, sequence }: SegmentHeader,
    run: readonly ChunkEntry[],
    writer: MapSegmentWriter,
    { from, to }: Relocations,
  ): Promise<void> {
    const [first] = run;
    if (!first) return;
    const bytes = new Uint8Array(run.length * blockBytes);
    const checksums = Uint32Array.from(run, ({ checksum }) => checksum);
    const { offset } = first;
    const chunks = { epoch, sequence, offset, chunkBytes: blockBytes, checksums, firstChecksum: 0 };
    await this.#deps.source.read(chunks, bytes);
    const old = new Uint32Array(placeWords);
    const place = new Uint32Array(placeWords);
    for (const [index, chunk] of run.entries()) {
      const block = bytes.subarray(index * blockBytes, (index + 1) * blockBytes);
      setPlace(old, 0, epoch, sequence, chunk.offset, chunk.bytes, chunk.checksum);
      await writer.addBlock(chunk.block, block, chunk.checksum, place);
      from.put(chunk.block, old);
      to.put(chunk.block, place);
    }
  }
}
