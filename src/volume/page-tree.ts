/**
 * The checkpointed block map: a copy-on-write tree of pages that live in segments. Pages are
 * loaded as they are needed and kept within a budget, so opening a volume and its memory do not
 * depend on its size.
 *
 * A checkpoint changes pages in place while the generation it writes out still stands above them
 * with the very same places, so readers see one truth at any moment (see checkpoint.ts).
 */

import { StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import { chain } from '../core/eventually.ts';
import { decodeMapPage, pageFanout, pageSpan } from '../format/map-page.ts';
import {
  copyPlace,
  isHole,
  lostEpoch,
  placeLength,
  placeOrigin,
  placeWord,
  placeWords,
  shiftOrigins,
} from '../format/place.ts';
import type { SegmentSource } from '../ports/segment-source.ts';
import type { CachedPage, PageBudget, TreeLife } from './page-budget.ts';

export function emptyWords(): Uint32Array {
  return new Uint32Array(pageFanout * placeWords);
}

export class PageTree {
  readonly #sources: SourcesByOrigin;
  readonly #budget: PageBudget;
  readonly #life: TreeLife = { isOver: false };
  readonly #rootPlace = new Uint32Array(placeWords);
  #rootLevel: number;
  #root: CachedPage | Promise<void> | undefined;

  constructor(
    sources: SourcesByOrigin,
    budget: PageBudget,
    root: { readonly place: Uint32Array; readonly level: number },
  ) {
    this.#sources = sources;
    this.#budget = budget;
    this.#rootPlace.set(root.place);
    this.#rootLevel = root.level;
  }

  /** Linked to nothing yet. */
  newPage(
    level: number,
    firstBlock: number,
    words: Uint32Array,
    options: {
      readonly parent?: CachedPage;
      readonly slot?: number;
      readonly dirty?: boolean;
    } = {},
  ): CachedPage {
    const children = level === 0 ? [] : new Array<undefined>(pageFanout).fill(undefined);
    return {
      level,
      firstBlock,
      words,
      children,
      parent: options.parent,
      slot: options.slot ?? 0,
      cachedChildren: 0,
      used: true,
      dirty: options.dirty ?? false,
      dropped: false,
      tree: this.#life,
      loads: 0,
    };
  }

  get rootLevel(): number {
    return this.#rootLevel;
  }

  get rootPlace(): Uint32Array {
    return this.#rootPlace;
  }

  get budget(): PageBudget {
    return this.#budget;
  }

  /**
   * `data` with its place in `place`, or `hole`; or a promise to wait for before asking again,
   * because a page has to be loaded. It rejects with `corrupt` where the page can't be read.
   */
  find(block: number, place: Uint32Array): 'data' | 'hole' | Promise<void> {
    const page = this.#leafOf(block, 'load');
    if (page === 'hole' || page instanceof Promise) return page;
    const at = (block - page.firstBlock) * placeWords;
    if (isHole(page.words, at)) return 'hole';
    copyPlace(page.words, at, place, 0);
    return 'data';
  }

  /** The place of a page on the backend; false where the tree has none there, or never wrote it. */
  async pagePlace(level: number, firstBlock: number, place: Uint32Array): Promise<boolean> {
    let page = await this.#loadedRoot();
    if (!page || level > page.level || firstBlock >= this.#span()) return false;
    if (level === page.level) {
      copyPlace(this.#rootPlace, 0, place, 0);
      return !isHole(place, 0);
    }
    for (;;) {
      const parent: CachedPage = page;
      const slot = Math.floor((firstBlock - parent.firstBlock) / pageSpan(parent.level - 1));
      const isAbsent = isHole(parent.words, slot * placeWords);
      if (parent.level === level + 1) {
        copyPlace(parent.words, slot * placeWords, place, 0);
        return !isAbsent;
      }
      if (isAbsent && parent.children[slot] === undefined) return false;
      page = await this.childFor(parent, slot);
    }
  }

  /** As `find` from what is in memory alone, without a place. */
  peek(block: number): 'data' | 'hole' | 'unknown' {
    const page = this.#leafOf(block, 'peek');
    if (page === 'hole' || page === 'unknown') return page;
    return isHole(page.words, (block - page.firstBlock) * placeWords) ? 'hole' : 'data';
  }

  /**
   * The first leaf at or after `leaf` that may hold data, as far as the pages in memory tell, or
   * Infinity.
   */
  nextLeaf(leaf: number): number {
    let block = leaf * pageFanout;
    while (block < this.#span()) {
      const skipTo = this.#holeEnd(block);
      if (skipTo === block) return block / pageFanout;
      block = skipTo;
    }
    return Number.POSITIVE_INFINITY;
  }

  /** The root page, loaded, after the tree was made or raised so that `block` fits into it. */
  async rootFor(block: number): Promise<CachedPage> {
    const old = await this.#loadedRoot();
    if (old !== undefined && block < pageSpan(old.level)) return old;
    let level = old?.level ?? 0;
    while (block >= pageSpan(level)) level += 1;
    const root = this.newPage(level, 0, emptyWords(), { dirty: true });
    if (old) {
      // The old root is whole on the backend: the lowest of the new pages refers to it there.
      this.#budget.drop(old);
      let lowest = root;
      for (let below = level - 1; below > old.level; below -= 1) {
        const link = { parent: lowest, slot: 0, dirty: true };
        lowest = this.newPage(below, 0, emptyWords(), link);
        this.link(lowest);
      }
      // Its place is an entry like any other now; the new root has none yet.
      copyPlace(this.#rootPlace, 0, lowest.words, 0);
      this.#rootPlace.fill(0);
    }
    this.#adoptRoot(root);
    return root;
  }

  /** A child of an inner page, loaded; an empty one where the slot is a hole. */
  async childFor(parent: CachedPage, slot: number): Promise<CachedPage> {
    for (;;) {
      const cached = parent.children[slot];
      if (cached !== undefined && !(cached instanceof Promise)) return cached;
      if (cached === undefined && isHole(parent.words, slot * placeWords)) {
        const level = parent.level - 1;
        const firstBlock = parent.firstBlock + slot * pageSpan(level);
        const page = this.newPage(level, firstBlock, emptyWords(), { parent, slot, dirty: true });
        this.link(page);
        return page;
      }
      await (cached ?? this.#loadChild(parent, slot));
    }
  }

  /** Puts a page into its parent's slot and under the budget. */
  link(page: CachedPage): void {
    const { parent } = page;
    if (parent) {
      parent.children[page.slot] = page;
      parent.cachedChildren += 1;
    }
    this.#budget.add(page);
  }

  /** Takes a page that became empty out of memory. */
  unlink(page: CachedPage): void {
    this.#budget.drop(page);
  }

  /** In place of a root that can't be read. */
  replaceRoot(root: CachedPage): void {
    this.#rootPlace.fill(0);
    this.#adoptRoot(root);
  }

  /** The root has a new place; all zero when the map is empty. */
  setRootPlace(place: Uint32Array): void {
    this.#rootPlace.set(place);
    const root = this.#root;
    if (isHole(place, 0) && root !== undefined && !(root instanceof Promise)) {
      this.#budget.drop(root);
      this.#root = undefined;
    }
  }

  /** What a page of these places holds, read anew and not kept in memory. */
  async loadPage(
    places: Uint32Array,
    at: number,
    { level, firstBlock }: { readonly level: number; readonly firstBlock: number },
  ): Promise<Uint32Array> {
    const origin = placeOrigin(places, at);
    const bytes = await readChunk(this.#sources, places, at);
    const page = decodeMapPage(bytes);
    if (page.level !== level || page.firstBlock !== firstBlock)
      throw new StorageError('corrupt', 'a page of the block map stands in the wrong place', {
        detail: { level, firstBlock, found: { level: page.level, firstBlock: page.firstBlock } },
      });
    shiftOrigins(page.words, origin);
    return page.words;
  }

  /** Costs the same however many pages are in memory: a volume is held while it changes hands. */
  close(): void {
    this.#life.isOver = true;
    this.#root = undefined;
  }

  #span(): number {
    return this.#root === undefined && isHole(this.#rootPlace, 0) ? 0 : pageSpan(this.#rootLevel);
  }

  #leafOf(block: number, how: 'load'): CachedPage | 'hole' | Promise<void>;
  #leafOf(block: number, how: 'peek'): CachedPage | 'hole' | 'unknown';
  #leafOf(block: number, how: 'load' | 'peek'): CachedPage | 'hole' | 'unknown' | Promise<void> {
    if (block >= this.#span()) return 'hole';
    let page = this.#root;
    if (page === undefined || page instanceof Promise)
      return how === 'peek' ? 'unknown' : (page ?? this.#loadRoot());
    while (page.level > 0) {
      page.used = true;
      const inner: CachedPage = page;
      const slot = Math.floor((block - inner.firstBlock) / pageSpan(inner.level - 1));
      const child = inner.children[slot];
      if (child === undefined || child instanceof Promise) {
        if (child === undefined && isHole(inner.words, slot * placeWords)) return 'hole';
        return how === 'peek' ? 'unknown' : (child ?? this.#loadChild(inner, slot));
      }
      page = child;
    }
    page.used = true;
    return page;
  }

  /** Where the hole around `block` ends by what is in memory; `block` itself where it may be data. */
  #holeEnd(block: number): number {
    let page = this.#root;
    if (page === undefined || page instanceof Promise) return block;
    while (page.level > 0) {
      const inner: CachedPage = page;
      const span = pageSpan(inner.level - 1);
      let slot = Math.floor((block - inner.firstBlock) / span);
      const child = inner.children[slot];
      if (child === undefined && isHole(inner.words, slot * placeWords)) {
        do slot += 1;
        while (
          slot < pageFanout &&
          inner.children[slot] === undefined &&
          isHole(inner.words, slot * placeWords)
        );
        return inner.firstBlock + slot * span;
      }
      if (child === undefined || child instanceof Promise) return block;
      page = child;
    }
    return block;
  }

  #adoptRoot(root: CachedPage): void {
    this.#root = root;
    this.#rootLevel = root.level;
    this.#budget.add(root);
  }

  async #loadedRoot(): Promise<CachedPage | undefined> {
    for (;;) {
      if (this.#root !== undefined && !(this.#root instanceof Promise)) return this.#root;
      if (this.#root === undefined && isHole(this.#rootPlace, 0)) return undefined;
      await (this.#root ?? this.#loadRoot());
    }
  }

  #loadRoot(): Promise<void> {
    const level = this.#rootLevel;
    const loading = this.loadPage(this.#rootPlace, 0, { level, firstBlock: 0 }).then(
      (words) => this.#adoptRoot(this.newPage(level, 0, words)),
      (error: unknown) => {
        this.#root = undefined;
        throw error;
      },
    );
    // Whoever waits for it sees its failure; maybe nobody does.
    loading.catch(() => {});
    this.#root = loading;
    return loading;
  }

  #loadChild(parent: CachedPage, slot: number): Promise<void> {
    const level = parent.level - 1;
    const firstBlock = parent.firstBlock + slot * pageSpan(level);
    // The parent is in use while the load runs, so that it is not evicted from above the child.
    parent.loads += 1;
    const loading = this.loadPage(parent.words, slot * placeWords, { level, firstBlock })
      .then(
        (words) => this.link(this.newPage(level, firstBlock, words, { parent, slot })),
        (error: unknown) => {
          parent.children[slot] = undefined;
          throw error;
        },
      )
      .finally(() => {
        parent.loads -= 1;
      });
    loading.catch(() => {});
    parent.children[slot] = loading;
    return loading;
  }
}

/** The segments of a volume and of its ancestors: by origin, the volume's own first. */
export type SourcesByOrigin = readonly SegmentSource[];

/** Where the place's segment is found. Throws `corrupt` where there is no such ancestor. */
export function sourceOf(sources: SourcesByOrigin, places: Uint32Array, at: number): SegmentSource {
  const source = sources[placeOrigin(places, at)];
  if (!source) throw new StorageError('corrupt', 'a place is of an ancestor that is not known');
  return source;
}

/** One whole chunk of a segment, verified. */
export function readChunk(
  sources: SourcesByOrigin,
  places: Uint32Array,
  at: number,
): Eventually<Uint8Array> {
  const epoch = places[at + placeWord.epoch] as number;
  if (epoch === lostEpoch)
    throw new StorageError('corrupt', 'what stood here was lost with its page of the block map');
  const bytes = new Uint8Array(placeLength(places, at));
  const run = {
    epoch,
    sequence: places[at + placeWord.sequence] as number,
    offset: places[at + placeWord.offset] as number,
    chunkBytes: bytes.length,
    checksums: Uint32Array.of(places[at + placeWord.checksum] as number),
    firstChecksum: 0,
  };
  return chain(sourceOf(sources, places, at).read(run, bytes), () => bytes);
}
