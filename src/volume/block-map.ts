/**
 * Where each block of a volume is, as a stack of generations over the checkpointed tree, newest
 * first:
 *
 *   active          changes since the last cut; their data is in the journal
 *   cuts            frozen, on their way to segments; their data is in the journal
 *   delta           committed cuts since the last checkpoint; their data is in segments
 *   checkpointing   a delta that is being written into the tree, while that runs
 *   tree            everything older (page-tree.ts)
 *
 * A generation moves down as a whole: `freeze` makes the active one a cut, `commitCut` pours the
 * oldest cut into the delta once its segments are committed, `beginCheckpoint` and
 * `endCheckpoint` pour the delta into the tree. So what a cut holds is a state that the volume
 * once had, and no bookkeeping by block is needed.
 */

import { invariant } from '../core/invariant.ts';
import { pageFanout } from '../format/map-page.ts';
import { placeWords } from '../format/place.ts';
import { BlockOverlay } from './block-overlay.ts';
import type { PageTree } from './page-tree.ts';

export interface Cut {
  readonly overlay: BlockOverlay;
  /** The last journal record that it holds, and the size of the volume after that. */
  readonly journalSequence: number;
  readonly volumeBytes: number;
}

/** A trim of more blocks is not counted block by block; see `dataBlocks`. */
const countedTrimBlocksMax = 65_536;

export class BlockMap {
  readonly tree: PageTree;
  #active = new BlockOverlay();
  /** Oldest first. */
  readonly #cuts: Cut[] = [];
  #delta = new BlockOverlay();
  #checkpointing: BlockOverlay | undefined;
  /** Blocks of the tree that hold data; exact after each checkpoint. */
  #treeBlocks: number;
  readonly #scratch = new Uint32Array(placeWords);

  constructor(tree: PageTree, treeBlocks: number) {
    this.tree = tree;
    this.#treeBlocks = treeBlocks;
  }

  /** Changes that are in the journal alone. */
  get active(): BlockOverlay {
    return this.#active;
  }

  get delta(): BlockOverlay {
    return this.#delta;
  }

  get cutCount(): number {
    return this.#cuts.length;
  }

  /** Blocks whose newest data is in the journal alone. */
  get journalBlocks(): number {
    return this.#cuts.reduce((sum, cut) => sum + cut.overlay.rowCount, this.#active.rowCount);
  }

  get treeBlocks(): number {
    return this.#treeBlocks;
  }

  /**
   * Blocks that hold data. Above the tree it is an estimate, as good as the pages in memory, which
   * each checkpoint replaces by the count.
   */
  get dataBlocks(): number {
    let sum = this.#treeBlocks + this.#active.growth + this.#delta.growth;
    for (const cut of this.#cuts) sum += cut.overlay.growth;
    return Math.max(0, sum + (this.#checkpointing?.growth ?? 0));
  }

  /** As `PageTree.find`. A place of epoch 0 lies in the journal. */
  find(block: number, place: Uint32Array): 'data' | 'hole' | Promise<void> {
    const above = this.#findAbove(block, place);
    return above === 'absent' ? this.tree.find(block, place) : above;
  }

  write(block: number, file: number, offset: number, bytes: number, checksum: number): void {
    if (this.#peek(block) !== 'data') this.#active.growth += 1;
    this.#active.putJournalBlock(block, file, offset, bytes, checksum);
  }

  trim(from: number, to: number): void {
    if (to - from > countedTrimBlocksMax) {
      this.#active.growth -= Math.min(this.dataBlocks, to - from);
    } else {
      for (let block = from; block < to; ) {
        const kind = this.#peek(block);
        if (kind === 'data') this.#active.growth -= 1;
        block = kind === 'hole' ? Math.min(to, this.skipHole(block)) : block + 1;
      }
    }
    this.#active.trim(from, to);
  }

  /** A block behind the hole at `block` that may hold data, or Infinity. */
  skipHole(block: number): number {
    const leaf = Math.floor(block / pageFanout);
    return Math.max(block + 1, this.#nextLeaf(leaf) * pageFanout);
  }

  freeze(journalSequence: number, volumeBytes: number): Cut {
    const overlay = this.#active;
    const cut = { overlay, journalSequence, volumeBytes };
    this.#cuts.push(cut);
    this.#active = new BlockOverlay();
    return cut;
  }

  /** The oldest cut is committed: row `rows[i]` of it now lies at place `i` of `places`. */
  commitCut(cut: Cut, rows: Uint32Array, places: Uint32Array): void {
    invariant(this.#cuts[0] === cut, 'cuts are committed in their order');
    this.#cuts.shift();
    const { overlay } = cut;
    if (this.#delta.isEmpty) {
      // The cut itself becomes the delta: a long one that is poured takes a tenth of a second.
      overlay.growth += this.#delta.growth;
      overlay.move(rows, places);
      this.#delta = overlay;
      return;
    }
    this.applyTrims(overlay.trims);
    this.#delta.growth += overlay.growth;
    rows.forEach((row, index) => {
      this.#delta.put(overlay.blockOfRow(row), places, index * placeWords);
    });
  }

  /** Trims of a committed cut, here or in recovery; they come before its blocks. */
  applyTrims(trims: Iterable<readonly [from: number, to: number]>): void {
    for (const [from, to] of trims) this.#delta.trim(from, to);
  }

  /** A block of a committed cut, in recovery. */
  applyBlock(block: number, place: Uint32Array): void {
    if (this.#peek(block) !== 'data') this.#delta.growth += 1;
    this.#delta.put(block, place);
  }

  /** The delta from now on is a new one; the old one is to be written into the tree. */
  beginCheckpoint(): BlockOverlay {
    invariant(this.#checkpointing === undefined, 'one checkpoint at a time');
    this.#checkpointing = this.#delta;
    this.#delta = new BlockOverlay();
    return this.#checkpointing;
  }

  /** The tree holds all that the checkpointed delta held. */
  endCheckpoint(treeBlocks: number): void {
    this.#treeBlocks = treeBlocks;
    this.#checkpointing = undefined;
  }

  #findAbove(block: number, place: Uint32Array): 'data' | 'hole' | 'absent' {
    let found = this.#active.find(block, place);
    for (let index = this.#cuts.length - 1; found === 'absent' && index >= 0; index -= 1)
      found = (this.#cuts[index] as Cut).overlay.find(block, place);
    if (found === 'absent') found = this.#delta.find(block, place);
    if (found === 'absent' && this.#checkpointing) found = this.#checkpointing.find(block, place);
    return found;
  }

  #peek(block: number): 'data' | 'hole' | 'unknown' {
    const above = this.#findAbove(block, this.#scratch);
    return above === 'absent' ? this.tree.peek(block) : above;
  }

  #nextLeaf(leaf: number): number {
    let next = Math.min(this.#active.nextLeaf(leaf), this.#delta.nextLeaf(leaf));
    for (const cut of this.#cuts) next = Math.min(next, cut.overlay.nextLeaf(leaf));
    if (this.#checkpointing) next = Math.min(next, this.#checkpointing.nextLeaf(leaf));
    return Math.min(next, this.tree.nextLeaf(leaf));
  }
}
