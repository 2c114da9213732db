/** Goes through the pages of a block map as it is committed, in the order of the blocks. */

import { isStorageError, StorageError } from '../core/errors.ts';
import type { Head } from '../format/head.ts';
import { decodeMapPage, pageFanout, pageSpan } from '../format/map-page.ts';
import { isHole, lostEpoch, placeOrigin, placeWords } from '../format/place.ts';

export interface TreeVisitor {
  /** The chunk at a place of the volume's own, verified; `corrupt`. */
  readonly read: (places: Uint32Array, at: number) => Promise<Uint8Array>;
  /** Comes to a page; false: what is below it is known. */
  readonly enter: (places: Uint32Array, at: number) => boolean;
  /** A block of the volume's own; whoever has to look at it at length gives a promise. */
  readonly block: (places: Uint32Array, at: number, block: number) => Promise<void> | undefined;
  /** Blocks whose page can't be read; without an error, could not when it was to be written anew. */
  readonly lost: (block: number, count: number, error?: StorageError) => void;
}

/** What lies with an ancestor is the ancestor's. */
export async function walkTree(
  { root, rootLevel }: Pick<Head, 'root' | 'rootLevel'>,
  visitor: TreeVisitor,
): Promise<void> {
  if (!isHole(root, 0)) await walkPage(root, 0, rootLevel, 0, visitor);
}

async function walkPage(
  places: Uint32Array,
  at: number,
  level: number,
  firstBlock: number,
  visitor: TreeVisitor,
): Promise<void> {
  if (placeOrigin(places, at) !== 0) return;
  if (isLost(places, at)) return visitor.lost(firstBlock, pageSpan(level));
  if (!visitor.enter(places, at)) return;
  let words: Uint32Array;
  try {
    words = await readPage(places, at, level, firstBlock, visitor);
  } catch (error) {
    if (!isStorageError(error, 'corrupt')) throw error;
    return visitor.lost(firstBlock, pageSpan(level), error);
  }
  const span = level === 0 ? 1 : pageSpan(level - 1);
  for (let slot = 0; slot < pageFanout; slot += 1) {
    const slotAt = slot * placeWords;
    if (isHole(words, slotAt)) continue;
    const block = firstBlock + slot * span;
    if (level > 0) await walkPage(words, slotAt, level - 1, block, visitor);
    else if (placeOrigin(words, slotAt) !== 0) continue;
    else if (isLost(words, slotAt)) visitor.lost(block, 1);
    else await visitor.block(words, slotAt, block);
  }
}

async function readPage(
  places: Uint32Array,
  at: number,
  level: number,
  firstBlock: number,
  { read }: TreeVisitor,
): Promise<Uint32Array> {
  const page = decodeMapPage(await read(places, at));
  if (page.level !== level || page.firstBlock !== firstBlock)
    throw new StorageError('corrupt', 'a page of the block map stands in the wrong place');
  return page.words;
}

const isLost = (places: Uint32Array, at: number) => places[at] === lostEpoch;
