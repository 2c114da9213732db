import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Change, TenureStart } from '../../../src/core/changes.ts';
import { areStarts, isThere, tenureStartsMax, withStart } from '../../../src/core/changes.ts';

/** What a tenure loses of what it finds, and how many changes it makes then. */
const tenure = fc.record({ lost: fc.nat(4), made: fc.nat(4) });

/** An object's life: by number, of which epoch each change is; and all that was ever made. */
function live(tenures: readonly { readonly lost: number; readonly made: number }[]) {
  const there: number[] = [];
  const made: Change[] = [];
  let starts: readonly TenureStart[] = [];
  let epoch = 0;
  for (const { lost, made: count } of tenures) {
    epoch += 2;
    there.length = Math.max(0, there.length - lost);
    starts = withStart(starts, { epoch, after: there.length });
    for (let left = count; left > 0; left -= 1) made.push({ epoch, number: there.push(epoch) });
  }
  const isReallyThere = ({ epoch: of, number }: Change) => there[number - 1] === of;
  return { starts, made, isReallyThere };
}

describe('a change of an object', () => {
  test('is there, or is not, as the starts of tenures tell', () => {
    fc.assert(
      fc.property(fc.array(tenure, { maxLength: tenureStartsMax - 1 }), (tenures) => {
        const { starts, made, isReallyThere } = live(tenures);
        assert.ok(areStarts(starts));
        for (const change of made)
          assert.equal(isThere(starts, change), isReallyThere(change), JSON.stringify(change));
      }),
      { numRuns: 1000 },
    );
  });

  test('is never said to be there after so many tenures that nobody knows', () => {
    fc.assert(
      fc.property(fc.array(tenure, { minLength: 20, maxLength: 60 }), (tenures) => {
        const { starts, made, isReallyThere } = live(tenures);
        assert.ok(areStarts(starts));
        for (const change of made)
          if (isThere(starts, change)) assert.ok(isReallyThere(change), JSON.stringify(change));
      }),
    );
  });

  test('is not said to be there where what has lost it is forgotten, and so is some of what came then', () => {
    const one = { lost: 0, made: 1 };
    const many = Array.from({ length: tenureStartsMax + 1 }, () => one);
    const { starts, made } = live([one, { lost: 1, made: 1 }, ...many, { lost: 2, made: 0 }]);
    assert.ok(starts.length < tenureStartsMax);
    assert.equal(isThere(starts, made[0] as Change), false);
  });

  test('of the last tenures is there whatever is forgotten', () => {
    const always = Array.from({ length: 40 }, () => ({ lost: 0, made: 1 }));
    const { starts, made } = live(always);
    assert.equal(starts.length, tenureStartsMax);
    const known = made.filter((change) => isThere(starts, change));
    assert.deepEqual(known, made.slice(-tenureStartsMax));
  });

  test('is not lost by tenures that find all and change nothing, however many', () => {
    const idle = Array.from({ length: 40 }, () => ({ lost: 0, made: 0 }));
    const { starts, made } = live([{ lost: 0, made: 3 }, ...idle]);
    for (const change of made) assert.ok(isThere(starts, change));
  });

  test('is told by its own tenure to those that have known less of it', () => {
    const starts = [
      { epoch: 3, after: 5 },
      { epoch: 7, after: 9 },
    ];
    for (const found of [
      { epoch: 3, after: 8 },
      { epoch: 5, after: 6 },
      { epoch: 7, after: 20 },
    ])
      assert.equal(withStart(starts, found), starts);
  });
});
