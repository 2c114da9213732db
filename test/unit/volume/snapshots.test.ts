/** Snapshots, clones and rollback of one volume: what they hold, what they cost, what a crash leaves. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KiB } from '../../../src/core/units.ts';
import type { Volume } from '../../../src/volume/volume.ts';
import { VolumeWorld } from '../../support/volume-world.ts';

const blockBytes = 4096;
const blocks = 256;
const liveBytes = blocks * blockBytes;
const pause = (ms = 5) => new Promise((resolve) => setTimeout(resolve, ms));

async function fill(volume: Volume, value: number, from = 0, to = blocks): Promise<void> {
  const data = new Uint8Array((to - from) * blockBytes).fill(value);
  await volume.write(from * blockBytes, data);
}

async function holds(
  view: { read(offset: number, into: Uint8Array): unknown },
  value: number,
  from = 0,
  to = blocks,
): Promise<void> {
  const found = new Uint8Array((to - from) * blockBytes);
  assert.equal(await view.read(from * blockBytes, found), found.length);
  assert.ok(
    found.every((byte) => byte === value),
    `blocks ${from} to ${to} are not ${value}`,
  );
}

async function snapshotHolds(world: VolumeWorld, name: string, value: number): Promise<void> {
  const view = await world.driver.view(world.id, await world.snapshots.get(world.id, name));
  await holds(view, value);
  await view.close();
}

async function storedBytes(world: VolumeWorld): Promise<number> {
  const { blobs } = await world.backend.bucket(world.bucket).list({ prefix: 'segment/' });
  return blobs.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** What is deleted after a checkpoint is so a moment later. */
async function settles(world: VolumeWorld, volume: Volume, bytesMax: number): Promise<void> {
  await volume.care.act({ do: 'collect' });
  for (let attempt = 0; (await storedBytes(world)) > bytesMax; attempt += 1) {
    assert.ok(attempt < 200, `${await storedBytes(world)} bytes are left, more than ${bytesMax}`);
    await pause();
  }
}

describe('a snapshot', () => {
  test('of an idle volume writes nothing to the backend', async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    await fill(volume, 1);
    await volume.sync();
    const before = await storedBytes(world);
    for (const name of ['s1', 's2', 's3']) await volume.care.snapshot(name, 1n);
    assert.equal(await storedBytes(world), before);
    await snapshotHolds(world, 's2', 1);
    await volume.close();
  });

  test('holds its space until it goes, and no other one', async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    for (const value of [1, 2, 3]) {
      await fill(volume, value);
      // What died before the snapshot is not held by it; the map says so from its checkpoint on.
      await volume.sync();
      await volume.care.snapshot(`s${value}`, 1n);
    }
    await fill(volume, 4);
    await volume.sync();
    await volume.care.compact();
    assert.ok((await storedBytes(world)) >= 4 * liveBytes);
    await world.snapshots.delete(world.id, 's2');
    await settles(world, volume, 3.3 * liveBytes);
    await snapshotHolds(world, 's1', 1);
    await snapshotHolds(world, 's3', 3);
    await world.snapshots.delete(world.id, 's1');
    await world.snapshots.delete(world.id, 's3');
    await settles(world, volume, 1.3 * liveBytes);
    await holds(volume, 4);
    await volume.close();
  });

  test('is not there after a crash before it is on the backend', async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    await fill(volume, 1);
    await volume.sync();
    await fill(volume, 2);
    world.faults.choose = (operation) => (operation === 'put' ? 'before' : 'none');
    const made = volume.care.snapshot('s', 1n).then(
      () => 'made',
      () => 'ended',
    );
    await pause(20);
    await world.kill(volume);
    assert.equal(await made, 'ended');
    world.faults.choose = () => 'none';
    const again = await world.open();
    assert.equal(await world.snapshots.find(world.id, 's'), undefined);
    await holds(again, 2);
    await again.care.snapshot('s', 2n);
    await snapshotHolds(world, 's', 2);
    await again.close();
  });

  test('has a name of its own, and is made once however often it is asked for', async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    await fill(volume, 1);
    await volume.care.snapshot('s', 7n);
    await fill(volume, 2);
    await volume.care.snapshot('s', 7n);
    await snapshotHolds(world, 's', 1);
    await assert.rejects(volume.care.snapshot('s', 8n), { code: 'exists' });
    const times = [9n, 10n, 9n];
    const all = await Promise.allSettled(times.map((time) => volume.care.snapshot('x', time)));
    assert.deepEqual(
      all.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled'],
    );
    await volume.close();
  });

  test('is refused to an owner whose tenure is over', async () => {
    const world = new VolumeWorld();
    const stale = await world.create();
    await fill(stale, 1);
    // Another tenure begins, and the old owner has not heard of it.
    const { epoch } = await world.records.claim(world.id, 'a' as never);
    assert.ok(epoch > 1);
    await assert.rejects(stale.care.snapshot('s', 1n), { code: 'fenced' });
    assert.equal(await world.snapshots.find(world.id, 's'), undefined);
    await stale.abandon();
  });

  test('does not hold what came after it, though it was on its way', async () => {
    const world = new VolumeWorld({ cutBytes: 16 * KiB });
    const volume = await world.create();
    await fill(volume, 1);
    const made = volume.care.snapshot('s', 1n);
    await pause(1);
    await fill(volume, 2);
    await made;
    await snapshotHolds(world, 's', 1);
    await holds(volume, 2);
    await volume.close();
  });
});

describe('a rollback', () => {
  test('to a snapshot that is deleted meanwhile leaves the volume as it is', async () => {
    const world = new VolumeWorld();
    let volume = await world.create();
    for (const isMadeAnew of [false, true]) {
      await fill(volume, 1);
      await volume.care.snapshot('s', 1n);
      const found = await world.snapshots.get(world.id, 's');
      await fill(volume, 2);
      await world.snapshots.delete(world.id, 's');
      if (isMadeAnew) await volume.care.snapshot('s', 1n);
      await volume.care.act({ do: 'collect' });
      await assert.rejects(world.rollBackTo(volume, found, 'before'), { code: 'not_found' });
      assert.equal(await world.snapshots.find(world.id, 'before'), undefined);
      volume = await world.open();
      await holds(volume, 2);
    }
    await volume.close();
  });

  test('keeps what was, gives both back, and takes space for no more', async () => {
    const world = new VolumeWorld();
    let volume = await world.create();
    await fill(volume, 1);
    await volume.care.snapshot('s', 1n);
    await fill(volume, 2);
    await volume.resize(liveBytes / 2);
    volume = await world.rollBack(volume, 's', 'before');
    assert.equal(volume.size(), liveBytes);
    await holds(volume, 1);
    volume = await world.rollBack(volume, 'before', 'again');
    assert.equal(volume.size(), liveBytes / 2);
    await holds(volume, 2, 0, blocks / 2);
    volume = await world.rollBack(volume, 'again', 'last');
    for (const name of ['s', 'before', 'again', 'last'])
      assert.ok(await world.snapshots.delete(world.id, name));
    await settles(world, volume, 1.3 * liveBytes);
    await holds(volume, 1);
    await world.kill(volume);
    await holds(await world.open(), 1);
  });
});

describe('a clone', () => {
  test('of a clone reads what its ancestors had, and writes what is its own', async () => {
    const world = new VolumeWorld({}, 1);
    const volume = await world.create();
    await fill(volume, 1);
    await volume.care.snapshot('s', 1n);
    const child = await world.clone('s', 2);
    const son = await child.open();
    await holds(son, 1);
    await fill(son, 2, 0, 64);
    await son.care.snapshot('s', 1n);
    const grandchild = await child.clone('s', 3);
    const grandson = await grandchild.open();
    await fill(grandson, 3, 32, 96);
    await grandson.sync();
    await fill(volume, 9);
    await volume.sync();
    await volume.care.compact();
    await grandchild.kill(grandson);
    const again = await grandchild.open();
    await holds(again, 2, 0, 32);
    await holds(again, 3, 32, 96);
    await holds(again, 1, 96, blocks);
    assert.ok((await storedBytes(grandchild)) < liveBytes / 2);
    await assert.rejects(world.snapshots.delete(world.id, 's'), { code: 'busy' });
    for (const one of [volume, son, again]) await one.close();
  });

  test('stands alone once it is flattened, though it was written meanwhile and crashed', async () => {
    const world = new VolumeWorld({}, 1);
    const volume = await world.create();
    await fill(volume, 1);
    await volume.care.snapshot('s', 1n);
    const child = await world.clone('s', 2);
    let son = await child.open();
    // Not flushed: it hides blocks of the parent's that a crash brings to light again.
    await fill(son, 2, 0, 8);
    await son.care.act({ do: 'flatten' });
    await child.kill(son);
    son = await child.open();
    for (let isDone = false; !isDone; )
      isDone = (await son.care.act({ do: 'flatten' })).flattened?.isDone === true;
    await world.snapshots.detach(child.id);
    assert.ok(await world.snapshots.delete(world.id, 's'));
    await volume.close();
    await world.driver.delete(world.id);
    await child.kill(son);
    son = await child.open();
    await holds(son, 2, 0, 8);
    await holds(son, 1, 8, blocks);
    await son.close();
  });
});

describe('a frozen volume', () => {
  test('takes no changes, now and when it is opened again', async () => {
    const world = new VolumeWorld();
    let volume = await world.create();
    await fill(volume, 1);
    await volume.care.act({ do: 'freeze', createdNs: '1' });
    await world.records.adjust(world.id, { isFrozen: true });
    const refusals = async () => {
      await assert.rejects(async () => fill(volume, 2), { code: 'read_only' });
      await assert.rejects(async () => volume.trim(0, blockBytes), { code: 'read_only' });
      await assert.rejects(async () => volume.resize(0), { code: 'read_only' });
      await holds(volume, 1);
    };
    await refusals();
    await volume.close();
    volume = await world.open();
    await refusals();
    await volume.flush();
    await volume.close();
  });
});

describe('a change that changes nothing', () => {
  test('leaves nothing to wait for after a crash', async () => {
    const world = new VolumeWorld();
    const volume = await world.create();
    await volume.trim(0, blockBytes);
    await volume.resize(0);
    await world.kill(volume);
    assert.equal((await world.records.get(world.id)).tail, 'backend');
    await (await world.open()).close();
  });
});
