/** A vPool of two hosts whose etcd has lost everything: what an S3 server has of it brings it back. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { MiB } from '../../../src/core/units.ts';
import type { RecoveryReport } from '../../../src/daemon/recovery/recover-vpool.ts';
import type { CopyStatus } from '../../../src/registry/copy/registry-copier.ts';
import { wharf } from '../../support/command.ts';
import { DaemonPair } from '../../support/daemon-pair.ts';
import { EtcdCluster, etcdMissing } from '../../support/etcd.ts';
import { cannotMount } from '../../support/playground.ts';
import { TroubledS3 } from '../../support/troubled-s3.ts';

const skip = etcdMissing || cannotMount;

test('a vPool on S3 whose etcd is empty is brought back, and refused until then', {
  skip,
}, async () => {
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'S3RVER', AWS_SECRET_ACCESS_KEY: 'S3RVER' });
  await using etcd = await EtcdCluster.start();
  await using s3 = await TroubledS3.start();
  await using hosts = new DaemonPair({
    registry: { etcd: { endpoints: etcd.endpoints } },
    backend: { kind: 's3', endpoint: s3.endpoint },
    registryCopy: { delay: '100ms' },
  });
  const { a, b } = hosts;
  await hosts.start();
  const content = Buffer.alloc(2 * MiB, 'of a');
  await fs.writeFile(a.at('disk.raw'), content);
  await a.sync('/disk.raw');
  await a.wharf('vdisk', 'snapshot', 'create', '/disk.raw', 'first');
  await a.wharf('vdisk', 'clone', '/disk.raw', '/clone.raw');
  await fs.writeFile(b.at('note'), 'of b', { flush: true });
  const copies = () =>
    Promise.all([a, b].map((host) => host.status<{ registryCopy: CopyStatus | null }>()));
  await a.until('the registry is copied', async () =>
    (await copies()).some(({ registryCopy }) => registryCopy?.isBehind === false),
  );
  for (const host of [a, b]) {
    await host.end('SIGKILL');
    await fs.rm(host.data, { recursive: true });
  }
  await etcd.wipe();

  assert.match(await a.refusal(), /holds vPool demo; `wharf vpool recover demo` brings/);
  const config = join(a.folder, 'wharf.yaml');
  const { code, stdout, stderr } = await wharf(
    ...['vpool', 'recover', 'demo', '--config', config, '--json'],
  );
  assert.equal(code, 0, stderr + stdout);
  const { names, volumes, files, losses } = JSON.parse(stdout) as RecoveryReport;
  assert.deepEqual([volumes, files, losses], [2, 1, []]);
  assert.ok(names >= 3);
  await hosts.start();
  for (const name of ['disk.raw', 'clone.raw', '.snapshots/first/disk.raw'])
    assert.ok((await fs.readFile(b.at(name))).equals(content), name);
  assert.equal(await fs.readFile(a.at('note'), 'utf8'), 'of b');
});
