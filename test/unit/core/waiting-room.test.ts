import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { WaitingRoom } from '../../../src/core/waiting-room.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';

interface Try {
  readonly caller: number;
  readonly atMs: number;
}

/** A service, and callers that repeat their calls until each is answered. */
class World {
  readonly clock = new SimulatedClock();
  readonly room = new WaitingRoom(this.clock, seededRandom(1), {
    ...{ firstPauseMs: 100, pauseMsMax: 10_000 },
  });
  isUp = (_caller: number): boolean => false;
  /** All but first tries. */
  readonly tries: Try[] = [];
  answered = 0;

  async call(caller: number, signal?: AbortSignal, atLeastMs = 0): Promise<void> {
    const options = { atLeastMs, ...(signal && { signal }) };
    for (let inVain = 0; !this.isUp(caller); ) {
      const reason = await this.room.wait({ inVain, ...options });
      inVain = reason === 'answer' ? inVain + 1 : 0;
      this.tries.push({ caller, atMs: this.clock.monotonicMs() });
    }
    this.answered += 1;
    this.room.answered();
  }

  many(count: number): void {
    for (let caller = 0; caller < count; caller += 1) void this.call(caller);
  }

  triesBetween(fromMs: number, toMs: number): readonly Try[] {
    return this.tries.filter(({ atMs }) => atMs >= fromMs && atMs < toMs);
  }
}

describe('calls that a service in trouble did not answer', () => {
  for (const waiting of [1, 7, 500])
    test(`try at least about each second and at most so often: ${waiting} of them`, async () => {
      const world = new World();
      world.many(waiting);
      await world.clock.advance(60_000);
      for (let atMs = 0; atMs < 58_500; atMs += 250) {
        assert.ok(world.triesBetween(atMs, atMs + 1500).length > 0, `none at ${atMs}`);
        // The first turns come faster, so that a moment's trouble is over in a moment.
        const most = atMs < 1000 ? 7 : 5;
        assert.ok(world.triesBetween(atMs, atMs + 1000).length <= most, `too many at ${atMs}`);
      }
    });

  test('take turns, so that one which would be answered is not kept behind the others', async () => {
    const world = new World();
    world.many(20);
    await world.clock.advance(30_000);
    const since = world.triesBetween(19_000, 30_000);
    assert.equal(new Set(since.map(({ caller }) => caller)).size, 20);
  });

  test('are repeated in a moment when any call is answered, and not all at once', async () => {
    const world = new World();
    world.many(300);
    await world.clock.advance(60_000);
    world.tries.length = 0;
    world.isUp = () => true;
    const fromMs = world.clock.monotonicMs();
    await world.call(1000);
    await world.clock.advance(0);
    assert.equal(world.tries.length, 4);
    await world.clock.advance(300);
    assert.equal(world.answered, 301);
    for (let atMs = fromMs + 1; atMs < fromMs + 200; atMs += 10)
      assert.ok(world.triesBetween(atMs, atMs + 10).length < 40, `a herd at ${atMs}`);
    assert.equal(world.clock.sleeping, 0);
  });

  test('learn within about a second that the service is back, if nobody else calls', async () => {
    for (let outageMs = 20_000; outageMs < 22_000; outageMs += 130) {
      const world = new World();
      world.many(50);
      await world.clock.advance(outageMs);
      world.isUp = () => true;
      await world.clock.advance(1500);
      assert.equal(world.answered, 50, `after ${outageMs} ms`);
    }
  });

  test('begin anew with short pauses once there was an answer', async () => {
    const world = new World();
    void world.call(1);
    await world.clock.advance(60_000);
    world.isUp = (caller) => caller === 1;
    world.room.answered();
    await world.clock.advance(0);
    assert.equal(world.answered, 1);
    void world.call(2);
    await world.clock.advance(350);
    assert.equal(world.tries.filter(({ caller }) => caller === 2).length, 2);
  });

  test('hear of an answer while their own first pause lasts', async () => {
    const world = new World();
    // The first turn is given, and the next one not due yet.
    world.many(1);
    await world.clock.advance(99);
    world.many(2);
    await world.clock.advance(10);
    world.room.answered();
    world.tries.length = 0;
    await world.clock.advance(95);
    assert.equal(world.tries.length, 3);
  });

  test('do not wait for a turn that hangs', async () => {
    const world = new World();
    const { clock, room } = world;
    void room.wait({ inVain: 0 }).then(() => new Promise(() => {}));
    void room.wait({ inVain: 0 }).then(() => new Promise(() => {}));
    await clock.advance(100);
    const third = room.wait({ inVain: 0 }).then(() => clock.monotonicMs());
    await clock.advance(2000);
    assert.ok((await third) < 2000);
  });

  test('slow down each for itself while others are answered', async () => {
    const world = new World();
    world.many(1);
    for (let step = 0; step < 6000; step += 1) {
      world.room.answered();
      await world.clock.advance(10);
    }
    // 0.1, 0.2, 0.4 s and so on up to 10 s, half of each by chance.
    const count = world.tries.length;
    assert.ok(count >= 10 && count <= 20, String(count));
  });

  test('wait as long as the service asks for, whatever is answered', async () => {
    const world = new World();
    void world.call(1, undefined, 5000);
    for (let step = 0; step < 99; step += 1) {
      await world.clock.advance(50);
      world.room.answered();
    }
    assert.equal(world.tries.length, 0);
    await world.clock.advance(2600);
    assert.equal(world.tries.length, 1);
  });

  test('wait no longer than their signals, and leave their turn to the next', async () => {
    const world = new World();
    const stop = new AbortController();
    const given = [1, 2, 3].map((caller) => world.call(caller, stop.signal));
    await world.clock.advance(5000);
    void world.call(4);
    await world.clock.advance(200);
    stop.abort(new Error('enough'));
    for (const call of given) await assert.rejects(call, /enough/);
    await assert.rejects(world.call(5, stop.signal), /enough/);
    world.tries.length = 0;
    world.isUp = () => true;
    await world.clock.advance(1200);
    assert.deepEqual(
      world.tries.map(({ caller }) => caller),
      [4],
    );
    assert.equal(world.clock.sleeping, 0);
  });

  test('leave no timer behind when the last of them gives up', async () => {
    const world = new World();
    const stop = new AbortController();
    const given = [1, 2].map((caller) => world.call(caller, stop.signal));
    await world.clock.advance(5000);
    stop.abort(new Error('enough'));
    for (const call of given) await assert.rejects(call, /enough/);
    await world.clock.advance(0);
    assert.equal(world.clock.sleeping, 0);
  });
});
