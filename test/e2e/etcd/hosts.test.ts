/** A vPool whose registry is three members of etcd. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { EtcdCluster, etcdMissing } from '../../support/etcd.ts';
import { cannotMount, Playground } from '../../support/playground.ts';

test('hosts share a vPool over etcd, also while its leader dies', {
  skip: etcdMissing || cannotMount,
}, async () => {
  await using etcd = await EtcdCluster.start();
  await using playground = new Playground();
  const flags = ['--hosts', '2', '--registry', 'etcd', '--etcd-endpoints', etcd.endpoints.join()];
  await playground.start(...flags);
  const [a = '', b = ''] = playground.hosts.map(({ mount }) => mount);
  const content = Buffer.alloc(2 ** 20, 'wharf');
  await fs.writeFile(join(a, 'disk.raw'), content);
  assert.ok((await fs.readFile(join(b, 'disk.raw'))).equals(content));
  await etcd.kill(await etcd.leader());
  await fs.writeFile(join(b, 'note'), 'after the leader');
  assert.equal(await fs.readFile(join(a, 'note'), 'utf8'), 'after the leader');
  assert.equal(await playground.stop(), 0);
  await playground.start(...flags);
  assert.ok((await fs.readFile(join(b, 'disk.raw'))).equals(content));
});
