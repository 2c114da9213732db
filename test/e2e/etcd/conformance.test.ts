/** The contract of a registry, kept by three members of etcd. */

import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../../src/platform/system-clock.ts';
import { EtcdRegistry } from '../../../src/registry/etcd-registry.ts';
import { registrySuite } from '../../conformance/registry.ts';
import { EtcdCluster, etcdMissing } from '../../support/etcd.ts';

if (etcdMissing) test('etcd keeps the contract of a registry', { skip: etcdMissing }, () => {});
else
  describe('three members', () => {
    let cluster: EtcdCluster;
    before(async () => {
      cluster = await EtcdCluster.start();
    });
    after(() => cluster[Symbol.asyncDispose]());

    registrySuite('etcd', async () => {
      await cluster.wipe();
      const clock = systemClock(undefined);
      const open = () => EtcdRegistry.open({ endpoints: cluster.endpoints }, clock);
      const [registry, other] = [await open(), await open()];
      return {
        ...{ registry, other, clock, ttlMs: 2000 },
        pass: (ms) => sleep(ms),
        compact: () => cluster.compact(),
        async [Symbol.asyncDispose]() {
          await registry.close();
          await other.close();
        },
      };
    });
  });
