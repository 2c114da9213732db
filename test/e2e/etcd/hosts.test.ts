/** A vPool whose registry is three members of etcd. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { EtcdCluster, etcdMissing } from '../../support/etcd.ts';
import type { Ready } from '../../support/playground.ts';
import { cannotMount, Playground } from '../../support/playground.ts';
import { startSwift, swiftMissing } from '../../support/swift.ts';

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

test('three hosts share a vPool over etcd and an S3 server, and outlive the owner of a disk', {
  skip: etcdMissing || swiftMissing || cannotMount,
}, async () => {
  await using etcd = await EtcdCluster.start();
  await using s3 = await startSwift();
  process.env['AWS_ACCESS_KEY_ID'] = s3.accessKey;
  process.env['AWS_SECRET_ACCESS_KEY'] = s3.secretKey;
  await using playground = new Playground();
  await playground.start(
    ...['--hosts', '3', '--registry', 'etcd', '--etcd-endpoints', etcd.endpoints.join()],
    ...['--backend', 's3', '--s3-endpoint', s3.endpoint],
  );
  const [a, b, c] = playground.hosts as [Ready, Ready, Ready];
  const content = Buffer.alloc(3 * 2 ** 20, 'wharf');
  const file = await fs.open(join(a.mount, 'disk.raw'), 'w');
  await file.write(content);
  await file.sync();
  await file.close();
  process.kill(a.pid, 'SIGKILL');
  for (const { mount } of [b, c])
    assert.ok((await fs.readFile(join(mount, 'disk.raw'))).equals(content));
  await fs.writeFile(join(c.mount, 'note'), 'of c');
  assert.equal(await fs.readFile(join(b.mount, 'note'), 'utf8'), 'of c');
  assert.equal(await playground.stop(), 70);
});
