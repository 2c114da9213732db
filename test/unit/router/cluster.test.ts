/** Objects between hosts: forwarded, handed over, taken over; and what each failure leaves. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StorageError } from '../../../src/core/errors.ts';
import type { ObjectId } from '../../../src/core/units.ts';
import { KiB, objectId } from '../../../src/core/units.ts';
import { peerKind } from '../../../src/format/peer-message.ts';
import type { DataObject } from '../../../src/ports/data-object.ts';
import type { ObjectKind } from '../../../src/ports/objects.ts';
import type { WorldHost } from '../../support/cluster-world.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const id = objectId('3'.repeat(32));
const blockBytes = 4096;
const block = (value: number) => new Uint8Array(blockBytes).fill(value);
const soon = (ms = 5) => new Promise((resolve) => setTimeout(resolve, ms));

async function valueAt(object: DataObject, index: number): Promise<number> {
  const into = block(0xff);
  await object.read(index * blockBytes, into);
  assert.ok(
    into.every((byte) => byte === into[0]),
    'a block is whole',
  );
  return into[0] as number;
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; !(await holds()); attempt += 1) {
    assert.ok(attempt < 2000, 'never happened');
    await soon();
  }
}

const ownerIn = async (world: ClusterWorld) => (await world.records.get(id)).owner;

/** An object that `a` has made and written, with hosts `a` and `b` up. */
async function pair(kind: ObjectKind, blocks = 8) {
  const world = new ClusterWorld();
  const a = await world.host('a');
  const b = await world.host('b');
  await a.router.create(id, kind);
  const atA = await a.router.open(id);
  for (let index = 0; index < blocks; index += 1)
    await atA.write(index * blockBytes, block(index + 1));
  await atA.flush();
  return { world, a, b, atA };
}

const stopAll = (...hosts: WorldHost[]) => Promise.all(hosts.map((host) => host.stop()));

/** Uses the object from `host` until it is its owner. */
async function attract(world: ClusterWorld, host: WorldHost, object: DataObject): Promise<void> {
  for (let round = 0; (await ownerIn(world)) !== host.id; round += 1) {
    assert.ok(round < 500, `${host.id} never got it`);
    for (let index = 0; index < 25; index += 1) await valueAt(object, 0);
    await soon(10);
  }
}

for (const kind of ['volume', 'file'] as const)
  describe(`a ${kind} of another host`, () => {
    test('is waited for while its owner is stopping', async () => {
      const { world, a, b } = await pair(kind);
      const atB = await b.router.open(id);
      const handle = a.router.handle.bind(a.router);
      let refusals = 0;
      a.router.handle = () => {
        refusals += 1;
        if (refusals > 3) a.router.handle = handle;
        throw new StorageError('closed', 'this host is stopping');
      };
      assert.equal(await valueAt(atB, 3), 4);
      assert.ok(refusals > 3);
      await stopAll(a, b);
      await world[Symbol.asyncDispose]();
    });

    test('is read and written through its owner', async () => {
      const { world, a, b, atA } = await pair(kind);
      const atB = await b.router.open(id);
      assert.equal(atB.kind(), kind);
      assert.equal(atB.size(), 8 * blockBytes);
      for (let index = 0; index < 8; index += 1) assert.equal(await valueAt(atB, index), index + 1);
      await atB.write(3 * blockBytes, block(99));
      assert.equal(await valueAt(atA, 3), 99);
      await atB.write(20 * blockBytes, block(7));
      assert.equal(atA.size(), 21 * blockBytes);
      await atB.trim(0, blockBytes);
      assert.equal(await valueAt(atA, 0), 0);
      await atB.resize(4 * blockBytes);
      assert.equal(atA.size(), 4 * blockBytes);
      assert.equal(await atB.seek(0, 'data'), await atA.seek(0, 'data'));
      await atB.flush();
      await atB.sync();
      assert.equal(await ownerIn(world), 'a');
      await stopAll(a, b);
    });

    test('moves to the host that uses it, with every acknowledged write', async () => {
      const { world, a, b, atA } = await pair(kind);
      await atA.write(5 * blockBytes, block(55));
      a.router.release(id);
      const atB = await b.router.open(id);
      await attract(world, b, atB);
      assert.equal(await valueAt(atB, 5), 55);
      assert.equal(await valueAt(atB, 2), 3);
      await atB.write(6 * blockBytes, block(66));
      await atB.flush();
      // The old owner forwards now, and fetches it back when it is used there.
      const backAtA = await a.router.open(id);
      assert.equal(await valueAt(backAtA, 6), 66);
      b.router.release(id);
      await attract(world, a, backAtA);
      assert.equal(await valueAt(backAtA, 6), 66);
      assert.equal(await valueAt(backAtA, 5), 55);
      await stopAll(a, b);
    });

    test('stays where it is used while two hosts use it, and where it is pinned', async () => {
      const { world, a, b, atA } = await pair(kind);
      const atB = await b.router.open(id);
      for (let round = 0; round < 100; round += 1) {
        await valueAt(atB, 0);
        await valueAt(atA, 1);
      }
      assert.equal(await ownerIn(world), 'a');
      a.router.release(id);
      await world.records.adjust(id, { isPinned: true });
      for (let round = 0; round < 200; round += 1) await valueAt(atB, 0);
      assert.equal(await ownerIn(world), 'a');
      await world.records.adjust(id, { isPinned: false });
      await attract(world, b, atB);
      await stopAll(a, b);
    });

    test('moves by a threshold of its own, or never', async () => {
      const { world, a, b } = await pair(kind);
      a.router.release(id);
      await world.records.adjust(id, { threshold: { reads: 0, writes: 0, windowMs: 60_000 } });
      const never = await b.router.open(id);
      for (let round = 0; round < 100; round += 1) await valueAt(never, 0);
      assert.equal(await ownerIn(world), 'a');
      await world.records.adjust(id, { threshold: { reads: 3, writes: 0, windowMs: 60_000 } });
      const c = await world.host('c');
      const soonAtC = await c.router.open(id);
      for (let round = 0; round < 3; round += 1) await valueAt(soonAtC, 0);
      await until(async () => (await ownerIn(world)) === 'c');
      await stopAll(a, b, c);
    });

    test('moves under load, and no write is lost or undone', async () => {
      const { world, a, b } = await pair(kind, 16);
      const hosts = [a, b];
      const objects = await Promise.all(hosts.map((host) => host.router.open(id)));
      const versions = new Uint8Array(16).map((_, index) => index + 1);
      let isWriting = true;
      const writers = Array.from({ length: 8 }, async (_, writer) => {
        for (let round = 0; isWriting; round += 1) {
          const index = writer * 2 + (round % 2);
          const object = objects[(round >> 3) % 2] as DataObject;
          const version = 1 + ((round * 7 + writer) % 250);
          await object.write(index * blockBytes, block(version));
          versions[index] = version;
          assert.equal(await valueAt(objects[round % 2] as DataObject, index), version);
          if (round % 5 === 0) await object.flush();
          await soon(0);
        }
      });
      for (let move = 0; move < 12; move += 1) {
        const to = hosts[(move + 1) % 2] as WorldHost;
        await to.router.fetch(id).catch(() => {});
        await soon(10);
      }
      isWriting = false;
      await Promise.all(writers);
      assert.ok((await world.records.get(id)).epoch > 4, 'it moved to and fro');
      for (const object of objects)
        for (let index = 0; index < 16; index += 1)
          assert.equal(await valueAt(object, index), versions[index]);
      await stopAll(a, b);
    });

    for (const step of ['movePark', 'tailRead', 'moveGive'] as const)
      test(`is somebody's, and whole, when the answer to ${step} is lost`, async () => {
        if (kind === 'file' && step === 'tailRead') return;
        const { world, a, b } = await pair(kind);
        a.router.release(id);
        const atB = await b.router.open(id);
        let isLosing = true;
        world.network.losesAnswer = (found) => isLosing && found === peerKind[step];
        await b.router.fetch(id).catch(() => {});
        isLosing = false;
        for (let index = 0; index < 8; index += 1)
          assert.equal(await valueAt(atB, index), index + 1);
        await atB.write(0, block(77));
        const atA = await a.router.open(id);
        assert.equal(await valueAt(atA, 0), 77);
        await stopAll(a, b);
      });

    test('is taken from an owner that is gone, once all of it is on the backend', async () => {
      const { world, a, b, atA } = await pair(kind);
      await atA.sync();
      a.router.release(id);
      await a.stop();
      const atB = await b.router.open(id);
      assert.equal(await ownerIn(world), 'b');
      for (let index = 0; index < 8; index += 1) assert.equal(await valueAt(atB, index), index + 1);
      // Whoever comes back forwards, and what lies on its disk is old.
      const again = await world.host('a');
      assert.deepEqual(await again.recover(), []);
      await atB.write(0, block(88));
      assert.equal(await valueAt(await again.router.open(id), 0), 88);
      await stopAll(again, b);
    });
  });

describe('a volume whose owner died with its last changes', () => {
  test('waits for it, says so, and goes on when it is back', async () => {
    const { world, a, b } = await pair('volume');
    await a.kill();
    let isOpen = false;
    const opening = b.router.open(id).then((object) => {
      isOpen = true;
      return object;
    });
    await until(() => b.router.waiting.size > 0);
    assert.match([...b.router.waiting.values()].join(), /waits for host a/);
    assert.equal(isOpen, false);
    const again = await world.host('a');
    const atB = await opening;
    assert.equal(await ownerIn(world), 'a');
    for (let index = 0; index < 8; index += 1) assert.equal(await valueAt(atB, index), index + 1);
    await stopAll(again, b);
  });

  test('is given to who asks when an administrator accepts the loss', async () => {
    const { world, a, b, atA } = await pair('volume');
    await atA.sync();
    await atA.write(0, block(200));
    await a.kill();
    const opening = b.router.open(id);
    await until(() => b.router.waiting.size > 0);
    assert.ok(await world.records.acceptLoss(await world.records.get(id)));
    const atB = await opening;
    assert.equal(await valueAt(atB, 1), 2);
    assert.equal(await ownerIn(world), 'b');
    const other: ObjectId = objectId('4'.repeat(32));
    await assert.rejects(b.router.open(other), /no object/);
    await b.stop();
  });
});

describe('an owner that was asleep for longer than its lease', () => {
  test('acknowledges nothing that another host does not have', async () => {
    const { world, a, b, atA } = await pair('file');
    a.renewing.pause();
    await until(async () => (await world.hosts.find(a.id)) === undefined);
    const atB = await b.router.open(id);
    assert.equal(await ownerIn(world), 'b');
    await atB.write(0, block(9));
    let isDone = false;
    const late = Promise.resolve(atA.write(blockBytes, block(10))).then(() => (isDone = true));
    const read = valueAt(atA, 0);
    await soon(50);
    assert.equal(isDone, false, 'it waits while it does not know whether it is the owner');
    a.renewing.resume();
    await late;
    assert.equal(await read, 9);
    assert.equal(await valueAt(atB, 1), 10);
    assert.equal(await ownerIn(world), 'b');
    await stopAll(a, b);
  });

  test('shows no size that another host has changed', async () => {
    const { world, a, b, atA } = await pair('file');
    const sizeThen = atA.size();
    a.renewing.pause();
    await until(async () => (await world.hosts.find(a.id)) === undefined);
    const atB = await b.router.open(id);
    await atB.write(sizeThen, block(9));
    const looked = Promise.resolve(atA.refresh());
    a.renewing.resume();
    await looked;
    assert.equal(atA.size(), sizeThen + blockBytes);
    await stopAll(a, b);
  });
});

describe('a move that an administrator asks for', () => {
  test('comes about though its owner lets go of the volume meanwhile', async () => {
    const { world, a, b, atA } = await pair('volume');
    let puts = 0;
    world.faults.choose = (operation) => {
      if (operation !== 'put') return 'none';
      puts += 1;
      return 'before';
    };
    await atA.write(0, new Uint8Array(1536 * KiB).fill(7));
    const moving = b.router.fetch(id);
    await until(() => puts > 2);
    await soon(20);
    await atA.change((backing, resolve) => resolve(backing));
    world.faults.choose = () => 'none';
    await moving;
    assert.equal(await ownerIn(world), 'b');
    assert.equal(await valueAt(atA, 1), 7);
    await stopAll(a, b);
  });
});
