/** A host that does not fit those that are there says why, and is not there. */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { MiB } from '../../src/core/units.ts';
import type { SettingsInput } from '../../src/daemon/settings.ts';
import { Certificates } from '../support/certificates.ts';
import { Daemon } from '../support/daemon.ts';

const key = '5e'.repeat(32);

const made = await Certificates.make('a', 'b');
after(() => made[Symbol.asyncDispose]());
const tlsOf = (name: string) => ({
  ...{ cert: made.at(`${name}.crt`), key: made.at(`${name}.key`), ca: made.at('ca.crt') },
});

test('a host with other settings than its peers ends with one line, and leaves nothing', async () => {
  await using a = new Daemon({ peers: { key } });
  await a.start();
  const common = {
    host: 'b',
    registry: { sqlite: join(a.folder, 'registry.sqlite') },
    backend: { kind: 'dir', path: a.store },
    peers: { key },
  } as const;
  const cases: readonly (readonly [Partial<SettingsInput>, RegExp])[] = [
    [
      { peers: { key: '6f'.repeat(32) } },
      /^wharf: peers\.key: found another key than host a \(127\.0\.0\.1:\d+\) has; allowed is the/,
    ],
    [
      { peers: { key, tls: tlsOf('b') } },
      /^wharf: peers\.tls: found "some" where host a \(\S+\) has "none"; allowed is the same on all/,
    ],
    [
      { peers: { key, tls: { ...tlsOf('b'), key: made.at('a.key') } } },
      /^wharf: peers\.tls: found what is no certificate, or not its key; allowed are PEM files/,
    ],
    [
      { peers: { key, tls: { ...tlsOf('b'), ca: '/none' } } },
      /^wharf: peers\.tls\.ca: found "\/none" \(ENOENT\); allowed is a PEM file$/,
    ],
    [{ peers: {} }, /^wharf: peers\.key: found another key than host a /],
    [
      { lease: { time: '9s' } },
      /^wharf: lease\.time: found "9s" where host a \(\S+\) has "6s"; allowed is the same on all/,
    ],
    [
      { backend: { ...common.backend, path: `${a.store}2` } },
      /^wharf: backend\.path: found "\S+2" where host a \(\S+\) has "\S+store";/,
    ],
    [
      { backend: { ...common.backend, layout: 'prefix' } },
      /^wharf: backend\.layout: found "prefix" where host a /,
    ],
    [
      { files: { volumeNames: ['*.raw'] } },
      /^wharf: files\.volumeNames: found \["\*\.raw"\] where host a /,
    ],
  ];
  for (const [change, line] of cases) {
    await using b = new Daemon({ ...common, ...change });
    assert.match(await b.refusal(), line);
    assert.deepEqual(readdirSync(b.mount), []);
  }
  const { hosts } = await a.wharf<{ hosts: readonly { id: string }[] }>('host', 'list');
  assert.deepEqual(
    hosts.map(({ id }) => id),
    ['a'],
  );
  await using b = new Daemon({
    ...common,
    files: { volumeNames: ['*.qcow2', '*.raw', '*.img', '*-flat.vmdk'] },
  });
  await b.start();
});

test('two hosts drive one disk over TLS', async () => {
  await using a = new Daemon({ peers: { key, tls: tlsOf('a') } });
  await a.start();
  await using b = new Daemon({
    host: 'b',
    registry: { sqlite: join(a.folder, 'registry.sqlite') },
    backend: { kind: 'dir', path: a.store },
    peers: { key, tls: tlsOf('b') },
  });
  await b.start();
  const bytes = randomBytes(8 * MiB);
  await writeFile(a.at('disk.raw'), bytes);
  assert.ok(bytes.equals(await readFile(b.at('disk.raw'))));
  const show = () => b.wharf<{ owner: string }>('vdisk', 'show', '/disk.raw');
  await b.wharf('vdisk', 'move', '/disk.raw', '--to', 'b');
  assert.equal((await show()).owner, 'b');
  assert.ok(bytes.equals(await readFile(a.at('disk.raw'))));
});
