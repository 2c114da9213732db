/** What an administrator orders of hosts: drained before maintenance, taken over with what is left. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ObjectId } from '../../../src/core/units.ts';
import { objectId } from '../../../src/core/units.ts';
import { Drain } from '../../../src/router/moves/drain.ts';
import { takeOver } from '../../../src/router/moves/takeover.ts';
import type { WorldHost } from '../../support/cluster-world.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const blockBytes = 4096;
const block = (value: number) => new Uint8Array(blockBytes).fill(value);
const soon = (ms = 5) => new Promise((resolve) => setTimeout(resolve, ms));
const idOf = (number: number): ObjectId => objectId(number.toString(16).padStart(32, '0'));

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; !(await holds()); attempt += 1) {
    assert.ok(attempt < 2000, 'never happened');
    await soon();
  }
}

const drainOf = (world: ClusterWorld, { id: host, router }: WorldHost) => {
  const { records, hosts, log } = world;
  return new Drain({ host, router, records, hosts, log });
};

async function valueAt(host: WorldHost, id: ObjectId): Promise<number> {
  const object = await host.router.open(id);
  const into = block(0xff);
  await object.read(0, into);
  host.router.release(id);
  return into[0] as number;
}

describe('a host that is drained', () => {
  test('gives nothing away that is being opened', async () => {
    await using world = new ClusterWorld();
    const [a, b] = [await world.host('a'), await world.host('b')];
    const id = idOf(1);
    await a.router.create(id, 'file');
    const loading = Promise.withResolvers<void>();
    const get = a.registry.get.bind(a.registry);
    a.registry.get = async (key, options) => {
      if (key.startsWith('hf')) await loading.promise;
      return get(key, options);
    };
    const opening = a.router.open(id);
    await until(async () => (await world.records.get(id)).epoch > 0);
    const passing = a.router.passOn(await world.records.get(id), b.id);
    await soon(50);
    loading.resolve();
    assert.equal(await passing, false);
    await (await opening).write(0, block(7));
    assert.equal(await valueAt(b, id), 7);
    await Promise.all([a.stop(), b.stop()]);
  });

  test('has handed over everything, open or not, in use or not, and fetches nothing back', async () => {
    await using world = new ClusterWorld({ replica: 'sync' });
    const a = await world.host('a');
    const count = 30;
    for (let number = 0; number < count; number += 1) {
      const id = idOf(number);
      await a.router.create(id, number % 3 === 0 ? 'file' : 'volume');
      const object = await a.router.open(id);
      await object.write(0, block(number));
      await object.flush();
      if (number % 2 === 0) a.router.release(id);
    }
    const [b, c] = [await world.host('b'), await world.host('c')];
    const drain = drainOf(world, a);
    drain.start();
    await until(() => drain.progress.state !== 'draining');
    assert.deepEqual(drain.progress, { state: 'drained', total: count, moved: count, failed: [] });
    const owners = new Set((await world.records.list()).map(({ owner }) => owner as string));
    assert.deepEqual([...owners].sort(), ['b', 'c']);
    for (let round = 0; round < 60; round += 1)
      for (let number = 0; number < count; number += 1)
        assert.equal(await valueAt(a, idOf(number)), number);
    assert.ok((await world.records.list()).every(({ owner }) => owner !== 'a'));
    await drain.stop();
    assert.equal(drain.progress.state, 'off');
    await until(async () => {
      await valueAt(a, idOf(1));
      return (await world.records.get(idOf(1))).owner === 'a';
    });
    await Promise.all([a.stop(), b.stop(), c.stop()]);
  });

  test('says which objects stayed, and why', async () => {
    await using world = new ClusterWorld();
    const [a, b] = [await world.host('a'), await world.host('b')];
    await a.router.create(idOf(1), 'volume');
    await (await a.router.open(idOf(1))).write(0, block(1));
    await world.records.adjust(idOf(1), { isPinned: true });
    const drain = drainOf(world, a);
    drain.start();
    await until(() => drain.progress.state !== 'draining');
    const { state, total, moved, failed } = drain.progress;
    assert.deepEqual({ state, total, moved }, { state: 'failed', total: 1, moved: 0 });
    assert.match(failed[0]?.why ?? '', /pinned/);
    await Promise.all([a.stop(), b.stop()]);
  });

  test('stays as it is where there is no other host', async () => {
    await using world = new ClusterWorld();
    const a = await world.host('a');
    await a.router.create(idOf(1), 'volume');
    const drain = drainOf(world, a);
    drain.start();
    await until(() => drain.progress.state !== 'draining');
    assert.equal(drain.progress.state, 'failed');
    assert.equal((await world.records.get(idOf(1))).owner, 'a');
    await a.stop();
  });
});

describe('a volume whose owner is gone with its last changes', () => {
  test('is taken over when an administrator accepts the loss, and not before', async () => {
    await using world = new ClusterWorld({ volumes: { destageDelayMs: 3_600_000 } });
    const [a, b] = [await world.host('a'), await world.host('b')];
    const { records, hosts, log } = world;
    const deps = { router: b.router, records, hosts, log };
    const id = idOf(1);
    await a.router.create(id, 'volume');
    const atA = await a.router.open(id);
    await atA.write(0, block(1));
    await atA.sync();
    await atA.write(0, block(2));
    await atA.flush();
    await a.kill();
    await until(async () => (await hosts.find(a.id)) === undefined);
    await assert.rejects(takeOver(deps, id, false), { code: 'unavailable' });
    await takeOver(deps, id, true);
    assert.equal(await valueAt(b, id), 1);
    assert.equal((await records.get(id)).owner, 'b');
    // The host that comes back too late finds that what it has is old.
    const again = await world.host('a');
    await again.recover();
    assert.equal(await valueAt(again, id), 1);
    await Promise.all([again.stop(), b.stop()]);
  });
});
