/** Choices from a seed. */

import { seededRandom } from '../../src/platform/random.ts';

export class Chance {
  readonly #random: ReturnType<typeof seededRandom>;

  /** Each `what` has its own, so that one more decoder changes nothing for the others. */
  constructor(seed: number, what: string) {
    let mixed = seed >>> 0;
    for (const character of what) mixed = Math.imul(mixed ^ character.charCodeAt(0), 0x0100_0193);
    this.#random = seededRandom(mixed);
  }

  /** 0 to `count - 1`. */
  below(count: number): number {
    return Math.floor(this.#random.fraction() * count);
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }
}
