/** Which host an owner asks to keep the copy of a journal. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ObjectId } from '../../../src/core/units.ts';
import { hostId, objectId } from '../../../src/core/units.ts';
import { ReplicaHosts } from '../../../src/log/replica-hosts.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import type { HostRecord } from '../../../src/registry/host-records.ts';

const idOf = (number: number): ObjectId => objectId(number.toString(16).padStart(32, '0'));

function hostOf(name: string, domain?: string): HostRecord {
  const place = domain === undefined ? {} : { domain };
  const facts = {
    instance: name,
    data: name,
    address: `${name}:1`,
    mount: '/m',
    pid: 1,
    shared: {},
  };
  return { id: hostId(name), ...facts, ...place };
}

function choosing(others: readonly HostRecord[], domain?: string): ReplicaHosts {
  const peers = {
    call: () => Promise.reject(new Error('nobody is asked')),
    close: () => Promise.resolve(),
  };
  const all = [hostOf('a', domain), ...others];
  return new ReplicaHosts(
    {
      ...{ host: hostId('a'), domain, peers, clock: new SimulatedClock() },
      hosts: { list: () => Promise.resolve(all) },
      checksum: tableChecksum(),
    },
    1000,
  );
}

const chosen = async (hosts: ReplicaHosts, id: ObjectId, avoid?: string) =>
  (await hosts.choose(id, avoid === undefined ? undefined : hostId(avoid)))?.id as
    | string
    | undefined;

describe('the host of a copy', () => {
  test('is never the owner, and none where there is no other', async () => {
    assert.equal(await chosen(choosing([]), idOf(1)), undefined);
    assert.equal(await chosen(choosing([hostOf('b')]), idOf(1)), 'b');
  });

  test('is in another failure domain, if one of those is up', async () => {
    const near = [hostOf('b', 'rack-1'), hostOf('c', 'rack-1')];
    const hosts = choosing([...near, hostOf('d', 'rack-2')], 'rack-1');
    for (let number = 1; number <= 20; number += 1)
      assert.equal(await chosen(hosts, idOf(number)), 'd');
    assert.ok(['b', 'c'].includes((await chosen(choosing(near, 'rack-1'), idOf(1))) as string));
  });

  test('has the fewest copies of this owner', async () => {
    const hosts = choosing([hostOf('b'), hostOf('c'), hostOf('d')]);
    const counts = new Map<string, number>();
    for (let number = 1; number <= 30; number += 1) {
      const name = (await chosen(hosts, idOf(number))) as string;
      hosts.noteCopy(hostId(name), 1);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    assert.deepEqual([...counts.values()], [10, 10, 10]);
  });

  test('is not the one that was lost last, unless there is no other', async () => {
    const hosts = choosing([hostOf('b'), hostOf('c')]);
    for (let number = 1; number <= 20; number += 1) {
      assert.equal(await chosen(hosts, idOf(number), 'b'), 'c');
      assert.equal(await chosen(hosts, idOf(number), 'c'), 'b');
    }
    assert.equal(await chosen(choosing([hostOf('b')]), idOf(1), 'b'), 'b');
  });
});
