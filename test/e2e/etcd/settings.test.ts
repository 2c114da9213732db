/** Settings that can't work are told at once, with the one to change. */

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { describeError, isStorageError } from '../../../src/core/errors.ts';
import { systemClock } from '../../../src/platform/system-clock.ts';
import { EtcdRegistry } from '../../../src/registry/etcd-registry.ts';
import { Certificates } from '../../support/certificates.ts';
import { EtcdCluster, etcdMissing } from '../../support/etcd.ts';
import { freePorts } from '../../support/servers.ts';

type Settings = Parameters<typeof EtcdRegistry.open>[0];

const clock = systemClock(undefined);
const secret = { user: 'wharf', password: 'right' };

async function opens(settings: Settings): Promise<void> {
  const registry = await EtcdRegistry.open(settings, clock);
  const outcome = await registry.transact({
    compares: [],
    writes: [{ key: 'ka', put: new Uint8Array(1) }],
  });
  assert.ok(outcome.committed);
  await registry.close();
}

const refuses = (settings: Settings, text: RegExp) =>
  assert.rejects(EtcdRegistry.open(settings, clock), (error) => {
    assert.ok(isStorageError(error, 'invalid'), String(error));
    assert.match(error.message, text);
    assert.doesNotMatch(describeError(error), /\n/);
    return true;
  });

test('a registry in etcd refuses settings that contradict each other', async () => {
  const endpoints = ['http://127.0.0.1:2379'];
  const tls = { ca: Buffer.from('') };
  await refuses(
    { endpoints: [] },
    /^registry\.etcd\.endpoints: found none; allowed is one or more$/,
  );
  await refuses(
    { endpoints: ['127.0.0.1:2379'] },
    /endpoints: found "127.0.0.1:2379"; allowed is http/,
  );
  await refuses(
    { endpoints: [...endpoints, 'https://127.0.0.1:2380'] },
    /endpoints: found both http/,
  );
  await refuses({ endpoints, tls }, /\.tls: found it beside endpoints with http:/);
  const half = { endpoints: ['https://127.0.0.1:2379'], tls: { ...tls, key: Buffer.from('') } };
  await refuses(half, /\.tls: found one of cert and key; allowed is both or none$/);
  const unreadable = { ca: tls.ca, key: Buffer.from('no key'), cert: Buffer.from('no more') };
  await refuses(
    { endpoints: half.endpoints, tls: unreadable },
    /\.tls: found what is no certificate/,
  );
});

test('a registry in etcd tells what is no etcd from what does not answer', async () => {
  const server = createServer((_, response) => response.end('hello'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    await refuses(
      { endpoints: [`http://127.0.0.1:${port}`] },
      /endpoints: found that no etcd answers at http/,
    );
  } finally {
    server.close();
  }
  const [closed] = await freePorts(1);
  await assert.rejects(
    EtcdRegistry.open({ endpoints: [`http://127.0.0.1:${closed}`] }, clock),
    (error) => {
      assert.ok(isStorageError(error, 'unavailable'));
      assert.match(error.message, /^registry\.etcd\.endpoints: found that none answers/);
      return true;
    },
  );
});

if (etcdMissing) test('etcd refuses a wrong login and wrong TLS', { skip: etcdMissing }, () => {});
else {
  describe('etcd with logins', { timeout: 120_000 }, () => {
    let cluster: EtcdCluster;
    before(async () => {
      cluster = await EtcdCluster.start();
      const range = (text: string) => Buffer.from(text).toString('base64');
      const perm = { permType: 'READWRITE', key: range('wharf/'), range_end: range('wharf0') };
      await cluster.call('auth/role/add', { name: 'root' });
      await cluster.call('auth/role/add', { name: 'wharf' });
      await cluster.call('auth/role/grant', { name: 'wharf', perm });
      for (const [name, password, role] of [
        ['root', 'r', 'root'],
        ['wharf', 'right', 'wharf'],
        ['other', 'o', undefined],
      ] as const) {
        await cluster.call('auth/user/add', { name, password });
        if (role) await cluster.call('auth/user/grant', { user: name, role });
      }
    });
    after(() => cluster[Symbol.asyncDispose]());

    test('says whether a login is wanted, and right', async () => {
      const { endpoints } = cluster;
      await opens({ endpoints });
      await refuses(
        { endpoints, login: secret },
        /^registry\.etcd\.user: .*; remove user and password/,
      );
      await cluster.call('auth/enable', {});
      await refuses({ endpoints }, /^registry\.etcd\.user: .*; set user and password/);
      await refuses(
        { endpoints, login: { ...secret, password: 'wrong' } },
        /^registry\.etcd\.password: .*; change user or password/,
      );
      await refuses(
        { endpoints, login: { user: 'other', password: 'o' } },
        /^registry\.etcd\.user: .*, or change user$/,
      );
      await opens({ endpoints, login: secret });
    });

    test('leases and watches behind a login, also when members have forgotten it', async () => {
      const { endpoints } = cluster;
      const registry = await EtcdRegistry.open({ endpoints, login: secret }, clock);
      const lease = await registry.grantLease(10_000);
      const writes = [{ key: 'kb', put: new Uint8Array(1), lease: lease.id }];
      const outcome = await registry.transact({ compares: [], writes });
      assert.ok(outcome.committed);
      const from = outcome.revision - 1;
      const first = registry.watch({ from: 'kb', to: 'kc' }, from)[Symbol.asyncIterator]();
      assert.equal((await first.next()).value?.[0]?.revision, outcome.revision);
      await first.return?.(undefined as never);
      // Logins are kept in the members' memory.
      await cluster.stopAll();
      await cluster.startAll();
      for (let found; !found; )
        found = await registry.get('kb').catch((error: unknown) => {
          if (!isStorageError(error, 'unavailable')) throw error;
        });
      await lease.release();
      assert.equal(await registry.get('kb'), undefined);
      await registry.close();
    });
  });

  describe('etcd with TLS', { timeout: 120_000 }, () => {
    let made: Certificates;
    let cluster: EtcdCluster;
    before(async () => {
      made = await Certificates.make('server', 'host');
      await made.makeCa('another-ca');
      await made.makeCertificate('stranger', 'another-ca');
      cluster = await EtcdCluster.start('https', [
        ...['--client-cert-auth', '--trusted-ca-file', made.at('ca.crt')],
        ...['--cert-file', made.at('server.crt'), '--key-file', made.at('server.key')],
      ]);
    });
    after(async () => {
      await cluster[Symbol.asyncDispose]();
      await made[Symbol.asyncDispose]();
    });

    test('says which certificate is wrong', async () => {
      const { endpoints } = cluster;
      const host = { cert: made.read('host.crt'), key: made.read('host.key') };
      const tls = { ca: made.read('ca.crt'), ...host };
      await cluster.untilUp(tls);
      await opens({ endpoints, tls });
      const wrongCa = { ...tls, ca: made.read('another-ca.crt') };
      await refuses({ endpoints, tls: wrongCa }, /^registry\.etcd\.tls\.ca: .*; change tls\.ca$/);
      await refuses(
        { endpoints, tls: { ca: tls.ca } },
        /^registry\.etcd\.tls\.cert: .*; change tls\.cert and tls\.key$/,
      );
      const stranger = { cert: made.read('stranger.crt'), key: made.read('stranger.key') };
      await refuses({ endpoints, tls: { ...tls, ...stranger } }, /^registry\.etcd\.tls\.cert: /);
      const named = endpoints.map((each) => each.replace('127.0.0.1', 'localhost'));
      await refuses(
        { endpoints: named, tls },
        /endpoints: found that the certificate is for another name/,
      );
      const plain = endpoints.map((each) => each.replace('https', 'http'));
      await refuses({ endpoints: plain }, /^registry\.etcd\.endpoints: .*; write https:/);
    });
  });

  test('etcd without TLS is not taken for one with it', async () => {
    await using cluster = await EtcdCluster.start();
    const endpoints = cluster.endpoints.map((each) => each.replace('http', 'https'));
    await refuses(
      { endpoints },
      /^registry\.etcd\.endpoints: found that no TLS is spoken at https:.*; write http:/,
    );
  });
}
