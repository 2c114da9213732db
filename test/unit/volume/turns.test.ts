import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Turns } from '../../../src/volume/turns.ts';

/** Steps until others have their turn, where each takes so long. */
function stepsOfTurn(stepMs: number): number {
  let nowMs = 0;
  const turns = new Turns({ monotonicMs: () => nowMs, sleep: async () => {} });
  for (let steps = 1; ; steps += 1) {
    nowMs += stepMs;
    if (turns.step()) return steps;
  }
}

test('a turn ends after a time, or after many steps', () => {
  assert.ok(stepsOfTurn(1) < 10, 'of slow steps few');
  assert.ok(stepsOfTurn(1000) === 1, 'after one that took long');
  assert.ok(stepsOfTurn(0) > 10 && stepsOfTurn(0) < 1000, 'of quick ones more, and not all');
});

test('the next turn begins when the others have had theirs', async () => {
  let nowMs = 0;
  const sleep = async () => {
    nowMs += 1000;
  };
  const turns = new Turns({ monotonicMs: () => nowMs, sleep });
  nowMs += 1000;
  await turns.step();
  assert.equal(turns.step(), undefined);
});
