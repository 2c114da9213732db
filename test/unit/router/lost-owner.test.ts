/**
 * What a flush says to a user whose writes were acknowledged by an owner that was lost before he
 * flushed: that they are lost, if they are, once. Volumes; files are in lost-owner-files.test.ts.
 */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { peerKind } from '../../../src/format/peer-message.ts';
import { takeOver } from '../../../src/router/moves/takeover.ts';
import {
  id,
  blockBytes,
  blocks,
  until,
  write,
  has,
  loss,
  isLoss,
  assertLost,
  assertKept,
  forwarded,
  restarted,
  stop,
  copied,
} from '../../support/lost-owner.ts';

describe('a flush after the owner of a volume was lost', () => {
  test('fails, once, exactly where its power was cut and took what was acknowledged', async () => {
    const outcomes = await Promise.all(
      Array.from({ length: 12 }, async (_, seed) => {
        const { world, a, b, atB } = await forwarded();
        await using _world = world;
        await atB.write(0, new Uint8Array(blocks * blockBytes).fill(2));
        await a.cutPower(seed);
        const back = await world.host('a');
        const isKept = await has(atB, 2);
        await (isKept ? assertKept(atB) : assertLost(atB));
        const told = world.log.lines.filter(({ message }) => message === loss);
        assert.equal(told.length, isKept ? 0 : 1);
        assert.ok(told.every(({ level }) => level === 'error'));
        await stop(back, b);
        return isKept;
      }),
    );
    assert.ok(outcomes.includes(true) && outcomes.includes(false), String(outcomes));
  });

  test('fails also as a sync, and for all who wait for one', async () => {
    const { world, a, b, atB } = await forwarded();
    await using _ = world;
    await write(atB, 2);
    const back = await restarted.lost({ world, a });
    const results = await Promise.allSettled([atB.sync(), atB.flush(), atB.flush()]);
    for (const result of results) assert.ok(result.status === 'rejected' && isLoss(result.reason));
    await assertKept(atB);
    await stop(back, b);
  });

  test('fails after an administrator has had what is left made durable as well', async () => {
    const { world, a, b, atB } = await forwarded();
    await using _ = world;
    await write(atB, 2);
    const back = await restarted.lost({ world, a });
    await atB.harden();
    await assertLost(atB);
    await stop(back, b);
  });

  test('is good where all was flushed before, and where nothing was written', async () => {
    const { world, a, b, atB } = await forwarded();
    await using _ = world;
    await write(atB, 2);
    await atB.flush();
    let back = await restarted.lost({ world, a });
    await assertKept(atB);
    back = await restarted.lost({ world, a: back });
    await assertKept(atB);
    await stop(back, b);
  });

  test('is good after a kill -9, which takes nothing', async () => {
    const { world, a, b, atB } = await forwarded();
    await using _ = world;
    await write(atB, 2);
    const back = await restarted.killed({ world, a });
    assert.ok(await has(atB, 2));
    await assertKept(atB);
    await stop(back, b);
  });

  test('is good where only what nobody was told of is lost', async () => {
    const { world, a, b, atB } = await forwarded();
    await using _ = world;
    await write(atB, 2);
    await atB.flush();
    world.network.losesAnswer = (kind) => kind === peerKind.write;
    const unheard = write(atB, 3);
    await until(() => (world.network.counts.get(peerKind.write) ?? 0) > 1);
    const back = await restarted.lost({ world, a });
    world.network.losesAnswer = () => false;
    await unheard;
    assert.ok(await has(atB, 3));
    await assertKept(atB);
    await stop(back, b);
  });

  for (const [first, second, commits] of [
    ['lost', 'killed', false],
    ['lost', 'killed', true],
    ['lost', 'lost', false],
    ['lost', 'lost', true],
    ['killed', 'killed', false],
    ['killed', 'killed', true],
    ['killed', 'lost', false],
  ] as const) {
    const between = commits ? 'and committed between' : 'and none committed';
    test(`tells of two tenures, of the first: ${first}, the second: ${second}, ${between}`, async () => {
      const { world, a, b, atB } = await forwarded();
      await using _ = world;
      await write(atB, 2);
      let back = await restarted[first]({ world, a });
      // Sequences that were lost are given to other changes.
      const atA = await back.router.open(id);
      for (let count = 0; count < 3; count += 1) await write(atA, 3);
      await (commits ? atA.sync() : atA.flush());
      back = await restarted[second]({ world, a: back });
      await (first === 'lost' ? assertLost(atB) : assertKept(atB));
      await stop(back, b);
    });
  }

  test('tells of every tenure that has acknowledged something', async () => {
    const { world, a, b, atB } = await forwarded();
    await using _ = world;
    await write(atB, 2);
    const back = await restarted.lost({ world, a });
    await write(atB, 3);
    assert.ok(await has(await back.router.open(id), 3));
    await assertLost(atB);
    await stop(back, b);
  });

  test('counts a change without effect for nothing', async () => {
    const { world, a, b, atB } = await forwarded();
    await using _ = world;
    await atB.trim(2 ** 30, blockBytes);
    assert.ok(atB.isFlushed);
    await write(await a.router.open(id), 2);
    const back = await restarted.lost({ world, a });
    await assertKept(atB);
    await stop(back, b);
  });

  test('is not spent on what the host does for itself', async () => {
    const { world, a, b, atB } = await forwarded();
    await using _ = world;
    const { records, hosts, log } = world;
    await write(atB, 2);
    const back = await restarted.lost({ world, a });
    await takeOver({ router: b.router, records, hosts, log }, id, false);
    await atB.settle();
    await assertLost(atB);
    await stop(back, b);
  });
});

describe('a flush after a volume has changed hands', () => {
  test('is good: a handover takes all along, also the second one', async () => {
    const { world, a, b, atB } = await forwarded();
    await using _ = world;
    const c = await world.host('c');
    await write(atB, 2);
    await c.router.fetch(id);
    await assertKept(atB);
    await write(atB, 3);
    await a.router.fetch(id);
    await c.router.fetch(id);
    assert.ok(await has(atB, 3));
    await assertKept(atB);
    await stop(a, b, c);
  });

  test('is good where this host has fetched it', async () => {
    const { world, a, b, atB } = await forwarded();
    await using _ = world;
    await write(atB, 2);
    await b.router.fetch(id);
    assert.ok(atB.isHere() && (await has(atB, 2)));
    await assertKept(atB);
    await stop(a, b);
  });

  test('fails where this host has fetched what was lost before', async () => {
    const { world, a, b, atB } = await forwarded();
    await using _ = world;
    await write(atB, 2);
    const back = await restarted.lost({ world, a });
    await b.router.fetch(id);
    assert.ok(atB.isHere());
    await assertLost(atB);
    await stop(back, b);
  });

  test('fails where an administrator has given up what the owner had', async () => {
    const { world, a, b, atB } = await forwarded('volume', 1000);
    await using _ = world;
    const { records, hosts, log } = world;
    await write(atB, 2);
    await a.kill();
    await until(async () => (await world.hosts.find(a.id)) === undefined);
    await takeOver({ router: b.router, records, hosts, log }, id, true);
    assert.ok(atB.isHere());
    await assertLost(atB);
    await stop(b);
  });
});

describe('a flush after a copy was taken over', () => {
  for (const at of ['a host that has forwarded', 'the host of the copy'] as const)
    test(`is good at ${at} where the copy is whole`, async () => {
      const { world, a, holder, user } = await copied('sync');
      await using _ = world;
      const object = await (at === 'the host of the copy' ? holder : user).router.open(id);
      await write(object, 2);
      await a.kill();
      assert.ok(await has(object, 2));
      await assertKept(object);
      await stop(holder, user);
    });

  for (const at of ['a host that has forwarded', 'the host of the copy'] as const)
    test(`fails at ${at} where the copy had not got it yet`, async () => {
      const { world, a, holder, user } = await copied('async');
      await using _ = world;
      const object = await (at === 'the host of the copy' ? holder : user).router.open(id);
      const never = new Promise<void>(() => {});
      world.network.delay = (kind) => (kind === peerKind.replicaAppend ? never : undefined);
      await write(object, 2);
      await a.kill();
      world.network.delay = () => undefined;
      await until(async () => (await world.records.get(id)).owner === holder.id);
      await until(() => holder.volumes.opened(id) !== undefined);
      await assertLost(object);
      await stop(holder, user);
    });

  test('fails where the host of the copy has lost power too', async () => {
    const { world, a, holder, user, object } = await copied('sync');
    await using _ = world;
    await write(object, 2);
    await Promise.all([a.cutPower(1), holder.cutPower(2)]);
    const back = await world.host(holder.id);
    await assertLost(object);
    await stop(back, user);
  });
});

describe('a flush after the lease of this host was lost', () => {
  for (const mode of ['sync', 'async'] as const)
    test(`${mode === 'sync' ? 'is good' : 'fails'} where a copy in mode ${mode} was taken over`, async () => {
      const { world, a, holder, user } = await copied(mode);
      await using _ = world;
      const atA = await a.router.open(id);
      const never = new Promise<void>(() => {});
      if (mode === 'async')
        world.network.delay = (kind) => (kind === peerKind.replicaAppend ? never : undefined);
      await write(atA, 2);
      a.renewing.pause();
      await until(async () => (await world.records.get(id)).owner === holder.id);
      world.network.delay = () => undefined;
      a.renewing.resume();
      await (mode === 'sync' ? assertKept(atA) : assertLost(atA));
      await stop(a, holder, user);
    });

  test('fails where another host has taken a small file', async () => {
    const { world, a, b, atA, atB } = await forwarded('file', 1000);
    await using _ = world;
    const gate = Promise.withResolvers<void>();
    world.faults.gate = gate.promise;
    await write(atA, 2);
    a.renewing.pause();
    await until(async () => {
      await atB.refresh();
      return atB.isHere();
    });
    a.renewing.resume();
    gate.resolve();
    await assertLost(atA);
    await stop(a, b);
  });
});
