import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError, StorageError } from '../../../src/core/errors.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import type { Registry, Transaction } from '../../../src/ports/registry.ts';
import { prefixRange } from '../../../src/ports/registry.ts';
import { MemoryRegistry } from '../../../src/registry/memory-registry.ts';
import { MemoryStore } from '../../../src/registry/memory-store.ts';
import { withRetry } from '../../../src/registry/with-retry.ts';
import { type Fault, faultyRegistry, impatientClock } from '../../support/faulty-registry.ts';
import { quietLog } from '../../support/quiet-log.ts';

const put = (key: string, value: string) => ({ key, put: Buffer.from(value) });
const turn = () => new Promise((resolve) => setImmediate(resolve));
const isCode = (code: 'fenced' | 'unavailable') => (error: unknown) => isStorageError(error, code);

/** A store, and registries on it whose faults are chosen in advance or by chance. */
class World {
  readonly clock = new SimulatedClock();
  readonly store = new MemoryStore(this.clock);
  readonly plain = new MemoryRegistry(this.clock, this.store);
  readonly log = quietLog();
  /** Taken one a call; none when it is empty. */
  faults: Fault[] = [];

  open(name: string, choose = (): Fault => this.faults.shift() ?? 'none', seed = 1): Registry {
    const inner = faultyRegistry(new MemoryRegistry(this.clock, this.store), choose);
    const clock = impatientClock(this.clock);
    return withRetry(inner, { clock, random: seededRandom(seed), log: this.log }, name);
  }

  /** Waits for `promise` while time goes by. */
  async settled(promise: Promise<unknown>): Promise<void> {
    let isDone = false;
    const noted = promise.finally(() => {
      isDone = true;
    });
    for (let round = 0; !isDone && round < 10_000; round += 1) await this.clock.advance(10);
    assert.ok(isDone);
    await noted;
  }

  /** Revisions at which keys with the prefix changed. */
  history(prefix: string): number[] {
    const changes = this.store.changesAfter(0, prefixRange(prefix));
    return changes.map(([first]) => first?.revision ?? 0);
  }
}

describe('a registry that is waited for', () => {
  test('tells of each transaction truly whether it happened, and lets it happen once', async () => {
    for (let seed = 1; seed <= 60; seed += 1) {
      const world = new World();
      const random = seededRandom(seed);
      const pick = <T>(list: readonly T[]) =>
        list[Math.floor(random.fraction() * list.length)] as T;
      const choose = () => pick<Fault>(['none', 'none', 'refused', 'lost', 'done', 'late']);
      const told: number[] = [];
      const use = async (name: string) => {
        const registry = world.open(name, choose, seed);
        const one = async () => {
          const key = pick(['k1', 'k2']);
          // Each of these can become true again, so that a late or second one would do harm.
          const transaction: Transaction = pick([
            { compares: [], writes: [put(key, 'blind')] },
            { compares: [{ key, is: 'absent' }], writes: [put(key, 'made')] },
            { compares: [{ key, is: 'present' }], writes: [{ key, delete: true }] },
          ]);
          const outcome = await registry.transact(transaction);
          if (outcome.committed) told.push(outcome.revision);
        };
        for (let step = 0; step < 10; step += 1) await Promise.all([one(), one(), one()]);
      };
      await Promise.all([use('a'), use('b')]);
      assert.deepEqual(
        told.toSorted((a, b) => a - b),
        world.history('k'),
        `seed ${seed}`,
      );
    }
  });

  test('knows its own transaction when others have built on it since', async () => {
    const world = new World();
    const overwrite: Transaction = { compares: [], writes: [put('k', '1')] };
    let isDoubted = false;
    const registry = world.open('a', () => {
      // By the time the answer is looked for, the key is another's.
      if (isDoubted) world.store.transact(overwrite);
      isDoubted = world.faults[0] === 'done';
      return world.faults.shift() ?? 'none';
    });
    await registry.transact({ compares: [], writes: [put('k', '0')] });
    const { revision = 0 } = (await world.plain.get('k')) ?? {};
    world.faults = ['done'];
    const outcome = await registry.transact({
      compares: [{ key: 'k', is: 'at', revision }],
      writes: [put('k', '1')],
    });
    const history = world.history('k');
    assert.equal(history.length, 3);
    assert.deepEqual(outcome, { committed: true, revision: history[1] });
  });

  test('does not let a transaction arrive behind its own repetition', async () => {
    const world = new World();
    const registry = world.open('a');
    await registry.transact({ compares: [], writes: [put('k', 'first')] });
    world.faults = ['late'];
    await registry.transact({ compares: [], writes: [put('k', 'second')] });
    await world.plain.transact({ compares: [], writes: [put('k', 'of another')] });
    for (const _ of [1, 2, 3]) await registry.transact({ compares: [], writes: [put('j', '')] });
    assert.equal(Buffer.from((await world.plain.get('k'))?.value ?? []).toString(), 'of another');
    assert.equal(world.history('k').length, 3);
  });

  test('sees to it that a call given up takes no effect behind the next', async () => {
    const world = new World();
    const registry = world.open('a');
    await registry.transact({ compares: [], writes: [put('k', 'first')] });
    const stop = new AbortController();
    world.faults = ['late', 'refused'];
    const given = registry.transact(
      { compares: [], writes: [put('k', 'given up')] },
      { signal: stop.signal },
    );
    stop.abort(new Error('enough'));
    await assert.rejects(given, /enough/);
    await registry.transact({ compares: [], writes: [put('k', 'next')] });
    for (const _ of [1, 2, 3]) await registry.transact({ compares: [], writes: [put('j', '')] });
    assert.equal(Buffer.from((await world.plain.get('k'))?.value ?? []).toString(), 'next');
  });

  test('adds one small write to a transaction, and no call', async () => {
    const world = new World();
    let calls = 0;
    const registry = world.open('a', () => {
      calls += 1;
      return 'none';
    });
    await registry.transact({ compares: [], writes: [put('k', '0')] });
    calls = 0;
    for (const _ of [1, 2, 3, 4])
      await registry.transact({ compares: [], writes: [put('k', '1')] });
    assert.equal(calls, 4);
    assert.equal((await world.plain.range(prefixRange('t'))).entries.length, 1);
  });

  test('stops a process whose place another has taken', async () => {
    const world = new World();
    const old = world.open('a');
    await old.transact({ compares: [], writes: [put('k', 'old')] });
    const next = world.open('a', undefined, 2);
    await next.transact({ compares: [], writes: [put('k', 'new')] });
    await assert.rejects(
      old.transact({ compares: [], writes: [put('k', 'old again')] }),
      isCode('fenced'),
    );
    assert.equal(Buffer.from((await world.plain.get('k'))?.value ?? []).toString(), 'new');
    await next.transact({ compares: [], writes: [put('k', 'newer')] });
  });

  test('says that it waits, and that it no longer has to', async () => {
    const world = new World();
    const faulty = faultyRegistry(world.plain, () => world.faults.shift() ?? 'none');
    const { clock, log } = world;
    const registry = withRetry(faulty, { clock, log, random: seededRandom(1) }, 'a');
    world.faults = ['refused', 'none'];
    const soon = registry.get('k');
    await world.settled(soon);
    assert.equal(log.lines.length, 0, 'a moment is no news');
    world.faults = Array.from({ length: 8 }, () => 'refused' as const);
    const late = registry.get('k');
    await world.settled(late);
    assert.deepEqual(
      log.lines.map(({ level, message }) => `${level} ${message}`),
      ['warn registry does not answer', 'info registry answers again'],
    );
  });

  test('goes on with all calls and watches when any is answered', async () => {
    const world = new World();
    let isAway = true;
    const faulty = faultyRegistry(world.plain, () => (isAway ? 'refused' : 'none'));
    const { clock, log } = world;
    const registry = withRetry(faulty, { clock, log, random: seededRandom(1) }, 'a');
    await world.plain.transact({ compares: [], writes: [put('k', '1')] });
    const stop = new AbortController();
    const watching = registry
      .watch(prefixRange('k'), 0, { signal: stop.signal })
      [Symbol.asyncIterator]();
    const told = watching.next();
    const calls = Promise.all([
      ...Array.from({ length: 50 }, () => registry.get('k')),
      ...Array.from({ length: 50 }, () =>
        registry.transact({ compares: [], writes: [put('j', '')] }),
      ),
    ]);
    await turn();
    await clock.advance(30_000);
    isAway = false;
    await registry.get('k');
    await clock.advance(300);
    await Promise.all([calls, told]);
    const end = watching.next();
    stop.abort(new Error('enough'));
    await assert.rejects(end, /enough/);
  });

  test('tells by a watch that it answers, and is not asked at the pace of others', async () => {
    const world = new World();
    const { clock, log } = world;
    let tries = 0;
    let isAway = true;
    const partly: Registry = {
      ...faultyRegistry(world.plain, () => 'none'),
      async get(key) {
        tries += 1;
        if (isAway) throw new StorageError('unavailable', 'not this one');
        return world.plain.get(key);
      },
    };
    const registry = withRetry(partly, { clock, log, random: seededRandom(1) }, 'a');
    const watching = registry.watch(prefixRange('k'), 0)[Symbol.asyncIterator]();
    const one: Transaction = { compares: [], writes: [put('k', '1')] };
    const told = watching.next();
    const waiting = registry.get('j');
    await turn();
    await clock.advance(30_000);
    // The next turn is half a second away at least.
    for (const before = tries; tries === before; ) await clock.advance(10);
    const before = tries;
    await world.plain.transact(one);
    await told;
    await clock.advance(100);
    assert.ok(tries > before);
    for (let step = 0; step < 1000; step += 1) {
      await registry.range(prefixRange('k'));
      await clock.advance(20);
    }
    // Pauses of 1 s at last, half of each by chance.
    assert.ok(tries - before <= 50, String(tries - before));
    isAway = false;
    await clock.advance(1500);
    await waiting;
  });

  test('is not hammered by many who wait', async () => {
    const world = new World();
    let tries = 0;
    const faulty = faultyRegistry(world.plain, () => {
      tries += 1;
      return 'refused';
    });
    const { clock, log } = world;
    const registry = withRetry(faulty, { clock, log, random: seededRandom(1) }, 'a');
    const stop = new AbortController();
    const { signal } = stop;
    const waiting = Array.from({ length: 200 }, () => registry.get('k', { signal }));
    await turn();
    await clock.advance(10_000);
    tries = 0;
    await clock.advance(10_000);
    assert.ok(tries >= 10 && tries <= 50, String(tries));
    stop.abort(new Error('enough'));
    for (const call of waiting) await assert.rejects(call, /enough/);
    assert.equal(clock.sleeping, 0);
  });

  test('waits no longer than its signal', async () => {
    const world = new World();
    const faulty = faultyRegistry(world.plain, () => 'refused');
    const { clock, log } = world;
    const registry = withRetry(faulty, { clock, log, random: seededRandom(1) }, 'a');
    const stop = new AbortController();
    const waiting = registry.get('k', { signal: stop.signal });
    await world.clock.advance(5000);
    stop.abort(new Error('enough'));
    await assert.rejects(waiting, /enough/);
    assert.equal(world.clock.sleeping, 0);
  });
});
