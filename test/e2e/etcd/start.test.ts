/** A daemon whose settings don't fit etcd says in one line which to change, and ends. */

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { SettingsInput } from '../../../src/daemon/settings.ts';
import { Certificates } from '../../support/certificates.ts';
import { Daemon } from '../../support/daemon.ts';
import { EtcdCluster, etcdMissing } from '../../support/etcd.ts';
import { freePorts } from '../../support/servers.ts';

type Etcd = NonNullable<SettingsInput['registry']['etcd']>;

async function refuses(etcd: Etcd, line: RegExp): Promise<void> {
  await using daemon = new Daemon({ registry: { etcd } });
  assert.match(await daemon.refusal(), line);
  assert.deepEqual(readdirSync(daemon.mount), []);
  assert.deepEqual(readdirSync(daemon.folder).includes('store'), false);
}

async function serves(etcd: Etcd): Promise<void> {
  await using daemon = new Daemon({ registry: { etcd } });
  await daemon.start();
}

const options = { skip: etcdMissing, timeout: 120_000 };

test('a daemon and etcd with logins', options, async () => {
  await using cluster = await EtcdCluster.start();
  const { endpoints } = cluster;
  await cluster.call('auth/user/add', { name: 'root', password: 'right' });
  await cluster.call('auth/role/add', { name: 'root' });
  await cluster.call('auth/user/grant', { user: 'root', role: 'root' });
  const login = { user: 'root', password: 'right' };
  await refuses(
    { endpoints, ...login },
    /^wharf: registry\.etcd\.user: found that logins are not switched on at http.*; remove user/,
  );
  await cluster.call('auth/enable', {});
  await refuses(
    { endpoints },
    /^wharf: registry\.etcd\.user: found that a login is wanted at http.*; set user and password/,
  );
  await refuses(
    { endpoints, ...login, password: 'wrong' },
    /^wharf: registry\.etcd\.password: found that the login is refused at http.*; change user or/,
  );
  await serves({ endpoints, ...login });
});

test('a daemon and etcd without TLS, or none', options, async () => {
  await using cluster = await EtcdCluster.start();
  const withTls = cluster.endpoints.map((each) => each.replace('http:', 'https:'));
  await refuses(
    { endpoints: withTls },
    /^wharf: registry\.etcd\.endpoints: found that no TLS is spoken at https.*; write http:/,
  );
  const [closed] = await freePorts(1);
  await refuses(
    { endpoints: [`http://127.0.0.1:${closed}`] },
    /^wharf: registry\.etcd\.endpoints: found that none answers; start etcd or change them/,
  );
});

test('a daemon and etcd with TLS', options, async () => {
  await using made = await Certificates.make('server');
  await using cluster = await EtcdCluster.start('https', [
    ...['--cert-file', made.at('server.crt'), '--key-file', made.at('server.key')],
  ]);
  const { endpoints } = cluster;
  const tls = { ca: made.at('ca.crt') };
  await cluster.untilUp({ ca: made.read('ca.crt') });
  await refuses(
    { endpoints: endpoints.map((each) => each.replace('https:', 'http:')) },
    /^wharf: registry\.etcd\.endpoints: found that plain connections are closed at .*; write https/,
  );
  await refuses(
    { endpoints },
    /^wharf: registry\.etcd\.tls\.ca: found that the certificate can't be verified at .*; change/,
  );
  await refuses(
    { endpoints, tls: { ca: join(made.folder, 'none') } },
    /^wharf: registry\.etcd\.tls\.ca: found "\S+none" \(ENOENT\); allowed is a PEM file$/,
  );
  await refuses(
    { endpoints, tls: { ca: made.at('extension') } },
    /^wharf: registry\.etcd\.tls\.ca: found "\S+", which has no PEM in it; allowed is a PEM file$/,
  );
  await serves({ endpoints, tls });
});
