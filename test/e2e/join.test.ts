/** A host that does not fit those that are there says why, and is not there. */

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { SettingsInput } from '../../src/daemon/settings.ts';
import { Daemon } from '../support/daemon.ts';

const key = '5e'.repeat(32);

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
    [{ peers: {} }, /^wharf: peers\.key: found another key than host a /],
    [
      { lease: { time: '9s' } },
      /^wharf: lease\.time: found "9s" where host a \(\S+\) has "6s"; allowed is the same on all/,
    ],
    [{ lease: { margin: '2s' } }, /^wharf: lease\.margin: found "2s" where host a /],
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
    const { hosts } = await a.wharf<{ hosts: readonly { id: string }[] }>('host', 'list');
    assert.deepEqual(
      hosts.map(({ id }) => id),
      ['a'],
    );
  }
  await using b = new Daemon({
    ...common,
    files: { volumeNames: ['*.qcow2', '*.raw', '*.img', '*-flat.vmdk'] },
  });
  await b.start();
});
