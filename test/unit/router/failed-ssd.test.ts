/** A host whose SSD fails: who goes on with its volumes, and what it takes no more. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ErrorCode } from '../../../src/core/errors.ts';
import { isStorageError } from '../../../src/core/errors.ts';
import type { ObjectId } from '../../../src/core/units.ts';
import { objectId } from '../../../src/core/units.ts';
import { peerKind } from '../../../src/format/peer-message.ts';
import type { ReplicaMode } from '../../../src/log/replicator.ts';
import type { DataObject } from '../../../src/ports/data-object.ts';
import type { WorldHost } from '../../support/cluster-world.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const id = objectId('5'.repeat(32));
const other = objectId('6'.repeat(32));
const blockBytes = 4096;
const leaseMs = 1000;
const isCode = (code: ErrorCode) => (error: unknown) => isStorageError(error, code);
/** Nothing reaches the backend by itself. */
const lazy = { destageDelayMs: 3_600_000, cutBytes: 2 ** 30 };

const block = (value: number) => {
  const bytes = new Uint8Array(blockBytes);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
};

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; !(await holds()); attempt += 1) {
    assert.ok(attempt < 2000, 'never happened');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function write(object: DataObject, from: number, to: number): Promise<void> {
  for (let index = from; index < to; index += 1)
    await object.write(index * blockBytes, block(index + 1));
}

async function assertBlocks(object: DataObject, count: number): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    const into = block(0);
    await object.read(index * blockBytes, into);
    assert.deepEqual(into, block(index + 1), `block ${index}`);
  }
}

const copyIn = async (world: ClusterWorld) => {
  const { tail } = await world.records.get(id);
  return typeof tail === 'object' ? tail.host : undefined;
};

/** A volume that `a` drives, with 8 blocks written; the first other host has its copy, if any has. */
async function volumeAtA(mode: ReplicaMode, names = ['a', 'b']) {
  const world = new ClusterWorld({ replica: mode, volumes: lazy, leaseMs });
  const hosts = new Map<string, WorldHost>();
  for (const name of names) hosts.set(name, await world.host(name));
  const a = hosts.get('a') as WorldHost;
  await a.router.create(id, 'volume');
  const atA = await a.router.open(id);
  await write(atA, 0, 8);
  if (mode !== 'none') await until(async () => (await copyIn(world)) !== undefined);
  const copyAt = hosts.get((await copyIn(world)) ?? '') as WorldHost;
  const rest = [...hosts.values()].find((host) => host !== a && host !== copyAt) as WorldHost;
  return { world, a, copyAt, rest, atA };
}

const stop = (...hosts: readonly WorldHost[]) => Promise.all(hosts.map((host) => host.stop()));
const ownerOf = async (world: ClusterWorld, of: ObjectId = id) =>
  (await world.records.get(of)).owner;

/** By a volume that it owns, which goes on elsewhere. */
async function failSsdOf(host: WorldHost): Promise<void> {
  await host.router.create(other, 'volume');
  const object = await host.router.open(other);
  await write(object, 0, 1);
  host.disk.faults.failingSyncs = 1;
  await object.flush();
  host.router.release(other);
}

describe('a volume whose owner has an SSD that fails', () => {
  for (const mode of ['sync', 'async'] as const)
    test(`${mode}: goes on at its copy, and nobody sees an error`, {
      timeout: 20_000,
    }, async () => {
      const { world, a, copyAt, atA } = await volumeAtA(mode);
      await using _ = world;
      a.disk.faults.failingSyncs = 1;
      const flushed = atA.flush();
      const writes = Array.from({ length: 40 }, async (_unused, index) =>
        atA.write((8 + index) * blockBytes, block(9 + index)),
      );
      await Promise.all([flushed, ...writes]);
      assert.equal(await ownerOf(world), copyAt.id);
      await atA.flush();
      await assertBlocks(atA, 48);
      // What was acknowledged as durable is not on that SSD alone.
      await a.cutPower(1);
      await assertBlocks(await copyAt.router.open(id), 48);
      await stop(copyAt);
    });

  test('async: its copy gets what nobody has flushed', { timeout: 20_000 }, async () => {
    const { world, a, copyAt, atA } = await volumeAtA('async');
    await using _ = world;
    await atA.flush();
    const answered = Promise.withResolvers<void>();
    world.network.delayAnswer = () => answered.promise;
    await write(atA, 8, 64);
    a.disk.faults.failingSyncs = 1;
    const flushed = atA.flush();
    await until(() => a.volumes.opened(id)?.status().state === 'failed');
    answered.resolve();
    await flushed;
    assert.equal(await ownerOf(world), copyAt.id);
    await assertBlocks(atA, 64);
    await stop(a, copyAt);
  });

  test('goes on at its copy when a write fails', { timeout: 20_000 }, async () => {
    const { world, a, copyAt, atA } = await volumeAtA('sync');
    await using _ = world;
    a.disk.faults.fails = (operation) => operation === 'write';
    await write(atA, 8, 16);
    await assertBlocks(atA, 16);
    assert.equal(await ownerOf(world), copyAt.id);
    a.disk.faults.fails = () => false;
    await stop(a, copyAt);
  });

  test('waits, visibly, while the host of its copy does not answer', {
    timeout: 20_000,
  }, async () => {
    const { world, a, copyAt, atA } = await volumeAtA('sync');
    await using _ = world;
    const isBack = Promise.withResolvers<void>();
    world.network.delayAnswer = (kind) => (kind === peerKind.mayOwn ? isBack.promise : undefined);
    a.disk.faults.failingSyncs = 1;
    const flushed = atA.flush();
    await until(() => a.router.waiting.has(id));
    assert.match(a.router.waiting.get(id) ?? '', /SSD of this host has failed.*has the copy/);
    assert.equal(await ownerOf(world), a.id);
    world.network.delayAnswer = () => undefined;
    isBack.resolve();
    await flushed;
    await assertBlocks(atA, 8);
    assert.equal(await ownerOf(world), copyAt.id);
    await stop(a, copyAt);
  });

  test('takes no more changes without a copy, is read, and recovers', {
    timeout: 20_000,
  }, async () => {
    const { world, a, atA } = await volumeAtA('none', ['a']);
    await using _ = world;
    await atA.flush();
    await write(atA, 8, 9);
    a.disk.faults.failingSyncs = 1;
    await assert.rejects(atA.flush(), isCode('failed'));
    await assert.rejects(async () => atA.write(0, block(9)), isCode('failed'));
    await assert.rejects(atA.flush(), isCode('failed'));
    await assertBlocks(atA, 9);
    assert.match(a.volumes.opened(id)?.status().failure ?? '', /no copy.*\/journal\/5+/);
    await a.cutPower(3);
    const again = await world.host('a');
    const atAgain = await again.router.open(id);
    await assertBlocks(atAgain, 8);
    await atAgain.write(0, block(1));
    await atAgain.flush();
    await again.stop();
  });

  test('is not opened from its journal again in the same process', {
    timeout: 20_000,
  }, async () => {
    const { world, a, atA } = await volumeAtA('none', ['a']);
    await using _ = world;
    a.disk.faults.failingSyncs = 1;
    await assert.rejects(atA.flush(), isCode('failed'));
    a.renewing.pause();
    await until(async () => (await world.hosts.find(a.id)) === undefined);
    a.renewing.resume();
    await until(async () => (await world.hosts.find(a.id)) !== undefined);
    await until(async () => {
      try {
        await atA.read(0, block(0));
        return false;
      } catch (error) {
        assert.ok(isStorageError(error, 'failed'), String(error));
        return true;
      }
    });
    await a.kill();
  });
});

describe('a host whose SSD has failed', () => {
  test('gets no volume back, by use or by order', { timeout: 20_000 }, async () => {
    const { world, a, copyAt, atA } = await volumeAtA('sync');
    await using _ = world;
    a.disk.faults.failingSyncs = 1;
    await atA.flush();
    await write(atA, 8, 108);
    await atA.flush();
    assert.ok(!world.log.lines.some(({ message }) => message === 'object was not moved'));
    await assert.rejects(a.router.fetch(id), isCode('failed'));
    await assert.rejects(copyAt.router.moveTo(id, a.id), isCode('failed'));
    assert.equal(await ownerOf(world), copyAt.id);
    await a.stop();
    const again = await world.host('a');
    await again.router.fetch(id);
    assert.equal(await ownerOf(world), again.id);
    await stop(again, copyAt);
  });

  test('keeps no copy of what another one owns', { timeout: 20_000 }, async () => {
    const { world, a, copyAt, rest, atA } = await volumeAtA('sync', ['a', 'b', 'c']);
    await using _ = world;
    copyAt.disk.faults.failingSyncs = 1;
    await atA.flush();
    // Whom it had avoided would have its turn again.
    await until(async () => (await copyIn(world)) === rest.id);
    rest.disk.faults.failingSyncs = 1;
    await atA.write(0, block(1));
    await atA.flush();
    await until(async () => a.volumes.opened(id)?.status().degraded?.includes('SSD') === true);
    assert.equal((await world.records.get(id)).tail, 'owner');
    await assertBlocks(atA, 8);
    await stop(a, copyAt, rest);
  });

  for (const failing of ['b', 'c'])
    test(`is not asked for ever for a copy that it refuses: ${failing}`, {
      timeout: 20_000,
    }, async () => {
      await using world = new ClusterWorld({ replica: 'sync', volumes: lazy, leaseMs });
      const [a, b, c] = [await world.host('a'), await world.host('b'), await world.host('c')];
      const [failed, sound] = failing === 'b' ? [b, c] : [c, b];
      await failSsdOf(failed);
      await a.router.create(id, 'volume');
      await write(await a.router.open(id), 0, 1);
      await until(async () => (await copyIn(world)) === sound.id);
      await stop(a, b, c);
    });

  test('is left nothing to', { timeout: 20_000 }, async () => {
    const { world, a, copyAt, atA } = await volumeAtA('sync');
    await using _ = world;
    await failSsdOf(copyAt);
    a.disk.faults.failingSyncs = 1;
    const flushed = atA.flush();
    await until(() => a.router.waiting.has(id));
    assert.equal(await ownerOf(world), a.id);
    await copyAt.kill();
    const again = await world.host(copyAt.id);
    await flushed;
    await assertBlocks(atA, 8);
    assert.equal(await ownerOf(world), again.id);
    await stop(a, again);
  });

  test('leaves to others what is all on the backend', { timeout: 20_000 }, async () => {
    const { world, a, copyAt, rest, atA } = await volumeAtA('sync', ['a', 'b', 'c']);
    await using _ = world;
    await a.router.create(other, 'volume');
    a.disk.faults.failingSyncs = 1;
    await atA.flush();
    const otherAtA = await a.router.open(other);
    await write(otherAtA, 0, 4);
    await otherAtA.flush();
    assert.notEqual(await ownerOf(world, other), a.id);
    await assertBlocks(otherAtA, 4);
    await stop(a, copyAt, rest);
  });

  test('does not go on with a copy for an owner that is gone', { timeout: 20_000 }, async () => {
    const { world, a, copyAt } = await volumeAtA('sync');
    await using _ = world;
    await failSsdOf(copyAt);
    await a.kill();
    const opening = copyAt.router.open(id);
    await until(() => /SSD of this host/.test(copyAt.router.waiting.get(id) ?? ''));
    await copyAt.kill();
    await opening.catch(() => {});
    const again = await world.host(copyAt.id);
    await assertBlocks(await again.router.open(id), 8);
    await again.stop();
  });
});
