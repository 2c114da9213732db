/** What an owner decides about locks, on time that stands still. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hostId, objectId } from '../../../src/core/units.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import type { LockRequest } from '../../../src/ports/object-locks.ts';
import { lastByte } from '../../../src/ports/object-locks.ts';
import { HostRecords } from '../../../src/registry/host-records.ts';
import { MemoryRegistry } from '../../../src/registry/memory-registry.ts';
import { MemoryStore } from '../../../src/registry/memory-store.ts';
import { HeldLocks } from '../../../src/router/locks/held-locks.ts';
import { LockArbiter } from '../../../src/router/locks/lock-arbiter.ts';
import { quietLog } from '../../support/quiet-log.ts';
import { tenureOf } from '../../support/tenure.ts';

const id = objectId('6'.repeat(32));
const host = hostId('a');
const whole = { kind: 'posix', pid: 1, start: 0n, end: lastByte } as const;

async function court() {
  const clock = new SimulatedClock();
  const registry = new MemoryRegistry(clock, new MemoryStore(clock));
  const hosts = new HostRecords(registry);
  const record = {
    id: host,
    instance: '1',
    data: '1',
    address: 'a:1',
    mount: '/m',
    pid: 1,
    shared: {},
  };
  const session = await hosts.join(record, await registry.grantLease(1_000_000));
  const asked: number[] = [];
  const arbiter = new LockArbiter({
    ...{ hosts, clock, log: quietLog(), signal: new AbortController().signal },
    locksOf: async (_, __, epoch) => {
      asked.push(epoch);
      return { session, locks: [] };
    },
  });
  const tenure = tenureOf(id, 3);
  let isCurrent = true;
  const served = { id, tenure, isCurrent: () => isCurrent };
  const lock = (owner: bigint, type: LockRequest['type']) => ({
    ...{ ...whole, owner, type, host, session },
  });
  const moveAway = () => {
    isCurrent = false;
    tenure.end();
  };
  return { clock, arbiter, served, lock, asked, moveAway, registry };
}

async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = () => (settled = true);
  promise.then(note, note);
  for (let round = 0; round < 20; round += 1) await new Promise((resolve) => setImmediate(resolve));
  return settled;
}

describe('who waits for a lock', () => {
  test('is woken as soon as it goes, or is for readers only', async () => {
    const { arbiter, served, lock, registry } = await court();
    await arbiter.set(served, lock(1n, 'write'));
    const writer = arbiter.wait(served, lock(2n, 'write'), 1000);
    const reader = arbiter.wait(served, lock(3n, 'read'), 1000);
    assert.equal(await isSettled(reader), false);
    await arbiter.set(served, lock(1n, 'read'));
    assert.equal(await isSettled(reader), true);
    assert.equal(await isSettled(writer), false);
    await arbiter.set(served, lock(1n, 'none'));
    assert.equal(await isSettled(writer), true);
    await registry.close();
  });

  test('is woken where a refused conversion has given a flock up', async () => {
    const { arbiter, served, lock, registry } = await court();
    const flock = (owner: bigint, type: LockRequest['type']) =>
      ({ ...lock(owner, type), kind: 'flock' }) as const;
    await arbiter.set(served, flock(1n, 'read'));
    await arbiter.set(served, flock(2n, 'read'));
    const waits = arbiter.wait(served, flock(2n, 'write'), 1000);
    assert.equal(await isSettled(waits), false);
    await arbiter.set(served, flock(1n, 'write'));
    assert.equal(await isSettled(waits), true);
    await registry.close();
  });

  test('is answered after its time, with nothing changed', async () => {
    const { arbiter, served, lock, clock, registry } = await court();
    await arbiter.set(served, lock(1n, 'write'));
    const waits = arbiter.wait(served, lock(2n, 'write'), 1000);
    assert.equal(await isSettled(waits), false);
    await clock.advance(1000);
    assert.equal(await isSettled(waits), true);
    assert.notEqual(await arbiter.find(served, lock(2n, 'write')), undefined);
    await registry.close();
  });

  test('is told at once when the object changes hands', async () => {
    const { arbiter, served, lock, moveAway, registry } = await court();
    await arbiter.set(served, lock(1n, 'write'));
    const waits = arbiter.wait(served, lock(2n, 'write'), 1000);
    assert.equal(await isSettled(waits), false);
    moveAway();
    await assert.rejects(waits, { code: 'busy' });
    await assert.rejects(arbiter.set(served, lock(1n, 'none')), { code: 'busy' });
    await registry.close();
  });
});

describe('a host', () => {
  const b = hostId('b');

  test('is told when others may have written since it had its last lock', async () => {
    const { arbiter, served, lock, registry } = await court();
    const stale = async (at: typeof host, type: LockRequest['type'], start = 0n) => {
      const wanted = { ...lock(1n, type), host: at, start, end: start };
      const { found, isStale } = await arbiter.set(served, wanted);
      assert.equal(found, undefined);
      return isStale;
    };
    assert.equal(await stale(host, 'read'), true, 'its first lock of a tenure');
    assert.equal(await stale(host, 'read'), false);
    assert.equal(await stale(b, 'read'), true);
    assert.equal(await stale(host, 'read'), false, 'others have read');
    await stale(b, 'none');
    assert.equal(await stale(host, 'write'), true, 'a lock that ends may have been for writing');
    assert.equal(await stale(host, 'write'), false);
    assert.equal(await stale(b, 'write', 9n), true);
    await stale(host, 'none');
    assert.equal(await stale(b, 'read', 20n), true, 'it may have written until it unlocked');
    await stale(host, 'none', 50n);
    assert.equal(await stale(host, 'read', 30n), true, 'unlocking says nothing of what it knows');
    await registry.close();
  });
});

test('an owner asks the hosts once in each tenure', async () => {
  const { arbiter, served, lock, asked, registry } = await court();
  await Promise.all([arbiter.set(served, lock(1n, 'read')), arbiter.set(served, lock(2n, 'read'))]);
  await arbiter.find(served, lock(3n, 'write'));
  assert.deepEqual(asked, [3]);
  await arbiter.find({ ...served, tenure: tenureOf(id, 4) }, lock(3n, 'write'));
  assert.deepEqual(asked, [3, 4]);
  await registry.close();
});

describe('what a host holds', () => {
  const wanted = { ...whole, owner: 1n, type: 'write', host, session: 1 } as const;

  test('are the locks of its present session alone', () => {
    const held = new HeldLocks();
    held.begin(id);
    assert.ok(held.end(id, 1, wanted, 'granted'));
    assert.equal(held.tell(id, 2, 1).length, 1);
    assert.equal(held.tell(id, 2, 2).length, 0);
  });

  test('is what the newest owner that asked for it has granted', () => {
    const held = new HeldLocks();
    held.begin(id);
    held.tell(id, 5, 1);
    held.tell(id, 4, 1);
    assert.equal(held.end(id, 4, wanted, 'granted'), false);
    assert.equal(held.of(id).length, 0);
    held.begin(id);
    assert.ok(held.end(id, 5, wanted, 'granted'));
    assert.equal(held.of(id).length, 1);
  });

  test('is less by a flock whose conversion was refused', () => {
    const held = new HeldLocks();
    const flock = { ...wanted, kind: 'flock', type: 'read' } as const;
    held.begin(id);
    held.end(id, 1, flock, 'granted');
    held.begin(id);
    held.end(id, 1, { ...flock, type: 'write' }, 'refused');
    assert.deepEqual(held.objects, []);
  });
});
