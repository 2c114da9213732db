/** What the kernel asks for what programs do, by the daemon's own count: I/O costs no more than it must. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Daemon } from '../support/daemon.ts';
import { cannotMount } from '../support/playground.ts';
import { run } from '../support/servers.ts';

const MiB = 1024 * 1024;

describe('requests of the kernel', { skip: cannotMount }, () => {
  let daemon: Daemon;
  before(async () => {
    daemon = new Daemon({ fuse: { timeout: '1h' } });
    await daemon.start();
    await fs.writeFile(join(daemon.folder, 'input'), Buffer.alloc(16 * MiB, 'wharf'));
    for (const name of ['disk.raw', 'small.bin'])
      await fs.writeFile(daemon.at(name), Buffer.alloc(16 * MiB));
  });
  after(() => daemon[Symbol.asyncDispose]());

  const requests = async () =>
    (await daemon.status<{ requests: Record<string, number> }>()).requests;

  /** How many requests of each kind came while the program ran. */
  async function requestsOf(command: string, ...argv: string[]): Promise<Record<string, number>> {
    const before = await requests();
    await run(command, argv);
    const differences = Object.entries(await requests()).map(([name, count]) => {
      return [name, count - (before[name] ?? 0)] as const;
    });
    return Object.fromEntries(differences.filter(([, count]) => count > 0));
  }

  const write = (name: string, ...argv: string[]) =>
    requestsOf(
      ...(['dd', `if=${join(daemon.folder, 'input')}`] as const),
      `of=${daemon.at(name)}`,
      'conv=notrunc',
      ...argv,
    );
  const read = (name: string, ...argv: string[]) =>
    requestsOf('dd', `if=${daemon.at(name)}`, 'of=/dev/null', ...argv);

  test('a direct write of 1 MiB is one, and so is a read', async () => {
    assert.equal((await write('disk.raw', 'bs=1M', 'oflag=direct'))['write'], 16);
    assert.equal((await read('disk.raw', 'bs=1M', 'count=16', 'iflag=direct'))['read'], 16);
  });

  test('a write brings no questions about attributes, direct or not', async () => {
    for (const [name, ...flags] of [
      ['disk.raw', 'oflag=direct'],
      ['disk.raw'],
      ['disk.raw', 'oflag=append'],
      ['small.bin'],
      ['small.bin', 'oflag=append'],
    ] as const) {
      const requests = await write(name, 'bs=4k', 'count=512', ...flags);
      const { getxattr = 0, getattr = 0, lookup = 0, write: writes } = requests;
      assert.equal(writes, 512, name);
      assert.equal(getxattr, 0, JSON.stringify([name, flags, requests]));
      assert.ok(getattr + lookup <= 8, JSON.stringify([name, flags, requests]));
    }
  });

  test('a small file that nobody changed is read from memory', async () => {
    await read('small.bin', 'bs=1M');
    assert.equal((await read('small.bin', 'bs=1M'))['read'], undefined);
  });
});
