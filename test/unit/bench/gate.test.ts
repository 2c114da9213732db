/** What the bench's gate lets through. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { acceptable, compareWith } from '../../bench/gate.ts';
import type { Figure, Target } from '../../bench/report.ts';

const more: Target = { is: 'at least' };
const less: Target = { is: 'at most', value: 5 };

function figure(samples: readonly number[], target: Target | undefined = more): Figure {
  return { bench: 'path', title: 'reads', name: 'us / them', samples, target, isRatio: true };
}

const kinds = (was: Figure, is: readonly Figure[], ran = ['path']) =>
  compareWith(acceptable([was]), is, ran).map(({ kind }) => kind);

describe('the gate', () => {
  test('finds what is worse, whichever way is better', () => {
    assert.deepEqual(kinds(figure([2, 2, 2]), [figure([1.5, 1.5, 1.5])]), ['worse']);
    assert.deepEqual(kinds(figure([2, 2, 2], less), [figure([2.5, 2.5, 2.5], less)]), ['worse']);
  });

  test('lets through what is better, or as before', () => {
    assert.deepEqual(kinds(figure([2, 2, 2]), [figure([4, 4, 4])]), []);
    assert.deepEqual(kinds(figure([2, 2, 2], less), [figure([1, 1, 1], less)]), []);
    assert.deepEqual(kinds(figure([2, 2, 2]), [figure([1.9, 1.9, 1.9])]), []);
  });

  test('allows for what samples are apart, of either run', () => {
    assert.deepEqual(kinds(figure([1.7, 2, 2.3]), [figure([1.6, 1.6, 1.6])]), ['worse']);
    assert.deepEqual(kinds(figure([1.7, 2, 2.3]), [figure([1.5, 1.6, 1.7])]), []);
    assert.deepEqual(kinds(figure([2, 2, 2]), [figure([1.3, 1.6, 1.9])]), ['worse']);
    assert.deepEqual(kinds(figure([2, 2, 2]), [figure([1.2, 1.6, 2])]), []);
  });

  test('says where samples are too far apart to say anything, and never lets a collapse through', () => {
    assert.deepEqual(kinds(figure([1, 2, 4]), [figure([1, 1.9, 3])]), ['unsure']);
    assert.deepEqual(kinds(figure([1, 2, 4]), [figure([0.1, 0.8, 3])]), ['worse']);
  });

  test('misses what is gone, in benches that ran', () => {
    assert.deepEqual(kinds(figure([2]), []), ['gone']);
    assert.deepEqual(kinds(figure([2]), [], ['ssd']), []);
    assert.deepEqual(kinds(figure([2]), [{ ...figure([2]), title: 'writes' }]), ['gone']);
  });

  test('misses what could not be measured, and does not keep it', () => {
    assert.deepEqual(kinds(figure([2, 2]), [figure([2, Number.NaN])]), ['gone']);
    assert.deepEqual(acceptable([figure([2, Number.NaN])]), []);
  });

  test('keeps ratios alone, and of them those that have a better side', () => {
    const kept = acceptable([
      figure([1]),
      { ...figure([1]), isRatio: false },
      { ...figure([1]), target: undefined },
    ]);
    assert.deepEqual(kept, [
      { bench: 'path', title: 'reads', name: 'us / them', samples: [1], target: more },
    ]);
  });
});
