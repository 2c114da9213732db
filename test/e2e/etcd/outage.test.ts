/** What becomes of writes, watches and leases when members of etcd, or their users, stop. */

import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemRandom } from '../../../src/platform/random.ts';
import { systemClock } from '../../../src/platform/system-clock.ts';
import type { Registry, WatchEvent } from '../../../src/ports/registry.ts';
import { prefixRange } from '../../../src/ports/registry.ts';
import { EtcdRegistry } from '../../../src/registry/etcd-registry.ts';
import { withRetry } from '../../../src/registry/with-retry.ts';
import { EtcdCluster, etcdMissing } from '../../support/etcd.ts';
import { quietLog } from '../../support/quiet-log.ts';

const range = prefixRange('k');
const clock = systemClock(undefined);

async function open(cluster: EtcdCluster, name: string): Promise<Registry> {
  const etcd = await EtcdRegistry.open({ endpoints: cluster.endpoints }, clock);
  return withRetry(etcd, { clock, random: systemRandom(), log: quietLog() }, name);
}

const put = (key: string, value: string) => ({ key, put: Buffer.from(value) });

/** Remembers what a watch tells, until it is stopped. */
function follow(registry: Registry, from: number) {
  const stop = new AbortController();
  const events: WatchEvent[] = [];
  const ended = (async () => {
    for await (const transaction of registry.watch(range, from, { signal: stop.signal }))
      events.push(...transaction);
  })().catch((error: unknown) => {
    if (!stop.signal.aborted) throw error;
  });
  return {
    events,
    async end(): Promise<void> {
      stop.abort();
      await ended;
    },
  };
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let round = 0; !(await holds()); round += 1) {
    assert.ok(round < 600, what);
    await sleep(100);
  }
}

if (etcdMissing) test('etcd may stop and come back', { skip: etcdMissing }, () => {});
else
  describe('etcd that stops', { timeout: 180_000 }, () => {
    let cluster: EtcdCluster;
    let registry: Registry;
    beforeEach(async () => {
      cluster = await EtcdCluster.start();
      registry = await open(cluster, 'a');
    });
    afterEach(async () => {
      await registry.close();
      await cluster[Symbol.asyncDispose]();
    });

    /** Writes all the while, and compares what was told with what happened. */
    const writingDuring = async (trouble: () => Promise<void>) => {
      const { revision } = await registry.range(range);
      const followed = follow(registry, revision);
      const told: number[] = [];
      let isOver = false;
      const writers = Array.from({ length: 8 }, async (_, id) => {
        for (let step = 0; !isOver; step += 1) {
          const outcome = await registry.transact({
            compares: [],
            writes: [put(`k${id}`, String(step))],
          });
          assert.ok(outcome.committed);
          told.push(outcome.revision);
        }
      });
      await until('writes before', () => told.length >= 50);
      await trouble();
      const before = told.length;
      await until('writes after', () => told.length >= before + 50);
      isOver = true;
      await Promise.all(writers);
      await until('events', () => followed.events.length >= told.length);
      await followed.end();
      assert.deepEqual(
        followed.events.map((event) => event.revision),
        told.toSorted((a, b) => a - b),
      );
    };

    test('loses no write and repeats none when the leader dies', async () => {
      await writingDuring(async () => cluster.kill(await cluster.leader()));
    });

    test('loses no write, no event and no lease in a short outage of all', async () => {
      const lease = await registry.grantLease(20_000);
      const writes = [{ ...put('lease', '1'), lease: lease.id }];
      const held = await registry.transact({ compares: [], writes });
      await writingDuring(async () => {
        await cluster.stopAll();
        await cluster.startAll();
      });
      assert.equal(lease.signal.aborted, false);
      await until('renewed', () => lease.validUntilMs() > clock.monotonicMs() + 10_000);
      assert.ok(held.committed);
      assert.equal((await registry.get('lease'))?.revision, held.revision);
    });

    test('takes the lease of a process that stands still, which then knows', async () => {
      const helper = join(import.meta.dirname, '../../support/lease-holder.ts');
      const holder = fork(helper, [cluster.endpoints.join(), '2000']);
      try {
        await once(holder, 'message');
        const { entries, revision } = await registry.range(range);
        assert.equal(entries.length, 1);
        const followed = follow(registry, revision);
        holder.kill('SIGSTOP');
        await until('the key goes', () => followed.events.length > 0);
        await followed.end();
        assert.equal(followed.events[0]?.value, undefined);
        holder.send('go on');
        holder.kill('SIGCONT');
        const [found] = (await once(holder, 'message')) as unknown[];
        assert.deepEqual(found, { isValid: false, committed: false });
        assert.equal(await registry.get('kguarded'), undefined);
      } finally {
        holder.kill('SIGKILL');
      }
    });
  });
