/** Hosts that don't fit together never stand in the registry together. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import { hostId } from '../../../src/core/units.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import type { Registry } from '../../../src/ports/registry.ts';
import { HostRecords } from '../../../src/registry/host-records.ts';
import { MemoryRegistry } from '../../../src/registry/memory-registry.ts';

const shared = { 'peers.key': '11aa', 'lease.time': '"6s"', 'backend.path': '"/store"' };

function world(registry: Registry = new MemoryRegistry(new SimulatedClock())) {
  const hosts = new HostRecords(registry);
  const join = async (name: string, settings: Readonly<Record<string, string>> = shared) => {
    const record = { id: hostId(name), instance: name, data: name, address: `${name}:1` };
    const lease = await registry.grantLease(6000);
    await hosts.join({ ...record, mount: '/m', pid: 1, shared: settings }, lease);
    return lease;
  };
  const names = async () => (await hosts.list()).map(({ id }) => id);
  return { join, names };
}

const refused = (line: string) => (error: unknown) => {
  assert.ok(isStorageError(error, 'invalid'), String(error));
  assert.equal(error.message, line);
  return true;
};

/** Whoever writes waits until `count` want to: all of them have read what was there before. */
function atOnce(registry: Registry, count: number): Registry {
  const all = Promise.withResolvers<void>();
  let waiting = 0;
  return {
    get: (key) => registry.get(key),
    range: (range) => registry.range(range),
    grantLease: (ttlMs) => registry.grantLease(ttlMs),
    watch: (range, from) => registry.watch(range, from),
    close: () => registry.close(),
    transact: async (transaction) => {
      waiting += 1;
      if (waiting === count) all.resolve();
      await all.promise;
      return registry.transact(transaction);
    },
  };
}

describe('a host that joins', () => {
  test('needs the settings of those that are there, and is told which it has not', async () => {
    const { join, names } = world();
    await join('b');
    await assert.rejects(
      join('a', { ...shared, 'lease.time': '"9s"' }),
      refused(
        'lease.time: found "9s" where host b (b:1) has "6s"; allowed is the same on all hosts',
      ),
    );
    await assert.rejects(
      join('a', { ...shared, 'peers.key': '22bb' }),
      refused(
        'peers.key: found another key than host b (b:1) has; allowed is the same key on all hosts',
      ),
    );
    assert.deepEqual(await names(), ['b']);
    await join('a');
    assert.deepEqual(await names(), ['a', 'b']);
  });

  test('may have other settings where it is alone, also other than it had itself', async () => {
    const { join, names } = world();
    const lease = await join('b');
    await join('b', { ...shared, 'lease.time': '"9s"' });
    await assert.rejects(join('a'), /lease\.time/);
    await lease.release();
    await join('b', { 'peers.key': '33cc' });
    assert.deepEqual(await names(), ['b']);
  });

  test('does not mind a setting that hosts of another version do not show', async () => {
    const { join, names } = world();
    await join('b', { ...shared, 'peers.colour': '"red"' });
    await join('a');
    assert.deepEqual(await names(), ['a', 'b']);
  });

  test('sees another one that joins at the same time', async () => {
    const registry = new MemoryRegistry(new SimulatedClock());
    const { join, names } = world(atOnce(registry, 2));
    const outcomes = await Promise.allSettled([
      join('a'),
      join('b', { ...shared, 'backend.path': '"/elsewhere"' }),
    ]);
    const [failed] = outcomes.filter(({ status }) => status === 'rejected');
    assert.match(String((failed as PromiseRejectedResult).reason), /backend\.path: found/);
    assert.equal((await names()).length, 1);
  });
});
