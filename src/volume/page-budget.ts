/**
 * The bound on pages of block maps in memory, shared by all volumes of a driver. Pages are evicted
 * by the clock algorithm: a page used since the hand last passed is spared once. A page stays
 * while children of it are cached or being loaded, and while it is dirty.
 */

import { pageFanout } from '../format/map-page.ts';
import { placeWords } from '../format/place.ts';

const pagesMin = 64;
/** Its words, and the objects around them. */
const pageMemoryBytes = pageFanout * placeWords * Uint32Array.BYTES_PER_ELEMENT + 512;

/** Whether anybody may reach the pages of a map. */
export interface TreeLife {
  isOver: boolean;
}

/** A page of a block map in memory, linked to its cached children. */
export interface CachedPage {
  readonly level: number;
  readonly firstBlock: number;
  readonly words: Uint32Array;
  /** Of inner pages: cached children by slot, or the load that is under way. */
  readonly children: (CachedPage | Promise<void> | undefined)[];
  readonly parent: CachedPage | undefined;
  readonly slot: number;
  cachedChildren: number;
  used: boolean;
  /** Its words are not on the backend yet. */
  dirty: boolean;
  /** No longer reached, as all pages of a tree that is over; the clock's hand takes it away. */
  dropped: boolean;
  readonly tree: TreeLife;
  /** Loads of children under way. */
  loads: number;
}

export class PageBudget {
  readonly #pagesMax: number;
  readonly #pages: CachedPage[] = [];
  #hand = 0;

  constructor(bytesMax: number) {
    this.#pagesMax = Math.max(pagesMin, Math.floor(bytesMax / pageMemoryBytes));
  }

  get pageCount(): number {
    return this.#pages.length;
  }

  /** Counts a page that was just linked to its parent, and makes room for it. */
  add(page: CachedPage): void {
    this.#pages.push(page);
    let steps = this.#pages.length * 2;
    while (this.#pages.length > this.#pagesMax && steps > 0) {
      this.#step(page);
      steps -= 1;
    }
  }

  /** Drops a page and what is cached below it: it is no longer reached. */
  drop(page: CachedPage): void {
    for (const child of page.children)
      if (child !== undefined && !(child instanceof Promise)) this.drop(child);
    page.dropped = true;
    this.#unlink(page);
  }

  #step(newcomer: CachedPage): void {
    if (this.#hand >= this.#pages.length) this.#hand = 0;
    const page = this.#pages[this.#hand] as CachedPage;
    const stays = page === newcomer || page.dirty || page.loads + page.cachedChildren > 0;
    const isGone = page.dropped || page.tree.isOver;
    if (!isGone && (stays || page.parent === undefined || page.used)) {
      page.used = false;
      this.#hand += 1;
      return;
    }
    this.#unlink(page);
    const last = this.#pages.pop() as CachedPage;
    if (last !== page) this.#pages[this.#hand] = last;
  }

  #unlink(page: CachedPage): void {
    const { parent } = page;
    if (parent === undefined || parent.children[page.slot] !== page) return;
    parent.children[page.slot] = undefined;
    parent.cachedChildren -= 1;
  }
}
