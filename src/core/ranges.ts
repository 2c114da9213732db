/**
 * A set of numbers as sorted, disjoint, non-adjacent half-open ranges. Used for trimmed blocks:
 * one entry stands for a range of any length.
 */
export class RangeSet {
  /** Range `i` is `#bounds[2 * i]` (inclusive) to `#bounds[2 * i + 1]` (exclusive). */
  #bounds: number[] = [];

  /** Number of ranges, not of members. */
  get count(): number {
    return this.#bounds.length / 2;
  }

  has(value: number): boolean {
    return this.#boundsUpTo(value) % 2 === 1;
  }

  /** Adds `from` (inclusive) to `to` (exclusive), merging what it touches. */
  add(from: number, to: number): void {
    if (from >= to) return;
    // A bound equal to `from` that ends a range is swallowed, so that neighbours merge.
    let first = this.#boundsUpTo(from);
    if (first % 2 === 0 && first > 0 && this.#bounds[first - 1] === from) first -= 1;
    const last = this.#boundsUpTo(to);
    const merged: number[] = [];
    if (first % 2 === 0) merged.push(from);
    if (last % 2 === 0) merged.push(to);
    this.#bounds.splice(first, last - first, ...merged);
  }

  /** Whether any member lies in `from` (inclusive) to `to` (exclusive). */
  overlaps(from: number, to: number): boolean {
    if (from >= to) return false;
    const before = this.#boundsUpTo(from);
    return before % 2 === 1 || this.#boundsUpTo(to - 1) !== before;
  }

  /** Whether all of `from` (inclusive) to `to` (exclusive) are members. */
  covers(from: number, to: number): boolean {
    return this.has(from) && this.endOf(from) >= to;
  }

  /** The end of the range that holds `value`, or `value` itself where none does. */
  endOf(value: number): number {
    const index = this.#boundsUpTo(value);
    return index % 2 === 1 ? (this.#bounds[index] as number) : value;
  }

  /** In ascending order. */
  *[Symbol.iterator](): IterableIterator<readonly [from: number, to: number]> {
    for (let index = 0; index < this.#bounds.length; index += 2)
      yield [this.#bounds[index] as number, this.#bounds[index + 1] as number];
  }

  /** How many bounds are at or below `value`: odd inside a range, even outside. */
  #boundsUpTo(value: number): number {
    let low = 0;
    let high = this.#bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#bounds[middle] as number) <= value) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
