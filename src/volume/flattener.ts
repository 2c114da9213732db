/**
 * Copies what a clone reads from its ancestors into segments of its own, a slice at a time, for a
 * checkpoint to bring into the tree. What is written meanwhile is the clone's own anyhow.
 */

import { pageFanout } from '../format/map-page.ts';
import { lostEpoch, placeOrigin, placeWord, placeWords } from '../format/place.ts';
import type { BlockMap } from './block-map.ts';
import type { MapSegmentWriter } from './map-segment-writer.ts';
import type { SourcesByOrigin } from './page-tree.ts';
import type { MovingRun, Relocations } from './relocations.ts';
import { blocksPerRead } from './relocations.ts';

const blocksPerSlice = 8192;

export interface FlattenerDeps {
  readonly map: BlockMap;
  readonly sources: SourcesByOrigin;
}

export interface Slice {
  /** Where the next one begins; undefined: nothing is left. */
  readonly nextBlock: number | undefined;
  readonly copiedBlocks: number;
}

/** `end`: blocks of the volume. Throws `corrupt` where an ancestor's block is damaged. */
export async function flattenSlice(
  { map, sources }: FlattenerDeps,
  fromBlock: number,
  end: number,
  writer: MapSegmentWriter,
  relocations: Relocations,
): Promise<Slice> {
  const place = new Uint32Array(placeWords);
  let copiedBlocks = 0;
  let run: MovingRun | undefined;
  const flush = async () => {
    if (run) await relocations.copy(sources, run, writer);
    run = undefined;
  };
  let block = fromBlock;
  for (let leaf = -1; block < end && copiedBlocks < blocksPerSlice; ) {
    const kind = map.find(block, place);
    if (kind instanceof Promise) {
      await kind;
      continue;
    }
    if (kind === 'hole') {
      block = map.skipHole(block);
      continue;
    }
    if (placeOrigin(place, 0) !== 0 && place[placeWord.epoch] !== lostEpoch) {
      if (!run || !follows(run, place) || run.blocks.length === blocksPerRead) {
        await flush();
        run = { place: place.slice(), blocks: [], checksums: [] };
      }
      run.blocks.push(block);
      run.checksums.push(place[placeWord.checksum] as number);
      copiedBlocks += 1;
    }
    const here = Math.floor(block / pageFanout);
    if (here !== leaf) await movePage(map, here * pageFanout, relocations);
    leaf = here;
    block += 1;
  }
  await flush();
  return { nextBlock: block < end ? block : undefined, copiedBlocks };
}

function follows({ place: first, blocks }: MovingRun, place: Uint32Array): boolean {
  const bytes = first[placeWord.length] as number;
  return (
    place[placeWord.epoch] === first[placeWord.epoch] &&
    place[placeWord.sequence] === first[placeWord.sequence] &&
    place[placeWord.origin] === first[placeWord.origin] &&
    place[placeWord.offset] === (first[placeWord.offset] as number) + blocks.length * bytes
  );
}

/** A leaf that lies with an ancestor is written anew, and so are the pages above it. */
async function movePage(map: BlockMap, firstBlock: number, relocations: Relocations) {
  const place = new Uint32Array(placeWords);
  const { tree } = map;
  if (await tree.pagePlace(0, firstBlock, place))
    relocations.addPage(0, firstBlock, tree.rootLevel);
}
