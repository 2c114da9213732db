/** Copies of journals on other hosts: what they save when owners die, and when they must not be trusted. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Eventually } from '../../../src/core/eventually.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import { objectId } from '../../../src/core/units.ts';
import { peerKind } from '../../../src/format/peer-message.ts';
import type { ReplicaMode } from '../../../src/log/replicator.ts';
import type { DataObject } from '../../../src/ports/data-object.ts';
import type { Tail } from '../../../src/ports/tenure.ts';
import type { WorldHost } from '../../support/cluster-world.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const id = objectId('5'.repeat(32));
const blockBytes = 4096;
const block = (value: number) => {
  const bytes = new Uint8Array(blockBytes);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
};
const soon = (ms = 5) => new Promise((resolve) => setTimeout(resolve, ms));

async function valueAt(object: DataObject, index: number): Promise<number> {
  const into = block(0);
  await object.read(index * blockBytes, into);
  return new DataView(into.buffer).getUint32(0);
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; !(await holds()); attempt += 1) {
    assert.ok(attempt < 2000, 'never happened');
    await soon();
  }
}

const tailIn = async (world: ClusterWorld): Promise<Tail> => (await world.records.get(id)).tail;
const replicaIn = async (world: ClusterWorld) => {
  const tail = await tailIn(world);
  return typeof tail === 'object' ? tail.host : undefined;
};

/** Long enough for a busy machine, short enough to wait for. */
const leaseMs = 1000;
/** Nothing reaches the backend by itself. */
const lazy = { destageDelayMs: 3_600_000, cutBytes: 2 ** 30 };

/** A volume that `a` drives and has written, with its copy on another host. */
async function protectedVolume(mode: ReplicaMode, names = ['a', 'b'], blocks = 8) {
  const world = new ClusterWorld({ replica: mode, volumes: lazy, leaseMs });
  const hosts: WorldHost[] = [];
  for (const name of names) hosts.push(await world.host(name));
  const [a, b, c] = hosts as [WorldHost, WorldHost, WorldHost];
  await a.router.create(id, 'volume');
  const atA = await a.router.open(id);
  for (let index = 0; index < blocks; index += 1)
    await atA.write(index * blockBytes, block(index + 1));
  await until(async () => (await replicaIn(world)) !== undefined);
  return { world, a, b, c, atA };
}

async function assertBlocks(object: DataObject, count: number, what: string): Promise<void> {
  for (let index = 0; index < count; index += 1)
    assert.equal(await valueAt(object, index), index + 1, `${what}: block ${index}`);
}

describe('a volume with a replica', () => {
  test('is let go although a copy was just about to begin', { timeout: 20_000 }, async () => {
    await using world = new ClusterWorld({ replica: 'sync', volumes: lazy, leaseMs });
    const a = await world.host('a');
    const b = await world.host('b');
    const begun = Promise.withResolvers<void>();
    world.network.delayAnswer = (kind) =>
      kind === peerKind.replicaBegin ? begun.promise : undefined;
    await a.router.create(id, 'volume');
    const writing = (await a.router.open(id)).write(0, block(1));
    await until(() => world.network.counts.has(peerKind.replicaBegin));
    const letGo = a.volumes.opened(id)?.abandon();
    begun.resolve();
    await letGo;
    world.network.delayAnswer = () => undefined;
    await writing;
    await Promise.all([a.stop(), b.stop()]);
  });

  test('sync: has every acknowledged write after its owner died', async () => {
    const { world, a, b, atA } = await protectedVolume('sync');
    await using _ = world;
    for (let index = 8; index < 200; index += 1)
      await atA.write(index * blockBytes, block(index + 1));
    await a.kill();
    const atB = await b.router.open(id);
    await assertBlocks(atB, 200, 'taken over');
    assert.equal((await world.records.get(id)).owner, 'b');
    assert.deepEqual(b.takenOver, [{ id, sizeBytes: 200 * blockBytes }]);
    await atB.write(0, block(77));
    await atB.flush();
    await b.stop();
    assert.equal(await tailIn(world), 'backend');
  });

  test('async: has every flushed write after its owner died', async () => {
    const { world, a, b, atA } = await protectedVolume('async');
    await using _ = world;
    for (let index = 8; index < 200; index += 1)
      await atA.write(index * blockBytes, block(index + 1));
    await atA.flush();
    await a.kill();
    await assertBlocks(await b.router.open(id), 200, 'taken over');
    await b.stop();
  });

  test('is acknowledged for once its record names the copy, and no longer only the backend', async () => {
    await using world = new ClusterWorld({ replica: 'sync', volumes: lazy, leaseMs });
    const a = await world.host('a');
    const b = await world.host('b');
    await a.router.create(id, 'volume');
    const atA = await a.router.open(id);
    const asked = Promise.withResolvers<void>();
    const heard = Promise.withResolvers<void>();
    const { registry } = a;
    const transact = registry.transact.bind(registry);
    registry.transact = async (transaction, options) => {
      const values = transaction.writes.flatMap((write) => ('put' in write ? [write.put] : []));
      if (values.some((value) => Buffer.from(value).includes('"copy"'))) {
        asked.resolve();
        await heard.promise;
      }
      return transact(transaction, options);
    };
    const tailAfter = async (done: Eventually<unknown>) => {
      await done;
      return tailIn(world);
    };
    const tails = [tailAfter(atA.write(0, block(1)))];
    await asked.promise;
    // The copy gets on, and nothing but the record is missing.
    tails.push(tailAfter(atA.write(blockBytes, block(2))), tailAfter(atA.flush()));
    await until(() => world.network.counts.get(peerKind.replicaAppend) === 2);
    await soon();
    heard.resolve();
    for (const tail of await Promise.all(tails)) assert.equal(typeof tail, 'object');
    // A flush that waits for the record asks the copy for nothing meanwhile.
    assert.ok((world.network.counts.get(peerKind.replicaSync) ?? 0) <= 2);
    await Promise.all([a.stop(), b.stop()]);
  });

  test('is taken over by the host of its copy alone, also when others ask first', async () => {
    const { world, a, b, c } = await protectedVolume('sync', ['a', 'b', 'c']);
    await using _ = world;
    const replica = await replicaIn(world);
    const [holder, other] = replica === 'b' ? [b, c] : [c, b];
    await a.kill();
    const objects = await Promise.all([
      other.router.open(id),
      other.router.open(id),
      holder.router.open(id),
    ]);
    for (const object of objects) await assertBlocks(object, 8, 'taken over');
    assert.equal((await world.records.get(id)).owner, replica);
    await Promise.all([b.stop(), c.stop()]);
  });

  test('reaches the backend through the copy when nobody uses it', async () => {
    const { world, a, b } = await protectedVolume('sync');
    await using _ = world;
    await a.kill();
    await until(async () => (await world.records.get(id)).owner === 'b');
    await until(() => b.volumes.opened(id) !== undefined);
    await b.stop();
    assert.equal(await tailIn(world), 'backend');
  });

  test('is without one, recorded, before anything is acknowledged without it', async () => {
    const { world, a, b, atA } = await protectedVolume('sync');
    await using _ = world;
    world.network.cut(a.id, b.id);
    await atA.write(0, block(1000));
    assert.equal(await tailIn(world), 'owner');
    await a.kill();
    const opening = b.router.open(id);
    await until(() => b.router.waiting.has(id));
    assert.match(b.router.waiting.get(id) as string, /waits for host a, whose SSD alone/);
    world.network.mend();
    const again = await world.host('a');
    assert.equal(await valueAt(await opening, 0), 1000);
    await Promise.all([again.stop(), b.stop()]);
  });

  test('gets a new one when that is lost, on another host if there is one', async () => {
    const { world, a, b, c, atA } = await protectedVolume('sync', ['a', 'b', 'c']);
    await using _ = world;
    const first = await replicaIn(world);
    const [lost, left] = first === 'b' ? [b, c] : [c, b];
    await lost.kill();
    await atA.write(0, block(1));
    await until(async () => (await replicaIn(world)) === left.id);
    await a.kill();
    await assertBlocks(await left.router.open(id), 8, 'taken over');
    await left.stop();
  });

  test('gets a new one also while nobody writes', async () => {
    const { world, a, b } = await protectedVolume('sync');
    await using _ = world;
    const before = await tailIn(world);
    await b.kill();
    const again = await world.host('b');
    await until(async () => {
      const tail = await tailIn(world);
      return typeof tail === 'object' && typeof before === 'object' && tail.copy !== before.copy;
    });
    await a.kill();
    await assertBlocks(await again.router.open(id), 8, 'taken over');
    await again.stop();
  });

  for (const first of ['the owner', 'the host of the copy'] as const)
    test(`waits when both hosts died, and goes on when ${first} is back`, async () => {
      const { world, a, b } = await protectedVolume('sync');
      await using _ = world;
      await Promise.all([a.kill(), b.kill()]);
      const c = await world.host('c');
      const opening = c.router.open(id);
      await until(() => c.router.waiting.has(id));
      assert.match(c.router.waiting.get(id) as string, /host a, or its replica on host b/);
      const back = await world.host(first === 'the owner' ? 'a' : 'b');
      await assertBlocks(await opening, 8, 'back');
      await Promise.all([back.stop(), c.stop()]);
    });

  test('of an owner that was only slow: it stops, and its records are refused', async () => {
    const { world, a, b, atA } = await protectedVolume('sync');
    await using _ = world;
    a.renewing.pause();
    const atB = await b.router.open(id);
    await until(async () => (await world.records.get(id)).owner === 'b');
    await atB.write(0, block(500));
    await atB.flush();
    const late = atA.write(blockBytes, block(501));
    a.renewing.resume();
    await late;
    assert.equal(await valueAt(atA, 0), 500);
    assert.equal(await valueAt(atB, 1), 501);
    await Promise.all([a.stop(), b.stop()]);
  });

  test('leaves nothing behind on the host of the copy', async () => {
    const { world, a, b, atA } = await protectedVolume('sync');
    await using _ = world;
    await atA.sync();
    a.router.release(id);
    await a.stop();
    assert.equal(await tailIn(world), 'backend');
    await until(() => b.disk.list('/replicas').length === 0);
    await b.stop();
  });

  test('is trimmed with the journal, and right after it skipped a part', async () => {
    const { world, a, b, atA } = await protectedVolume('sync');
    await using _ = world;
    for (let round = 0; round < 6; round += 1) {
      for (let index = 0; index < 100; index += 1)
        await atA.write(index * blockBytes, block(round * 1000 + index));
      await atA.sync();
    }
    const files = b.disk.list('/replicas').flatMap((name) => b.disk.list(`/replicas/${name}`));
    assert.ok(files.length <= 3, `${files.length} files`);
    for (let index = 0; index < 100; index += 1)
      await atA.write(index * blockBytes, block(index + 1));
    await a.kill();
    await assertBlocks(await b.router.open(id), 100, 'taken over');
    await b.stop();
  });
});

async function losePower(seed: number): Promise<void> {
  const { world, a, b, atA } = await protectedVolume('sync');
  await using _ = world;
  for (let index = 0; index < 40; index += 1) {
    await atA.write(index * blockBytes, block(seed * 100 + index));
    if (index === 30) await atA.flush();
    if (index !== 35) continue;
    // A flush that the copy's host never finishes: what the owner has durable is not what both have.
    const never = new Promise<void>(() => {});
    world.network.delay = (kind) => (kind === peerKind.replicaSync ? never : undefined);
    atA.flush().catch(() => {});
    await soon();
  }
  await Promise.all([a.cutPower(seed), b.cutPower(seed + 1000)]);
  const { owner, tail } = await world.records.get(id);
  const holders = typeof tail === 'object' ? [owner, tail.host] : [owner];
  const back = await world.host(holders[seed % holders.length] as string);
  const object = await back.router.open(id);
  for (let index = 0; index <= 30; index += 1)
    assert.equal(await valueAt(object, index), seed * 100 + index, `seed ${seed}`);
  await back.stop();
}

describe('a flushed write', () => {
  test('is left to its copy by an owner whose machine was restarted', async () => {
    for (const seed of [1, 2, 3]) {
      const { world, a, b } = await protectedVolume('sync');
      await using _ = world;
      await a.cutPower(seed);
      const again = await world.host('a');
      await again.recover();
      await assertBlocks(await again.router.open(id), 8, `seed ${seed}`);
      assert.equal((await world.records.get(id)).owner, 'b');
      await Promise.all([again.stop(), b.stop()]);
    }
  });

  test('is left to a copy whose host waits for the owner meanwhile', async () => {
    const { world, a, b } = await protectedVolume('sync');
    await using _ = world;
    const atB = await b.router.open(id);
    await a.cutPower(1);
    const writing = atB.write(0, block(9));
    const again = await world.host('a');
    await again.recover();
    await writing;
    assert.equal((await world.records.get(id)).owner, 'b');
    await Promise.all([again.stop(), b.stop()]);
  });

  test('is left to a copy whose host still takes another one for the owner', async () => {
    const { world, a, b, c } = await protectedVolume('sync', ['a', 'b', 'c']);
    await using _ = world;
    const copyIsAt = await replicaIn(world);
    const [keeps, asks] = copyIsAt === 'b' ? [b, c] : [c, b];
    await keeps.router.open(id);
    assert.ok(await world.records.passOn(await world.records.get(id), keeps.id));
    await assertBlocks(await asks.router.open(id), 8, 'after it was left');
    await Promise.all([a, b, c].map((host) => host.stop()));
  });

  test('is served by an owner whose machine was restarted, where its copy is away', async () => {
    const { world, a, b, atA } = await protectedVolume('sync');
    await using _ = world;
    await atA.flush();
    await b.kill();
    while (await world.hosts.find(b.id)) await soon();
    await a.cutPower(1);
    const again = await world.host('a');
    await again.recover();
    await assertBlocks(await again.router.open(id), 8, 'flushed');
    assert.equal((await world.records.get(id)).owner, 'a');
    await again.stop();
  });

  test('survives the power of both hosts, on the SSD of either', async () => {
    await Promise.all(Array.from({ length: 20 }, (_, seed) => losePower(seed)));
  });
});

/**
 * One owner that writes until it is killed, while the way to its copy breaks and mends; power may go
 * at the host of the copy. Whoever serves the volume then must have all that was acknowledged.
 */
async function ordeal(seed: number): Promise<'taken over' | 'came back'> {
  const random = seededRandom(seed);
  const upTo = (max: number) => (random.bytes(1)[0] as number) % max;
  await using world = new ClusterWorld({ replica: 'sync', volumes: { cutBytes: 65_536 }, leaseMs });
  const a = await world.host('a');
  const b = await world.host('b');
  await a.router.create(id, 'volume');
  const object = await a.router.open(id);
  const acknowledged = new Map<number, number>();
  let isKilled = false;
  const writer = async (own: number) => {
    for (let value = 1; !isKilled; value += 1) {
      const index = own * 100 + upTo(4);
      await object.write(index * blockBytes, block(value));
      // What is acknowledged to nobody counts for nothing.
      if (!isKilled) acknowledged.set(index, value);
      await soon(upTo(3));
    }
  };
  for (let own = 0; own < 4; own += 1) void writer(own).catch(() => {});
  for (let turn = upTo(6); turn >= 0; turn -= 1) {
    await soon(upTo(120));
    if (upTo(2) === 0)
      world.network.cut(
        ...((upTo(2) === 0 ? ['a', 'b'] : ['b', 'a']) as [typeof a.id, typeof a.id]),
      );
    else world.network.mend();
  }
  isKilled = true;
  await a.kill();
  world.network.mend();
  const opening = b.router.open(id);
  let isOpen = false;
  void opening.then(() => {
    isOpen = true;
  });
  await until(() => isOpen || /SSD alone/.test(b.router.waiting.get(id) ?? ''));
  const outcome = isOpen ? 'taken over' : 'came back';
  const hosts = outcome === 'came back' ? [await world.host('a'), b] : [b];
  const after = await opening;
  for (const [index, value] of acknowledged) {
    const found = await valueAt(after, index);
    assert.ok(found >= value, `seed ${seed}, block ${index}: ${found}, acknowledged was ${value}`);
  }
  await Promise.all(hosts.map((host) => host.stop()));
  return outcome;
}

describe('an owner that is killed while its copy comes and goes', () => {
  test('loses nothing that it acknowledged, whoever goes on', async () => {
    const outcomes: string[] = [];
    for (let batch = 0; batch < 4; batch += 1) {
      const seeds = Array.from({ length: 10 }, (_, index) => batch * 10 + index + 1);
      outcomes.push(...(await Promise.all(seeds.map(ordeal))));
    }
    for (const outcome of ['taken over', 'came back'])
      assert.ok(outcomes.includes(outcome), outcome);
  });
});
