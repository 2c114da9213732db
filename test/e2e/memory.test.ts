/** Memory is bounded by settings, not by the size of volumes or the number of their blocks. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { MiB } from '../../src/core/units.ts';
import { Daemon } from '../support/daemon.ts';
import { cannotMount, sh } from '../support/playground.ts';

const residentBytesMax = 400 * MiB;
/** Each in a leaf of the map of its own, nearly. */
const blocks = 60_000;

test('a scattered volume of 1 TiB runs in 400 MiB', { skip: cannotMount }, async (t) => {
  await using daemon = new Daemon();
  await daemon.start();
  const path = join(daemon.mount, 'disk.raw');
  const file = await fs.open(path, 'w');
  await file.truncate(2 ** 40);
  await file.close();
  let resident = 0;
  const watch = setInterval(() => {
    void daemon
      .status<{ residentBytes: number }>()
      .then(({ residentBytes }) => (resident = Math.max(resident, residentBytes)))
      .catch(() => {});
  }, 200);
  await sh(
    ...([
      'fio',
      '--verify_state_save=0',
      '--name=scatter',
      `--filename=${path}`,
      '--rw=randwrite',
      '--bs=4k',
    ] as const),
    ...['--direct=1', '--ioengine=io_uring', '--iodepth=32', '--size=1T', '--norandommap'],
    ...['--random_generator=tausworthe64', `--number_ios=${blocks}`],
  );
  const synced = await fetch(`${daemon.admin}/v1/vdisk/sync?path=/disk.raw`, { method: 'POST' });
  assert.equal(synced.status, 200);
  clearInterval(watch);
  t.diagnostic(`${Math.round(resident / MiB)} MiB at most`);
  assert.ok(resident > 0 && resident < residentBytesMax, `${resident} bytes resident`);
});
