/** How each fault is begun, and ended. A fault that this machine can't make is left out. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { DrainProgress } from '../../src/router/moves/drain.ts';
import { nowMs } from '../support/mount-user.ts';
import type { Networks, NetworkName } from '../support/networks.ts';
import type { Cluster } from './cluster.ts';
import type { KindName, Step } from './plan.ts';

type Fault = (cluster: Cluster, step: Step) => Promise<() => Promise<void> | void>;

const drainMsMax = 15_000;
const members = 3;

/** The link of a host, to the networks that are named. */
const cut = (...from: readonly NetworkName[]) =>
  onNetworks(async (networks, { host }) => {
    await networks.cut(host, ...from);
    return () => networks.mend(host);
  });

const lose = (to: (step: Step) => string, network: NetworkName) =>
  onNetworks(async (networks, step) => {
    await networks.lose(step.host, to(step), network);
    return () => networks.deliver(step.host, to(step), network);
  });

function onNetworks(
  begin: (networks: Networks, step: Step) => Promise<() => Promise<void>>,
): Fault {
  return ({ networks }, step) => {
    if (!networks) throw new Error('there are no networks to cut');
    return begin(networks, step);
  };
}

const freeze: Fault = async (cluster, step) => {
  const host = cluster.host(step.host);
  host.freeze();
  return () => host.thaw();
};

const killMembers =
  (count: number): Fault =>
  async ({ etcd }, { member }) => {
    const killed = Array.from({ length: count }, (_, index) => (member + index) % members);
    await Promise.all(killed.map((index) => etcd.kill(index)));
    return () => {
      for (const index of killed) etcd.restart(index);
    };
  };

export const faults: Partial<Record<KindName, Fault>> = {
  kill: async (cluster, step) => {
    const host = cluster.host(step.host);
    await host.kill();
    return () => host.start();
  },
  'stop-short': freeze,
  'stop-long': freeze,
  drain: async (cluster, step) => {
    const host = cluster.host(step.host);
    const deadlineMs = nowMs() + drainMsMax;
    let state = 'draining';
    await host.ask('POST', 'host/drain', { host: step.host }).catch(() => {});
    while (state === 'draining' && nowMs() < deadlineMs) {
      await sleep(200);
      const progress = host.ask<DrainProgress>('GET', 'host/drain').catch(() => undefined);
      state = (await progress)?.state ?? state;
    }
    await host.stop();
    return () => host.start();
  },
  'cut-all': cut('peers', 'registry'),
  'cut-peers': cut('peers'),
  'cut-registry': cut('registry'),
  'lose-to-peer': lose(({ other }) => other, 'peers'),
  'lose-to-etcd': lose(() => 'etcd', 'registry'),
  'lose-to-store': lose(() => 'store', 'registry'),
  'etcd-kill': killMembers(1),
  'etcd-kill-two': killMembers(2),
  'store-kill': async ({ store }) => {
    await store.kill();
    return () => store.start();
  },
  'store-stop': async ({ store }) => {
    store.freeze();
    return () => store.thaw();
  },
  'ssd-full': (cluster, step) => cluster.host(step.host).fillSsd(),
};

/** Which need networks that can be cut. */
export const onLinks: ReadonlySet<KindName> = new Set<KindName>([
  ...(['cut-all', 'cut-peers', 'cut-registry'] as const),
  ...(['lose-to-peer', 'lose-to-etcd', 'lose-to-store'] as const),
]);
