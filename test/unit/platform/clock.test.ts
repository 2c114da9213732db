import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { loadNative } from '../../../src/platform/native.ts';
import { seededRandom, systemRandom } from '../../../src/platform/random.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import { systemClock } from '../../../src/platform/system-clock.ts';
import type { Clock } from '../../../src/ports/clock.ts';

/** Both clocks keep it; `pass` lets time go by. */
function clockTests(name: string, clock: Clock, pass: (ms: number) => Promise<void>): void {
  describe(name, () => {
    test('never runs backwards', async () => {
      const before = clock.monotonicMs();
      await pass(2);
      assert.ok(clock.monotonicMs() > before);
    });

    test('ends a sleep with the reason of its signal, also one that fired before', async () => {
      const reason = new Error('no more');
      const ending = new AbortController();
      const sleeping = clock.sleep(60_000, { signal: ending.signal });
      ending.abort(reason);
      await assert.rejects(sleeping, (error) => error === reason);
      await assert.rejects(
        clock.sleep(60_000, { signal: ending.signal }),
        (error) => error === reason,
      );
    });

    test('wakes sleepers in the order of their times', async () => {
      const woken: number[] = [];
      const sleeps = [90, 2, 40].map(async (ms) => {
        await clock.sleep(ms);
        woken.push(ms);
      });
      await pass(150);
      await Promise.all(sleeps);
      assert.deepEqual(woken, [2, 40, 90]);
    });
  });
}

const system = systemClock(loadNative().native);
clockTests('the clock of the system', system, (ms) => system.sleep(ms));
clockTests('the clock of the system without the addon', systemClock(undefined), (ms) =>
  system.sleep(ms),
);
const simulated = new SimulatedClock();
clockTests('a simulated clock', simulated, (ms) => simulated.advance(ms));

test('the clock of the system knows the time of day', () => {
  const differenceNs = system.wallNs() - BigInt(Date.now()) * 1_000_000n;
  assert.ok(differenceNs > -1_000_000_000n && differenceNs < 1_000_000_000n);
});

test('a simulated clock stands still until it is told to move', async () => {
  const clock = new SimulatedClock();
  let isAwake = false;
  const sleeping = clock.sleep(100).then(() => {
    isAwake = true;
  });
  await clock.advance(99);
  assert.deepEqual([isAwake, clock.monotonicMs(), clock.sleeping], [false, 99, 1]);
  await clock.advance(1);
  await sleeping;
  assert.deepEqual([isAwake, clock.monotonicMs(), clock.sleeping], [true, 100, 0]);
});

test('seeded randomness is the same for the same seed, and spread', () => {
  const one = seededRandom(9);
  const same = seededRandom(9);
  const drawn = Array.from({ length: 1000 }, () => one.fraction());
  assert.deepEqual(
    Array.from({ length: 1000 }, () => same.fraction()),
    drawn,
  );
  assert.notDeepEqual(seededRandom(10).bytes(16), seededRandom(9).bytes(16));
  assert.ok(drawn.every((value) => value >= 0 && value < 1));
  for (let tenth = 0; tenth < 10; tenth += 1)
    assert.ok(drawn.filter((value) => Math.floor(value * 10) === tenth).length > 50);
});

test('randomness of the system is there in any amount', () => {
  const random = systemRandom();
  assert.deepEqual(
    [0, 1, 16, 1000].map((count) => random.bytes(count).length),
    [0, 1, 16, 1000],
  );
  assert.notDeepEqual(random.bytes(16), random.bytes(16));
  assert.ok(Array.from({ length: 100 }, () => random.fraction()).every((f) => f >= 0 && f < 1));
});
