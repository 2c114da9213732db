/** A few hundred simulated vPools, and that the simulator repeats itself to the letter. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../src/platform/random.ts';
import { History, unreadable, Violation } from './history.ts';
import { planOf } from './planner.ts';
import type { Coverage } from './protocol.ts';
import { neverMet } from './protocol.ts';
import { runSeed } from './seed.ts';

const seedCount = 200;

test(`${seedCount} vPools keep their promises`, async () => {
  const sums: Record<string, number> = {};
  const met: Coverage['counts'] = new Map();
  for (let seed = 1; seed <= seedCount; seed += 1) {
    const { failure, counts, coverage } = await runSeed(seed);
    if (failure) assert.fail(`${failure.message}; again: npm run sim -- --seed ${seed} --trace`);
    for (const [what, count] of Object.entries(counts)) sums[what] = (sums[what] ?? 0) + count;
    for (const cell of coverage.keys()) met.set(cell, 1);
  }
  for (const [what, count] of Object.entries(sums)) assert.ok(count > 0, `nothing of ${what}`);
  assert.deepEqual(neverMet(met), []);
});

test('one seed is one history, and one plan', async () => {
  const [once, again, other] = [await runSeed(3), await runSeed(3), await runSeed(4)];
  assert.deepEqual([once.hash, once.events], [again.hash, again.events]);
  assert.notEqual(once.hash, other.hash);
  assert.deepEqual(planOf(seededRandom(3)), planOf(seededRandom(3)));
});

/** A disk of two units, with a clock that only counts. */
function history() {
  let ticks = 0;
  return new History({ tick: () => (ticks += 1) }, 'disk', 4096, [0, 0]);
}

function written(to: History, unit: number, value: number): void {
  to.endWrite(to.beginWrite(unit, 1, value), unit, 1);
}

const sees = (in_: History, values: readonly number[]) => {
  in_.endRead(in_.beginRead(0, 2), values);
};

test('a history knows what can be read', () => {
  const disk = history();
  written(disk, 0, 1);
  sees(disk, [1, 0]);
  const under = disk.beginWrite(0, 1, 2);
  sees(disk, [1, 0]);
  sees(disk, [2, 0]);
  assert.throws(() => sees(disk, [1, 0]), Violation, 'what was seen to be overwritten');
  disk.endWrite(under, 0, 1);
  assert.throws(() => sees(disk, [7, 0]), Violation, 'what nobody wrote');
  assert.throws(() => sees(disk, [2, 2]), Violation, 'what was written elsewhere');
});

test('a history knows that a tenure may end with what nobody was told of', () => {
  const disk = history();
  written(disk, 0, 1);
  const under = disk.beginWrite(0, 1, 2);
  sees(disk, [2, 0]);
  disk.tenureBegins();
  sees(disk, [1, 0]);
  sees(disk, [2, 0]);
  disk.endWrite(under, 0, 1);
  disk.tenureBegins();
  assert.throws(() => sees(disk, [1, 0]), Violation, 'it is acknowledged');
});

test('a history knows what a flush must say', () => {
  const [user, other] = [{}, {}];
  const lossOf = (found: readonly number[]) => {
    const disk = history();
    disk.endWrite(disk.beginWrite(0, 1, 1), 0, 1, user);
    disk.cutPower('a', ['a']);
    disk.lookedThrough(found);
    return disk;
  };
  const silent = lossOf([0, 0]);
  assert.throws(() => silent.endFlush(silent.beginFlush(), user), Violation, 'it is lost');
  const told = lossOf([0, 0]);
  told.endFlush(told.beginFlush(), other);
  assert.throws(() => told.failFlush(told.beginFlush(), other), Violation, 'of nobody there');
  const at = [told.beginFlush(), told.beginFlush()] as const;
  for (const began of at) told.failFlush(began, user);
  assert.throws(() => told.failFlush(told.beginFlush(), user), Violation, 'it was told');
  told.endFlush(told.beginFlush(), user);
  const none = history();
  none.endWrite(none.beginWrite(0, 1, 1), 0, 1, user);
  assert.throws(() => none.failFlush(none.beginFlush(), user), Violation, 'nothing is lost');
  const promised = history();
  promised.endWrite(promised.beginWrite(0, 1, 1), 0, 1, user);
  promised.cutPower('a', ['a']);
  promised.endFlush(promised.beginFlush(), user);
  assert.throws(() => promised.lookedThrough([0, 0]), Violation, 'it was flushed after the crash');
});

test('a history knows what a crash may take', () => {
  const cases = [
    { found: [2, 3], isFine: true },
    { found: [1, 0], isFine: true },
    { found: [2, 0], isFine: true },
    { found: [1, 3], isFine: false },
    { found: [0, 0], isFine: false },
  ] as const;
  for (const { found, isFine } of cases) {
    const disk = history();
    written(disk, 0, 1);
    disk.endFlush(disk.beginFlush());
    written(disk, 0, 2);
    written(disk, 1, 3);
    disk.cutPower('b', ['a', 'b']);
    assert.equal(disk.isUncertain, false, 'a has it all');
    disk.cutPower('a', ['a', 'b']);
    if (isFine) disk.lookedThrough(found);
    else assert.throws(() => disk.lookedThrough(found), Violation, `${found.join()}`);
  }
});

test('a history knows what may be gone when a host is given up', () => {
  const lossOf = () => {
    const disk = history();
    written(disk, 0, 1);
    written(disk, 1, 2);
    disk.endFlush(disk.beginFlush());
    disk.givenUp();
    return disk;
  };
  const disk = lossOf();
  disk.lookedThrough([1, 0]);
  disk.failFlush(disk.beginFlush(), {}, true);
  const under = history();
  written(under, 0, 1);
  const began = under.beginFlush();
  under.givenUp();
  under.endFlush(began);
  under.lookedThrough([0, 0]);
  assert.throws(() => sees(disk, [1, 2]), Violation, 'it comes back');
  assert.throws(() => lossOf().lookedThrough([0, 2]), Violation, 'it is no prefix');
});

test('a history asks nothing of what is refused because it is damaged', () => {
  const disk = history();
  written(disk, 0, 1);
  sees(disk, [unreadable, 0]);
  disk.lookedThrough([unreadable, 0]);
  assert.throws(() => sees(disk, [0, 0]), Violation, 'what was there before');
  sees(disk, [1, 0]);
});

test('a history knows what hides what a crash has taken', () => {
  const disk = history();
  written(disk, 0, 1);
  disk.cutPower('a', ['a']);
  written(disk, 0, 2);
  disk.lookedThrough([2, 0]);
  disk.cutPower('a', ['a']);
  disk.lookedThrough([0, 0]);
  const slow = disk.beginWrite(1, 1, 0);
  written(disk, 1, 0);
  written(disk, 1, 3);
  disk.lookedThrough([0, 0]);
  disk.endWrite(slow, 1, 1);
  written(disk, 1, 4);
  assert.throws(() => disk.lookedThrough([0, 0]), Violation, 'what nothing hides');
});
