/** A host's right to serve: kept, doubted in time, lost, had again. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import { hostId } from '../../../src/core/units.ts';
import { HostRecords } from '../../../src/registry/host-records.ts';
import { MemoryRegistry } from '../../../src/registry/memory-registry.ts';
import { MemoryStore } from '../../../src/registry/memory-store.ts';
import { Membership } from '../../../src/router/members/membership.ts';
import { systemClock } from '../../../src/platform/system-clock.ts';
import { PausableClock } from '../../support/pausable-clock.ts';
import { quietLog } from '../../support/quiet-log.ts';

const settings = { ttlMs: 300, marginMs: 100 };
const host = hostId('a');

function world() {
  const store = new MemoryStore(systemClock(undefined));
  const clock = new PausableClock();
  const registry = new MemoryRegistry(clock, store);
  const hosts = new HostRecords(registry);
  const log = quietLog();
  const join = (data: string) => {
    const record = {
      id: host,
      instance: 'i',
      data,
      address: 'a:1',
      mount: '/m',
      pid: 1,
      shared: {},
    };
    return Membership.join({ registry, hosts, clock, log, record }, settings);
  };
  return {
    ...{ clock, store, registry, hosts, join },
    [Symbol.asyncDispose]: () => registry.close(),
  };
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; !(await holds()); attempt += 1) {
    assert.ok(attempt < 1000, 'never happened');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('a host of a vPool', () => {
  test('stops acknowledging before the registry can give its objects away', async () => {
    await using made = world();
    const membership = await made.join('ssd');
    const lease = await membership.current();
    assert.ok(lease.isFresh());
    made.clock.pause();
    await until(() => !lease.isFresh());
    assert.ok(await made.hosts.find(host), 'the registry still keeps its record');
    await until(async () => (await made.hosts.find(host)) === undefined);
    assert.equal(lease.isFresh(), false);
    made.clock.resume();
    await assert.rejects(lease.fresh(), (error) => isStorageError(error, 'fenced'));
    const next = await membership.current();
    assert.ok(next.session > lease.session);
    assert.ok(next.isFresh() && !lease.isFresh());
    await membership.leave();
    assert.equal(await made.hosts.find(host), undefined);
  });

  test('joins with another lease where one has run out before its record came', async () => {
    await using made = world();
    const transact = made.registry.transact.bind(made.registry);
    let leases = 0;
    made.registry.transact = (transaction) => {
      const lease = transaction.writes.flatMap((write) => ('put' in write && write.lease) || [])[0];
      leases += 1;
      if (lease !== undefined && leases <= 2) made.store.endLease(lease);
      return transact(transaction);
    };
    const membership = await made.join('ssd');
    assert.ok((await membership.current()).isFresh());
    assert.equal(leases, 3);
    await membership.leave();
  });

  test('comes back on its own SSD at once, and nobody else takes its name', async () => {
    await using made = world();
    await made.join('ssd');
    await assert.rejects(made.join('another'), (error) => {
      assert.ok(isStorageError(error, 'exists'));
      assert.match(error.message, /host: found a, which a daemon at a:1 \(process 1\) uses/);
      return true;
    });
    const again = await made.join('ssd');
    assert.ok((await again.current()).isFresh());
  });
});
