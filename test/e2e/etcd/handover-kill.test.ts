/**
 * kill -9 of either host at each step of a handover, while both use the disk: what was acknowledged
 * is there afterwards, at either mount, and nothing older appears. The steps are those of
 * src/router/handover.ts; the host that fetches logs each as it begins.
 */

import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { seededRandom } from '../../../src/platform/random.ts';
import type { Daemon } from '../../support/daemon.ts';
import { etcdMissing } from '../../support/etcd.ts';
import { handoverSteps, reachStep } from '../../support/handover-steps.ts';
import { Hosts } from '../../support/hosts.ts';
import { cannotMount } from '../../support/playground.ts';

const rounds = Number(process.env['WHARF_HANDOVER_KILLS'] ?? 2);
/** A step takes about so long; half of the kills come at once, the others somewhere within. */
const stepMsMax = 6;

test(`a handover survives ${rounds} kills of either host at each step`, {
  skip: cannotMount || etcdMissing,
}, async (t) => {
  const seed = Number(process.env['WHARF_SEED'] ?? Math.floor(Math.random() * 1e9));
  t.diagnostic(`seed ${seed}`);
  const random = seededRandom(seed);
  const fraction = () => random.fraction();
  await using hosts = await Hosts.start({ network: 'loopback', random: fraction });
  const { load, disk } = hosts;
  let [atA, atB] = await hosts.useBoth();
  const kill = async (victim: Daemon) => {
    const isA = victim === hosts.a;
    const user = isA ? atA : atB;
    const lost = load.lose(user);
    await victim.end('SIGKILL');
    await lost;
    await user[Symbol.asyncDispose]();
    await victim.start();
    if (isA) atA = await hosts.user(victim);
    else atB = await hosts.user(victim);
  };
  for (let round = 0; round < rounds; round += 1)
    for (const step of handoverSteps)
      for (const who of ['owner', 'fetcher'] as const) {
        const victim = (await reachStep(hosts, step))[who];
        if (fraction() < 0.5) await sleep(fraction() * stepMsMax);
        await kill(victim);
        await load.stop();
        // What the killed one had sent is done, or refused, before its successor is answered.
        const [first, then] = victim === hosts.a ? [atA, atB] : [atB, atA];
        await disk.check(first);
        await disk.check(then);
        for (const user of [atA, atB]) load.start(user);
        await Promise.all([atA, atB].map((user) => load.progress(user, 50)));
      }
  await load.stop();
});
