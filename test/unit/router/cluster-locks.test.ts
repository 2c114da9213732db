/** Locks between hosts: who gets one, and what becomes of them when owners and holders change. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { limits } from '../../../src/core/limits.ts';
import { objectId } from '../../../src/core/units.ts';
import { encodeLocks } from '../../../src/format/lock-message.ts';
import { encodeRequestHead, peerKind } from '../../../src/format/peer-message.ts';
import type { LockRequest } from '../../../src/ports/object-locks.ts';
import { lastByte } from '../../../src/ports/object-locks.ts';
import type { WorldHost } from '../../support/cluster-world.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const id = objectId('5'.repeat(32));
const never = new AbortController().signal;
const soon = (ms = 5) => new Promise((resolve) => setTimeout(resolve, ms));

function lock(type: LockRequest['type'], owner = 1n, start = 0n, end = lastByte): LockRequest {
  return { kind: 'posix', owner, pid: 100, type, start, end };
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; !(await holds()); attempt += 1) {
    assert.ok(attempt < 2000, 'never happened');
    await soon();
  }
}

/** Whether the lock was granted. */
const set = async (host: WorldHost, wanted: LockRequest) =>
  (await host.locks.set(id, wanted)) !== undefined;

/** Whether another process of `host` could have all of the object. */
const isFree = async (host: WorldHost) =>
  (await host.locks.find(id, lock('write', 999n))) === undefined;

/** A file that `a` owns, and further hosts. Files are taken from an owner that is gone. */
async function hosts(...names: string[]) {
  const world = new ClusterWorld();
  const started = [];
  for (const name of ['a', ...names]) started.push(await world.host(name));
  const [a, b, c] = started as [WorldHost, WorldHost, WorldHost];
  await a.router.create(id, 'file');
  return { world, a, b, c };
}

const stopAll = (...all: WorldHost[]) => Promise.all(all.map((host) => host.stop()));

describe('a lock on an object of another host', () => {
  test('stands in the way of processes on all hosts, until it is given back', async () => {
    const { a, b, c } = await hosts('b', 'c');
    assert.equal(await set(b, lock('write', 1n, 100n, 199n)), true);
    for (const host of [a, b, c]) {
      assert.equal(await set(host, lock('read', 7n, 150n, 150n)), false);
      assert.equal(await set(host, lock('write', 7n, 200n)), true);
      assert.equal(await set(host, lock('none', 7n)), true);
    }
    await b.locks.drop(id, 'posix', 1n);
    assert.equal(await set(c, lock('read', 7n, 150n, 150n)), true);
    await stopAll(a, b, c);
  });

  test('is shown to who asks, with its process where that is on the same host', async () => {
    const { a, b } = await hosts('b');
    await set(b, lock('read', 1n, 5n, 9n));
    const seen = { ...lock('read', 1n, 5n, 9n) };
    assert.deepEqual(await plain(b), seen);
    assert.deepEqual(await plain(a), { ...seen, pid: 0 });
    await stopAll(a, b);

    async function plain(host: WorldHost) {
      const found = await host.locks.find(id, lock('write', 2n));
      assert.ok(found);
      const { kind, owner, pid, type, start, end } = found;
      return { kind, owner, pid, type, start, end };
    }
  });

  test('shows the size that another host has made of the object', async () => {
    const { a, b } = await hosts('b');
    const [atA, atB] = [await a.router.open(id), await b.router.open(id)];
    await set(b, lock('read'));
    await b.locks.drop(id, 'posix', 1n);
    await set(a, lock('write'));
    await atA.resize(12_345);
    await a.locks.drop(id, 'posix', 1n);
    assert.equal(atB.size(), 0);
    assert.deepEqual(await b.locks.set(id, lock('read')), { isStale: true });
    assert.equal(atB.size(), 12_345);
    assert.deepEqual(await b.locks.set(id, lock('read', 1n, 0n, 5n)), { isStale: false });
    await stopAll(a, b);
  });

  test('is refused when there are too many, of which each can be given back', async () => {
    const { a } = await hosts();
    const at = (index: number) => BigInt(2 * index);
    const max = limits.locksPerObjectMax;
    for (let index = 0; index < max; index += 1)
      assert.ok(await set(a, lock('write', 1n, at(index), at(index))));
    await assert.rejects(set(a, lock('write', 1n, at(max), at(max))), { code: 'no_space' });
    assert.ok(await set(a, lock('none', 1n, at(7), at(7))));
    assert.ok(await set(a, lock('write', 1n, at(max), at(max))));
    await a.locks.drop(id, 'posix', 1n);
    assert.ok(await isFree(a));
    await stopAll(a);
  });

  test('is waited for, from one host to the next', async () => {
    const { a, b, c } = await hosts('b', 'c');
    await set(a, lock('write'));
    const order: string[] = [];
    const waits = [b, c].map((host) =>
      host.locks.setLater(id, lock('write'), never).then(() => order.push(host.id)),
    );
    await soon(50);
    assert.deepEqual(order, []);
    await a.locks.drop(id, 'posix', 1n);
    await Promise.race(waits);
    assert.equal(order.length, 1);
    const [first, second] = order[0] === 'b' ? [b, c] : [c, b];
    await soon(20);
    assert.deepEqual(order, [first.id]);
    await first.locks.drop(id, 'posix', 1n);
    await Promise.all(waits);
    assert.deepEqual(order, [first.id, second.id]);
    await stopAll(a, b, c);
  });

  test('is not got by who has stopped waiting', async () => {
    const { a, b } = await hosts('b');
    await set(a, lock('write'));
    const waiting = new AbortController();
    const wait = b.locks.setLater(id, lock('write'), waiting.signal);
    await soon(20);
    waiting.abort(new Error('interrupted'));
    await assert.rejects(wait, /interrupted/);
    await a.locks.drop(id, 'posix', 1n);
    await soon(20);
    assert.ok(await isFree(a));
    await stopAll(a, b);
  });
});

describe('a lock of a host that lives', () => {
  test('survives that the object is handed over, and over again', async () => {
    const { world, a, b, c } = await hosts('b', 'c');
    await set(a, lock('read', 1n, 0n, 9n));
    await set(b, lock('write', 1n, 10n, 19n));
    await set(c, lock('write', 1n, 20n, 29n));
    for (const to of [b, c, a]) {
      await to.router.fetch(id);
      assert.equal((await world.records.get(id)).owner, to.id);
      for (const host of [a, b, c])
        for (const [start, end] of [
          [0n, 9n],
          [10n, 19n],
          [20n, 29n],
        ] as const)
          assert.equal(await set(host, lock('write', 7n, start, end)), false);
      assert.equal(await set(a, lock('write', 7n, 30n)), true);
      await set(a, lock('none', 7n));
    }
    await c.locks.drop(id, 'posix', 1n);
    assert.equal(await set(b, lock('write', 1n, 10n, 29n)), true);
    await stopAll(a, b, c);
  });

  test('survives the death of the owner, whose own locks end with its lease', async () => {
    const { world, a, b, c } = await hosts('b', 'c');
    await set(a, lock('write', 1n, 0n, 9n));
    await set(b, lock('write', 1n, 10n, 19n));
    await a.kill();
    assert.equal(await set(c, lock('write', 1n, 10n, 19n)), false);
    assert.notEqual((await world.records.get(id)).owner, 'a');
    assert.equal(await set(c, lock('write', 1n, 0n, 9n)), true);
    await stopAll(b, c);
  });

  test('survives that the owner is started again', async () => {
    const { a, b, world } = await hosts('b');
    await set(b, lock('write'));
    await a.kill();
    const again = await world.host('a');
    assert.equal(await set(again, lock('read')), false);
    await b.locks.drop(id, 'posix', 1n);
    assert.ok(await isFree(again));
    await stopAll(again, b);
  });

  test('is asked for again when its host was out of the vPool for a while', async () => {
    const { world, a, b } = await hosts('b');
    await set(b, lock('write'));
    const before = await world.hosts.session(b.id);
    b.renewing.pause();
    await until(async () => (await world.hosts.session(b.id)) === undefined);
    b.renewing.resume();
    await until(async () => ![undefined, before].includes(await world.hosts.session(b.id)));
    await until(async () => !(await isFree(a)));
    assert.equal(await set(a, lock('write')), false);
    await b.locks.drop(id, 'posix', 1n);
    assert.ok(await isFree(a));
    await stopAll(a, b);
  });
});

describe('a lock of a host that is gone', () => {
  test('stands until its lease ends, and wakes who waits then', async () => {
    const { a, b } = await hosts('b');
    await set(b, lock('write'));
    await b.kill();
    assert.equal(await set(a, lock('write')), false);
    await a.locks.setLater(id, lock('write'), never);
    await stopAll(a);
  });

  test('is lost where another got it before the host was back, and stays lost', async () => {
    const { world, a, b } = await hosts('b');
    await set(b, lock('write'));
    b.renewing.pause();
    await until(async () => (await world.hosts.session(b.id)) === undefined);
    assert.equal(await set(a, lock('write')), true);
    b.renewing.resume();
    assert.equal(await set(b, lock('read', 3n)), false);
    // A new tenure is told of one of the two alone.
    await b.router.fetch(id);
    await a.locks.drop(id, 'posix', 1n);
    assert.ok(await isFree(b));
    await stopAll(a, b);
  });
});

describe('an answer', () => {
  test('that is lost is asked for again, and leaves no lock behind', async () => {
    const { world, a, b } = await hosts('b');
    let losses = 0;
    world.network.losesAnswer = (kind) => kind === peerKind.lockSet && losses-- > 0;
    await set(b, lock('read'));
    losses = 2;
    assert.deepEqual(await b.locks.set(id, lock('write')), { isStale: true }, 'it may have been');
    losses = 2;
    await b.locks.drop(id, 'posix', 1n);
    assert.ok(await isFree(a));
    await stopAll(a, b);
  });

  test('of an owner before the present one counts no more', async () => {
    const { world, a, b, c } = await hosts('b', 'c');
    // The grant of a is on its way while c becomes the owner, asks b, and grants it to itself.
    const arrived = Promise.withResolvers<void>();
    const { promise: held, resolve: letGo } = Promise.withResolvers<void>();
    let isFirst = true;
    world.network.delayAnswer = (kind) => {
      if (kind !== peerKind.lockSet || !isFirst) return undefined;
      isFirst = false;
      arrived.resolve();
      return held;
    };
    const asked = set(b, lock('write'));
    await arrived.promise;
    await c.router.fetch(id);
    assert.equal(await set(c, lock('write')), true);
    letGo();
    assert.equal(await asked, false);
    await c.locks.drop(id, 'posix', 1n);
    assert.ok(await isFree(a));
    await stopAll(a, b, c);
  });

  test('counts no more when its host was out of the vPool before it came', async () => {
    const { world, a, b } = await hosts('b');
    const { promise: held, resolve: letGo } = Promise.withResolvers<void>();
    world.network.delayAnswer = (kind) => (kind === peerKind.lockSet ? held : undefined);
    const asked = set(b, lock('write'));
    await until(async () => !(await isFree(a)));
    b.renewing.pause();
    await until(async () => (await world.hosts.session(b.id)) === undefined);
    assert.equal(await set(a, lock('write')), true);
    letGo();
    await soon(20);
    b.renewing.resume();
    assert.equal(await asked, false);
    await stopAll(a, b);
  });

  test('is not given to an attempt that comes after a later one', async () => {
    const { a, b } = await hosts('b');
    const message = (type: LockRequest['type'], generation: number) => ({
      kind: peerKind.lockSet,
      head: encodeRequestHead({
        ...{ id, session: 1000, generation, epoch: 0, offset: 0, length: 0 },
      }),
      payload: encodeLocks([lock(type)]),
    });
    await a.locks.handle(b.id, message('none', 1));
    await assert.rejects(a.locks.handle(b.id, message('write', 0)), { code: 'unavailable' });
    assert.ok(await isFree(a));
    await stopAll(a, b);
  });

  test('to a lock that is not well formed is a refusal', async () => {
    const { a, b } = await hosts('b');
    const head = encodeRequestHead({
      ...{ id, session: 1000, generation: 0, epoch: 0, offset: 0, length: 0 },
    });
    const good = Buffer.from(encodeLocks([lock('write')]));
    const spoilt = (change: (bytes: Buffer) => Buffer | void) => {
      const bytes = Buffer.from(good);
      return change(bytes) ?? bytes;
    };
    const payloads = [
      spoilt((bytes) => bytes.subarray(1)),
      spoilt((bytes) => void bytes.writeUInt8(3, 0)),
      spoilt((bytes) => void bytes.writeUInt8(2, 1)),
      spoilt((bytes) => void bytes.writeBigUInt64LE(2n ** 63n, 24)),
      Buffer.from(encodeLocks([lock('write', 1n, 10n, 9n)])),
      spoilt((bytes) => Buffer.concat([bytes, bytes])),
      spoilt(() => Buffer.alloc(0)),
    ];
    for (const payload of payloads)
      for (const kind of [peerKind.lockFind, peerKind.lockSet, peerKind.lockWait])
        await assert.rejects(a.locks.handle(b.id, { kind, head, payload }), { code: 'invalid' });
    assert.ok(await isFree(a));
    await stopAll(a, b);
  });

  test('of a host that does not say which locks it has is waited for', async () => {
    const { world, a, b, c } = await hosts('b', 'c');
    await set(b, lock('write'));
    world.network.cut(c.id, b.id);
    await c.router.fetch(id);
    let isDecided = false;
    const asked = set(c, lock('write')).finally(() => (isDecided = true));
    await soon(100);
    assert.equal(isDecided, false);
    world.network.mend();
    assert.equal(await asked, false);
    await stopAll(a, b, c);
  });
});
