/** Sorting in steps. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { orderBy } from '../../../src/core/order-by.ts';

function ordered(keys: readonly number[]): { readonly order: readonly number[]; steps: number } {
  const sorting = orderBy(Float64Array.from(keys));
  for (let steps = 0; ; steps += 1) {
    const { done, value } = sorting.next();
    if (done) return { order: [...value], steps };
  }
}

describe('orderBy', () => {
  test('gives the order of natural numbers of all sizes, equal ones as they come', () => {
    const size = fc.constantFrom(2, 2 ** 11, 2 ** 18, 2 ** 32, 2 ** 34, Number.MAX_SAFE_INTEGER);
    const keys = size.chain((max) => fc.array(fc.integer({ min: 0, max }), { maxLength: 300 }));
    fc.assert(
      fc.property(keys, (found) => {
        const expected = [...found.keys()].sort(
          (left, right) => (found[left] as number) - (found[right] as number) || left - right,
        );
        assert.deepEqual(ordered(found).order, expected);
      }),
    );
  });

  test('takes steps that do not grow with what is sorted', () => {
    const keys = Array.from({ length: 200_000 }, (_, index) => (index * 7919) % 200_003);
    const { order, steps } = ordered(keys);
    assert.ok(steps > 30, `${steps} steps`);
    for (let index = 1; index < order.length; index += 1)
      assert.ok(
        (keys[order[index - 1] as number] as number) < (keys[order[index] as number] as number),
      );
  });
});
