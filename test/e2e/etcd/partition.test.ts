/**
 * Hosts that are cut from each other, or from the registry, while both use one disk: whoever can't
 * know that he may serve waits, and goes on when he knows; nothing that was acknowledged is lost.
 */

import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { basename } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { seededRandom } from '../../../src/platform/random.ts';
import { leaksIn } from '../../leaks.ts';
import { etcdMissing } from '../../support/etcd.ts';
import { reachStep } from '../../support/handover-steps.ts';
import { diskPath, Hosts, lease } from '../../support/hosts.ts';
import { nowMs } from '../../support/mount-user.ts';
import { Networks, networksMissing } from '../../support/networks.ts';
import { cannotMount } from '../../support/playground.ts';

interface Status {
  readonly waitingForOwners: readonly { readonly why: string }[];
}

async function start(): Promise<Hosts> {
  const seed = seededRandom(1);
  return Hosts.start({ network: 'cuttable', random: () => seed.fraction() });
}

describe('hosts that are cut off', {
  skip: cannotMount || etcdMissing || networksMissing,
}, () => {
  test('from the owner: one waits, says so, and goes on; the owner serves', async () => {
    await using hosts = await start();
    const [atA, atB] = await hosts.useBoth();
    const owner = `host a at ${hosts.networks.address('a', 'peers')}`;
    await hosts.networks.cut('b', 'peers');
    await hosts.b.until('b says what it waits for', async () => {
      const { waitingForOwners } = await hosts.b.wharf<Status>('status');
      return waitingForOwners.some(({ why }) => why.includes(owner));
    });
    const before = hosts.load.count(atB);
    await hosts.load.progress(atA);
    assert.equal(hosts.load.count(atB), before);
    assert.ok(atB.underWay > 0);
    await hosts.networks.mend('b');
    await hosts.goOn([atA, atB]);
    assert.equal(await hosts.ownerBy(hosts.b), 'a');
  });

  for (const [whom, links] of [
    ['everybody', ['peers', 'registry']],
    ['the registry alone', ['registry']],
  ] as const)
    test(`from ${whom}: an owner stops before the host of the copy takes over`, async () => {
      await using hosts = await start();
      const [atA, atB] = await hosts.useBoth();
      await hosts.hasCopy();
      const cutMs = nowMs();
      await hosts.networks.cut('a', ...links);
      await hosts.b.until('b has taken over', async () => (await hosts.ownerBy(hosts.b)) === 'b');
      const takenMs = nowMs();
      await hosts.load.progress(atB);
      await sleep(lease.timeMs);
      assert.ok(atA.lastDoneMs > cutMs, 'it served while its lease was fresh');
      const servedMs = atA.lastDoneMs - cutMs;
      assert.ok(servedMs < lease.timeMs, `${servedMs} ms after the cut`);
      assert.ok(atA.lastDoneMs < takenMs, 'it served when it was not the owner any more');
      assert.ok(atA.underWay > 0);
      await hosts.networks.mend('a');
      await hosts.goOn([atA, atB]);
      assert.match(hosts.a.log, /joined again/);
    });

  test('all from the registry: I/O goes on while leases are valid, waits, and goes on', async () => {
    await using hosts = await start();
    const users = await hosts.useBoth();
    await hosts.hasCopy();
    const cutMs = nowMs();
    for (const host of ['a', 'b'] as const) await hosts.networks.cut(host, 'registry');
    await sleep(3 * lease.timeMs);
    for (const user of users) {
      assert.ok(user.lastDoneMs > cutMs, 'it was served while the lease was valid');
      assert.ok(user.lastDoneMs < cutMs + lease.timeMs, `${user.lastDoneMs - cutMs} ms after it`);
      assert.ok(user.underWay > 0);
    }
    for (const host of ['a', 'b'] as const) await hosts.networks.mend(host);
    await hosts.goOn(users);
  });

  test('from the host of its copy: the owner goes on without, recorded first', async () => {
    await using hosts = await start();
    const users = await hosts.useBoth();
    await hosts.hasCopy();
    await hosts.networks.cut('b', 'peers');
    await hosts.a.until('it is recorded', async () => {
      const { changes } = await hosts.a.wharf<{ changes: string }>('vdisk', 'show', diskPath);
      return changes.startsWith('on the SSD of host a alone');
    });
    await hosts.load.progress(users[0]);
    await hosts.networks.mend('b');
    await hosts.hasCopy();
    await hosts.goOn(users);
  });

  test('amid a handover: one of them goes on with it, whichever it is', async () => {
    await using hosts = await start();
    const users = await hosts.useBoth();
    const moments = [
      ['park', 'owner'],
      ['tail', 'fetcher'],
      ['give', 'owner'],
      ['give', 'fetcher'],
    ] as const;
    for (const [step, who] of moments) {
      const { [who]: cut } = await reachStep(hosts, step);
      await hosts.networks.cut(cut.host, 'peers', 'registry');
      await sleep(1.5 * lease.timeMs);
      await hosts.networks.mend(cut.host);
      await Promise.all(users.map((user) => hosts.load.progress(user)));
    }
    await hosts.goOn(users);
  });

  test('leave no namespace behind, which would be seen', async () => {
    const networks = await Networks.make('a');
    const name = basename(networks.enter('a').at(-1) ?? '');
    const isSeen = () => leaksIn(tmpdir()).includes(`network namespace ${name}`);
    try {
      assert.ok(isSeen());
    } finally {
      await networks[Symbol.asyncDispose]();
    }
    assert.ok(!isSeen());
  });
});
