/**
 * A daemon that stands still for longer than its lease, as a machine does that swaps or a VM that is
 * moved, and goes on as if nothing had happened, while both hosts use one disk.
 */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { seededRandom } from '../../../src/platform/random.ts';
import type { Daemon } from '../../support/daemon.ts';
import { etcdMissing } from '../../support/etcd.ts';
import { reachStep } from '../../support/handover-steps.ts';
import { Hosts, lease } from '../../support/hosts.ts';
import { nowMs, wallMsOf } from '../../support/mount-user.ts';
import { cannotMount } from '../../support/playground.ts';

/** Of times in logs, and between two readings of two clocks. */
const wallErrorMs = 3;

async function start(): Promise<Hosts> {
  const seed = seededRandom(2);
  return Hosts.start({ network: 'loopback', random: () => seed.fraction() });
}

/** When it joined again, on the wall clock. */
function joinsIn(log: string): number[] {
  const lines = log.split('\n').filter((line) => line.includes('"joined again"'));
  return lines.map((line) => (JSON.parse(line) as { time: number }).time);
}

/** Until the others believe it dead, and a while longer, or until `then` has come about. */
async function standStill(
  stopped: Daemon,
  other: Daemon,
  then: () => Promise<void> = () => sleep(lease.marginMs),
): Promise<void> {
  process.kill(stopped.pid, 'SIGSTOP');
  try {
    await other.until('its lease ends', async () => {
      const { hosts } = await other.wharf<{ hosts: unknown[] }>('host', 'list');
      return hosts.length === 1;
    });
    await then();
  } finally {
    process.kill(stopped.pid, 'SIGCONT');
  }
}

describe('a host that stands still for longer than its lease', {
  skip: cannotMount || etcdMissing,
}, () => {
  test('is not the owner any more when it goes on, and nothing is lost or old', async () => {
    await using hosts = await start();
    const users = await hosts.useBoth();
    for (let round = 1; round <= 3; round += 1) {
      await hosts.hasCopy();
      const isA = (await hosts.ownerBy(hosts.a)) === 'a';
      const [stopped, other] = isA ? [hosts.a, hosts.b] : [hosts.b, hosts.a];
      const [atStopped, atOther] = isA ? users : ([users[1], users[0]] as const);
      const joinedBefore = joinsIn(stopped.log).length;
      const standing = standStill(stopped, other, () => hosts.load.progress(atOther));
      // Answers that were on their way when it stopped arrive when it goes on; they are as old as that.
      await sleep(lease.marginMs);
      atStopped.watchFrom(nowMs());
      await standing;
      await Promise.all(users.map((user) => hosts.load.progress(user)));
      assert.equal(await hosts.ownerBy(stopped), await hosts.ownerBy(other));
      const joined = joinsIn(stopped.log);
      assert.equal(joined.length, joinedBefore + 1);
      const firstMs = wallMsOf(atStopped.firstDoneMs ?? 0);
      assert.ok(firstMs > (joined.at(-1) as number) - wallErrorMs);
    }
    await hosts.goOn(users);
  });

  for (const who of ['owner', 'fetcher'] as const)
    test(`goes on as the ${who} amid a handover`, async () => {
      await using hosts = await start();
      const users = await hosts.useBoth();
      for (const step of ['park', 'tail', 'give'] as const) {
        const { [who]: stopped } = await reachStep(hosts, step);
        await standStill(stopped, stopped === hosts.a ? hosts.b : hosts.a);
        await Promise.all(users.map((user) => hosts.load.progress(user)));
      }
      await hosts.goOn(users);
    });

  test('goes on as one that forwards', async () => {
    await using hosts = await start();
    const users = await hosts.useBoth();
    await standStill(hosts.b, hosts.a);
    await hosts.goOn(users);
    assert.match(hosts.b.log, /joined again/);
  });
});
