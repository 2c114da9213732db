import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LineTable, lineHash } from '../../../src/cache/line-table.ts';
import { S3Fifo } from '../../../src/cache/s3-fifo.ts';
import { seededRandom } from '../../../src/platform/random.ts';

/** A cache of numbers under the policy; tells whether a key was there. */
class Cache {
  readonly #policy: S3Fifo;
  readonly #slots = new Map<number, number>();
  readonly #keys: number[] = [];
  readonly #size: number;

  constructor(size: number) {
    this.#size = size;
    this.#policy = new S3Fifo(size);
  }

  access(key: number): boolean {
    const slot = this.#slots.get(key);
    if (slot !== undefined) {
      this.#policy.touch(slot);
      return true;
    }
    const free = this.#keys.length < this.#size ? this.#keys.length : this.#policy.evict();
    const old = this.#keys[free];
    if (old !== undefined) this.#slots.delete(old);
    this.#keys[free] = key;
    this.#slots.set(key, free);
    this.#policy.admit(free, lineHash(key, 0, 0, 0));
    return false;
  }
}

/** Hits of a plain first-in-first-out queue. */
function fifoHits(size: number, keys: readonly number[]): number {
  const queue: number[] = [];
  let hits = 0;
  for (const key of keys) {
    if (queue.includes(key)) hits += 1;
    else {
      queue.push(key);
      if (queue.length > size) queue.shift();
    }
  }
  return hits;
}

describe('the eviction policy', () => {
  test('keeps what is used through a scan of ten times the cache', () => {
    const cache = new Cache(1000);
    for (let round = 0; round < 3; round += 1)
      for (let key = 0; key < 500; key += 1) cache.access(key);
    for (let key = 10_000; key < 20_000; key += 1) cache.access(key);
    let kept = 0;
    for (let key = 0; key < 500; key += 1) if (cache.access(key)) kept += 1;
    assert.ok(kept > 450, `${kept} of 500 were kept`);
  });

  test('hits more often than a plain queue under a skewed load', () => {
    const random = seededRandom(3);
    const keys = Array.from({ length: 20_000 }, () => Math.floor(3000 * random.fraction() ** 3));
    const cache = new Cache(200);
    const hits = keys.filter((key) => cache.access(key)).length;
    const plain = fifoHits(200, keys);
    assert.ok(hits > plain * 1.05, `${hits} against ${plain}`);
  });
});

describe('the table of lines', () => {
  test('agrees with a plain map under random changes', () => {
    const random = seededRandom(5);
    const slots = 64;
    const table = new LineTable(slots);
    const model = new Map<number, number>();
    const free = Array.from({ length: slots }, (_, slot) => slot);
    for (let step = 0; step < 20_000; step += 1) {
      const key = Math.floor(random.fraction() * 300);
      const slot = table.find(1, 2, 3, key);
      assert.equal(slot, model.get(key) ?? -1, `step ${step}`);
      if (slot >= 0 && random.fraction() < 0.6) {
        table.remove(slot);
        model.delete(key);
        free.push(slot);
      } else if (slot < 0 && free.length > 0) {
        const taken = free.pop() as number;
        table.set(taken, 1, 2, 3, key, 1);
        model.set(key, taken);
      }
    }
  });
});
