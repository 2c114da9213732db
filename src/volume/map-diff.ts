/**
 * Where two states of one volume differ, by their block maps alone. A place says what stands there:
 * segments are immutable and their names are not used again, so what has the same place has the same
 * content, and pages with the same place are not looked into. The cost follows what has changed, not
 * the size. Blocks that were moved without a change are listed as well; a changed one is never missing.
 */

import { limits } from '../core/limits.ts';
import type { ObjectId } from '../core/units.ts';
import { blocksChecksum } from '../format/increment.ts';
import { pageFanout, pageSpan } from '../format/map-page.ts';
import {
  copyPlace,
  isHole,
  placeOrigin,
  placeWord,
  placeWords,
  samePlace,
} from '../format/place.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { BlockMap } from './block-map.ts';
import { emptyWords } from './page-tree.ts';

const { blockBytes } = limits;
/** Of each level and each map; a backend answers in some ten milliseconds. */
const pagesAtOnce = 16;
/** Looked into before others have their turn: a page costs some 40 microseconds. */
const pagesPerTurn = 64;

/** Of a volume that does not change: its map has a delta and a tree, and nothing above them. */
export interface MapState {
  readonly map: BlockMap;
  readonly sizeBytes: number;
  readonly ancestors: readonly ObjectId[];
}

/** At most 1 MiB, which no leaf of the map goes beyond. */
export interface Difference {
  readonly offset: number;
  readonly length: number;
  /** In the later state. */
  readonly what: 'data' | 'zeroes';
  /** `blocksChecksum` of the blocks as they were, of `data` alone. */
  readonly before?: number;
}

/** Up to `doneBytes` there are no others than those that were told so far, and these. */
export interface Compared {
  readonly doneBytes: number;
  readonly differences: readonly Difference[];
}

export interface MapDiffDeps {
  readonly checksum: Checksum;
  readonly yieldTurn: () => Promise<void>;
}

/**
 * In ascending order, within the size of `after`: what of `before` lies behind that is gone. Rejects
 * with `corrupt` where a page that has to be looked into can't be read.
 */
export async function* compareMaps(
  deps: MapDiffDeps,
  before: MapState,
  after: MapState,
): AsyncGenerator<Compared> {
  const sides = { before: new Side(before.map), after: new Side(after.map) };
  const end = Math.ceil(after.sizeBytes / blockBytes);
  let level = Math.max(1, before.map.tree.rootLevel, after.map.tree.rootLevel);
  while (pageSpan(level) < end) level += 1;
  const leaves = new Leaves(deps.checksum, after.sizeBytes, sharedAncestors(before, after));
  const root = { level, firstBlock: 0 };
  yield* below({ ...deps, sides, end, leaves, pages: 0 }, root, {
    before: await sides.before.load(root, before.map.tree.rootPlace, 0),
    after: await sides.after.load(root, after.map.tree.rootPlace, 0),
  });
  yield { doneBytes: after.sizeBytes, differences: [] };
}

interface Page {
  readonly level: number;
  readonly firstBlock: number;
}

interface Both<T> {
  readonly before: T;
  readonly after: T;
}

interface Walk extends MapDiffDeps {
  readonly sides: Both<Side>;
  /** Blocks of the later state. */
  readonly end: number;
  readonly leaves: Leaves;
  /** Since others had their turn. */
  pages: number;
}

/** `words`: the places of the pages below an inner one. */
async function* below(
  walk: Walk,
  { level, firstBlock }: Page,
  words: Both<Uint32Array>,
): AsyncGenerator<Compared> {
  const { sides, end, leaves } = walk;
  const span = pageSpan(level - 1);
  const pages: (Page & { readonly at: number })[] = [];
  for (let slot = 0; slot < pageFanout && firstBlock + slot * span < end; slot += 1) {
    const page = { level: level - 1, firstBlock: firstBlock + slot * span, at: slot * placeWords };
    const hasNews = sides.before.above(page) === 'part' || sides.after.above(page) === 'part';
    if (hasNews || !leaves.isSame(words, page.at)) pages.push(page);
  }
  for (let first = 0; first < pages.length; first += pagesAtOnce) {
    const batch = pages.slice(first, first + pagesAtOnce);
    const loaded = await Promise.all(
      batch.map(async (page) => {
        const [before, after] = await Promise.all([
          sides.before.load(page, words.before, page.at),
          sides.after.load(page, words.after, page.at),
        ]);
        return { before, after };
      }),
    );
    if (level > 1)
      for (const [index, page] of batch.entries())
        yield* below(walk, page, loaded[index] as Both<Uint32Array>);
    else yield leaves.compare(batch, loaded);
    walk.pages += batch.length;
    if (walk.pages < pagesPerTurn) continue;
    walk.pages = 0;
    await walk.yieldTurn();
  }
}

/** One of the two maps. */
class Side {
  readonly #map: BlockMap;
  readonly #place = new Uint32Array(placeWords);

  constructor(map: BlockMap) {
    this.#map = map;
  }

  /** What stands above a page of the tree: trims of all of it, or anything else. */
  above({ level, firstBlock }: Page): 'nothing' | 'trims' | 'part' {
    const { delta } = this.#map;
    const end = firstBlock + pageSpan(level);
    if (delta.nextLeaf(firstBlock / pageFanout) * pageFanout < end) return 'part';
    if (delta.trims.covers(firstBlock, end)) return 'trims';
    return delta.trims.overlaps(firstBlock, end) ? 'part' : 'nothing';
  }

  /** The places in a page with what stands above it; a page that is trimmed as a whole is a hole. */
  async load(page: Page, places: Uint32Array, at: number): Promise<Uint32Array> {
    const words = await this.#stored(page, places, at);
    if (this.above(page) === 'nothing') return words;
    const { level, firstBlock } = page;
    if (level === 0) {
      this.#overlay(words, firstBlock);
      return words;
    }
    const span = pageSpan(level - 1);
    for (let slot = 0; slot < pageFanout; slot += 1) {
      const child = { level: level - 1, firstBlock: firstBlock + slot * span };
      if (this.above(child) === 'trims') words.fill(0, slot * placeWords, (slot + 1) * placeWords);
    }
    return words;
  }

  async #stored(page: Page, places: Uint32Array, at: number): Promise<Uint32Array> {
    const { tree } = this.#map;
    if (isHole(places, at)) return emptyWords();
    if (page.level <= tree.rootLevel) return tree.loadPage(places, at, page);
    // The other tree is higher: this one is the first of the pages below.
    const words = emptyWords();
    copyPlace(places, at, words, 0);
    return words;
  }

  #overlay(words: Uint32Array, firstBlock: number): void {
    const { delta } = this.#map;
    for (let slot = 0; slot < pageFanout; slot += 1) {
      const at = slot * placeWords;
      const kind = delta.find(firstBlock + slot, this.#place);
      if (kind === 'data') copyPlace(this.#place, 0, words, at);
      else if (kind === 'hole') words.fill(0, at, at + placeWords);
    }
  }
}

/** Compares places, and blocks with blocks. */
class Leaves {
  readonly #checksum: Checksum;
  readonly #sizeBytes: number;
  readonly #sharedAncestors: number;
  readonly #checksumOfZeroes: number;
  readonly #checksums = new Uint32Array(pageFanout);

  constructor(checksum: Checksum, sizeBytes: number, shared: number) {
    this.#checksum = checksum;
    this.#sizeBytes = sizeBytes;
    this.#sharedAncestors = shared;
    this.#checksumOfZeroes = checksum.crc32c(new Uint8Array(blockBytes));
  }

  isSame({ before, after }: Both<Uint32Array>, at: number): boolean {
    return samePlace(before, at, after, at) && placeOrigin(after, at) <= this.#sharedAncestors;
  }

  compare(pages: readonly Page[], loaded: readonly Both<Uint32Array>[]): Compared {
    const differences: Difference[] = [];
    for (const [index, page] of pages.entries())
      this.#compareLeaf(page.firstBlock, loaded[index] as Both<Uint32Array>, differences);
    const end = (pages.at(-1) as Page).firstBlock + pageFanout;
    return { doneBytes: Math.min(end * blockBytes, this.#sizeBytes), differences };
  }

  #compareLeaf(firstBlock: number, words: Both<Uint32Array>, to: Difference[]): void {
    const blocks = Math.ceil(this.#sizeBytes / blockBytes) - firstBlock;
    const slots = Math.min(pageFanout, blocks);
    for (let slot = 0; slot < slots; ) {
      const what = this.#whatOf(words, slot);
      let next = slot + 1;
      while (next < slots && this.#whatOf(words, next) === what) next += 1;
      if (what !== 'same') {
        const offset = (firstBlock + slot) * blockBytes;
        const length = Math.min((firstBlock + next) * blockBytes, this.#sizeBytes) - offset;
        const before = what === 'data' && { before: this.#checksumBefore(words, slot, next) };
        to.push({ offset, length, what, ...before });
      }
      slot = next;
    }
  }

  #whatOf(words: Both<Uint32Array>, slot: number): 'same' | 'data' | 'zeroes' {
    const at = slot * placeWords;
    if (this.isSame(words, at)) return 'same';
    return isHole(words.after, at) ? 'zeroes' : 'data';
  }

  #checksumBefore({ before }: Both<Uint32Array>, from: number, to: number): number {
    for (let slot = from; slot < to; slot += 1) {
      const at = slot * placeWords;
      this.#checksums[slot - from] = isHole(before, at)
        ? this.#checksumOfZeroes
        : (before[at + placeWord.checksum] as number);
    }
    return blocksChecksum(this.#checksums.subarray(0, to - from), this.#checksum);
  }
}

/** Origins up to this number mean the same in both. */
function sharedAncestors({ ancestors: one }: MapState, { ancestors: other }: MapState): number {
  let count = 0;
  while (count < one.length && one[count] === other[count]) count += 1;
  return count;
}
