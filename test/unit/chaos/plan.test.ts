/** What a seed gives a chaos run. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Round } from '../../chaos/plan.ts';
import { describeStep, kinds, roundsOf } from '../../chaos/plan.ts';

function first(count: number, seed: number): Round[] {
  const rounds = roundsOf(seed);
  return Array.from({ length: count }, () => rounds.next().value);
}

describe('the plan of a chaos run', () => {
  test('is the same for the same seed, and another for another', () => {
    assert.deepEqual(first(50, 7), first(50, 7));
    assert.notDeepEqual(first(50, 7), first(50, 8));
  });

  test('does each thing that there is', () => {
    const done = new Set(first(200, 1).flatMap((round) => round.map(({ kind }) => kind)));
    assert.deepEqual([...done].sort(), Object.keys(kinds).sort());
  });

  test('never does two faults to one thing at once', () => {
    for (const round of first(200, 2)) {
      const daemons = round.filter(({ kind }) => kinds[kind].thing === 'daemon');
      const hosts = daemons.map(({ host }) => host);
      assert.equal(new Set(hosts).size, hosts.length, round.map(describeStep).join('; '));
    }
  });
});
