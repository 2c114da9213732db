import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RangeSet } from '../../../src/core/ranges.ts';

const size = 40;
const ranges = fc.array(fc.tuple(fc.nat(size), fc.nat(size)), { maxLength: 12 });

/** The set as its members, one flag each. */
function members(added: readonly (readonly [number, number])[]): boolean[] {
  const flags = new Array<boolean>(size + 1).fill(false);
  for (const [from, to] of added) flags.fill(true, from, Math.max(from, to));
  return flags;
}

function build(added: readonly (readonly [number, number])[]): RangeSet {
  const set = new RangeSet();
  for (const [from, to] of added) set.add(from, to);
  return set;
}

describe('a range set', () => {
  test('holds exactly what was added', () => {
    fc.assert(
      fc.property(ranges, (added) => {
        const set = build(added);
        members(added).forEach((flag, value) => assert.equal(set.has(value), flag));
      }),
    );
  });

  test('keeps its ranges sorted, disjoint and apart', () => {
    fc.assert(
      fc.property(ranges, (added) => {
        let before = -1;
        for (const [from, to] of build(added)) {
          assert.ok(from > before && to > from);
          before = to;
        }
      }),
    );
  });

  test('tells overlaps, covers and ends as its members do', () => {
    fc.assert(
      fc.property(ranges, fc.nat(size), fc.nat(size), (added, from, to) => {
        const set = build(added);
        const flags = members(added).slice(from, to);
        assert.equal(set.overlaps(from, to), flags.includes(true));
        if (from < to) assert.equal(set.covers(from, to), !flags.includes(false));
        let end = from;
        while (set.has(end)) end += 1;
        assert.equal(set.endOf(from), end);
      }),
    );
  });

  test('merges neighbours into one range', () => {
    const set = build([
      [0, 10],
      [20, 30],
      [10, 20],
    ]);
    assert.equal(set.count, 1);
    assert.deepEqual([...set], [[0, 30]]);
  });

  test('holds ranges of any length in one entry', () => {
    const set = build([[0, 2 ** 40]]);
    assert.equal(set.count, 1);
    assert.ok(set.has(2 ** 40 - 1) && !set.has(2 ** 40));
  });
});
