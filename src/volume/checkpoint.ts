/**
 * Writes a delta of the block map into its tree: every page that the delta touches is changed in
 * place and written anew into map segments, children before their parents, so that at the end one
 * place, the root's, stands for the whole map.
 *
 * Until the head that names the new root is committed, the old tree is whole on the backend, and
 * in memory the delta stands above the changed pages with the same content. A page that can't be
 * read any more is replaced by one that remembers its blocks as lost: they alone are `corrupt`,
 * and all else goes on.
 */

import { isStorageError } from '../core/errors.ts';
import { encodeMapPage, pageFanout, pageSpan } from '../format/map-page.ts';
import { copyPlace, isHole, lostEpoch, placeWords, samePlace, setPlace } from '../format/place.ts';
import type { Log } from '../ports/log.ts';
import type { BlockOverlay } from './block-overlay.ts';
import type { MapSegmentWriter } from './map-segment-writer.ts';
import type { CachedPage } from './page-budget.ts';
import type { PageTree } from './page-tree.ts';
import { emptyWords } from './page-tree.ts';
import type { Relocations } from './relocations.ts';
import type { SegmentUsage } from './segment-usage.ts';
import type { Turns } from './turns.ts';
import { inTurns } from './turns.ts';

export interface CheckpointDeps {
  readonly tree: PageTree;
  readonly usage: SegmentUsage;
  readonly writer: MapSegmentWriter;
  readonly log: Log;
  /** What moves to new segments on the occasion. */
  readonly relocations: Relocations;
  readonly turns: Turns;
}

export class Checkpoint {
  readonly #deps: CheckpointDeps;
  readonly #delta: BlockOverlay;
  /** By block, of the delta and of what moves. */
  #rows: Uint32Array = new Uint32Array(0);
  #moves: Uint32Array = new Uint32Array(0);
  #nextRow = 0;
  #nextMove = 0;
  #blocksGained = 0;

  constructor(deps: CheckpointDeps, delta: BlockOverlay) {
    this.#deps = deps;
    this.#delta = delta;
  }

  /** By how many blocks of data the tree has grown. */
  get blocksGained(): number {
    return this.#blocksGained;
  }

  /** Gives the root's new place: all zero where the map is empty. Not on the backend yet. */
  async writeTree(): Promise<Uint32Array> {
    const { tree, turns, relocations } = this.#deps;
    this.#rows = await inTurns(this.#delta.sortedDataRows(), turns);
    this.#moves = await inTurns(relocations.to.sortedDataRows(), turns);
    const rootPlace = new Uint32Array(placeWords);
    const lastRow = this.#rows.at(-1);
    const isEmpty = isHole(tree.rootPlace, 0);
    if (lastRow === undefined && isEmpty) return rootPlace;
    const root = await this.#root(lastRow === undefined ? 0 : this.#delta.blockOfRow(lastRow));
    await this.#rewrite(root, tree.rootPlace, 0, rootPlace, 0);
    return rootPlace;
  }

  async #root(lastBlock: number): Promise<CachedPage> {
    const { tree, log } = this.#deps;
    try {
      return await tree.rootFor(lastBlock);
    } catch (error) {
      if (!isStorageError(error, 'corrupt')) throw error;
      log.error({ error: error.message }, 'root of the block map is lost');
      tree.replaceRoot(tree.newPage(tree.rootLevel, 0, lostWords(), { dirty: true }));
      return await tree.rootFor(lastBlock);
    }
  }

  /**
   * Brings the delta into the page and what is below it, writes it, and sets `to` to its new
   * place (a hole when nothing is left in it). `from` is its old place.
   */
  async #rewrite(
    page: CachedPage,
    from: Uint32Array,
    fromAt: number,
    to: Uint32Array,
    toAt: number,
  ): Promise<void> {
    const { usage, writer, turns } = this.#deps;
    page.dirty = true;
    usage.remove(from, fromAt);
    if (page.level === 0) this.#rewriteLeaf(page);
    else await this.#rewriteChildren(page);
    if (isEmptyPage(page)) {
      to.fill(0, toAt, toAt + placeWords);
      page.dirty = false;
      return;
    }
    await writer.add(page, encodeMapPage(page), to, toAt);
    usage.add(to, toAt);
    const turn = turns.step();
    if (turn) await turn;
  }

  /** Blocks that still are where they were moved from. What the delta says of them comes after. */
  #moveBlocks({ words, firstBlock }: CachedPage): void {
    const { usage, relocations } = this.#deps;
    const { from, to } = relocations;
    const old = new Uint32Array(placeWords);
    for (
      let block = this.#moveAhead();
      block < firstBlock + pageFanout;
      block = this.#moveAhead()
    ) {
      const at = (block - firstBlock) * placeWords;
      from.find(block, old);
      if (samePlace(old, 0, words, at)) {
        usage.remove(words, at);
        copyPlace(to.words, (this.#moves[this.#nextMove] as number) * placeWords, words, at);
        usage.add(words, at);
      }
      this.#nextMove += 1;
    }
  }

  #rewriteLeaf(page: CachedPage): void {
    const { usage } = this.#deps;
    const { words, firstBlock } = page;
    this.#moveBlocks(page);
    const trims = this.#delta.trims;
    if (trims.overlaps(firstBlock, firstBlock + pageFanout)) {
      for (let slot = 0; slot < pageFanout; slot += 1) {
        const at = slot * placeWords;
        if (isHole(words, at) || !trims.has(firstBlock + slot)) continue;
        usage.remove(words, at);
        words.fill(0, at, at + placeWords);
        this.#blocksGained -= 1;
      }
    }
    for (
      let block = this.#blockAhead();
      block < firstBlock + pageFanout;
      block = this.#blockAhead()
    ) {
      const at = (block - firstBlock) * placeWords;
      if (isHole(words, at)) this.#blocksGained += 1;
      else usage.remove(words, at);
      copyPlace(this.#delta.words, (this.#rows[this.#nextRow] as number) * placeWords, words, at);
      usage.add(words, at);
      this.#nextRow += 1;
    }
  }

  async #rewriteChildren(page: CachedPage): Promise<void> {
    const { tree } = this.#deps;
    const span = pageSpan(page.level - 1);
    const trims = this.#delta.trims;
    for (let slot = 0; slot < pageFanout; slot += 1) {
      const first = page.firstBlock + slot * span;
      const at = slot * placeWords;
      const isAbsent = isHole(page.words, at);
      const cached = page.children[slot];
      const isNew = isAbsent && cached !== undefined;
      const isTrimmed = !isAbsent && trims.overlaps(first, first + span);
      const ahead = Math.min(this.#blockAhead(), this.#moveAhead());
      const isMoved = this.#deps.relocations.hasPage(page.level - 1, first);
      if (!isNew && !isTrimmed && !isMoved && ahead >= first + span) continue;
      const child = await this.#child(page, slot, first);
      await this.#rewrite(child, page.words, at, page.words, at);
      if (isHole(page.words, at)) tree.unlink(child);
    }
  }

  async #child(page: CachedPage, slot: number, firstBlock: number): Promise<CachedPage> {
    const { tree, log } = this.#deps;
    try {
      return await tree.childFor(page, slot);
    } catch (error) {
      if (!isStorageError(error, 'corrupt')) throw error;
      log.error({ firstBlock, error: error.message }, 'page of the block map is lost');
      const level = page.level - 1;
      const lost = tree.newPage(level, firstBlock, lostWords(), {
        parent: page,
        slot,
        dirty: true,
      });
      tree.link(lost);
      return lost;
    }
  }

  /** The next block that moves. */
  #moveAhead(): number {
    const row = this.#moves[this.#nextMove];
    const { to } = this.#deps.relocations;
    return row === undefined ? Number.POSITIVE_INFINITY : to.blockOfRow(row);
  }

  /** The block of the next row that is not in the tree yet. */
  #blockAhead(): number {
    const row = this.#rows[this.#nextRow];
    return row === undefined ? Number.POSITIVE_INFINITY : this.#delta.blockOfRow(row);
  }
}

function isEmptyPage(page: CachedPage): boolean {
  for (let slot = 0; slot < pageFanout; slot += 1)
    if (!isHole(page.words, slot * placeWords)) return false;
  return true;
}

function lostWords(): Uint32Array {
  const words = emptyWords();
  for (let slot = 0; slot < pageFanout; slot += 1)
    setPlace(words, slot * placeWords, lostEpoch, 0, 0, 1, 0);
  return words;
}
