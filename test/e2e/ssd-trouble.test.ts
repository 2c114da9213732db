/** What a VM meets when the SSD is full, or when what lies on SSD or object store is damaged. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KiB, MiB } from '../../src/core/units.ts';
import { Daemon } from '../support/daemon.ts';
import { cannotMount, sh } from '../support/playground.ts';

interface Status {
  readonly waiting: readonly string[];
  readonly alarms: readonly string[];
}

const blockBytes = 4 * KiB;
const blocks = 1024;
const block = (index: number) => {
  const bytes = Buffer.alloc(blockBytes, index & 0xff);
  bytes.writeUInt32LE(index + 1, 0);
  return bytes;
};
const content = () => Buffer.concat(Array.from({ length: blocks }, (_, index) => block(index)));

const sync = (daemon: Daemon) =>
  fetch(`${daemon.admin}/v1/vdisk/sync?path=/disk.raw`, { method: 'POST' });

/** Blocks that can't be read, or are not what was written. */
async function damagedBlocks(path: string): Promise<{ failed: number[]; wrong: number[] }> {
  const file = await fs.open(path);
  const found = Buffer.alloc(blockBytes);
  const failed: number[] = [];
  const wrong: number[] = [];
  for (let index = 0; index < blocks; index += 1)
    try {
      await file.read(found, 0, blockBytes, index * blockBytes);
      if (!found.equals(block(index))) wrong.push(index);
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'EIO');
      failed.push(index);
    }
  await file.close();
  return { failed, wrong };
}

async function filesIn(folder: string, ending: string): Promise<string[]> {
  const names = await fs.readdir(folder, { recursive: true });
  return names.filter((name) => name.includes(ending)).map((name) => join(folder, name));
}

describe('storage in trouble', { skip: cannotMount }, () => {
  test('a full SSD makes writers wait, and corrupts nothing', async () => {
    await using daemon = new Daemon({
      volumes: { journalFile: '4MiB', journalMax: '64MiB', destageDelay: '60s', cut: '64MiB' },
      cache: { size: '1MiB' },
    });
    await fs.mkdir(daemon.data);
    await sh('mount', '-t', 'tmpfs', '-o', 'size=24m', 'wharf-test', daemon.data);
    try {
      await daemon.start();
      const path = join(daemon.mount, 'disk.raw');
      const file = await fs.open(path, 'w');
      let written = 0;
      const chunk = (index: number) => Buffer.alloc(MiB, index + 1);
      const writer = (async () => {
        for (; written < 32; written += 1) await file.write(chunk(written), 0, MiB, written * MiB);
      })();
      for (;;) {
        const { waiting } = await daemon.status<Status>();
        if (waiting.includes('disk full')) break;
        await sleep(50);
      }
      assert.ok(written > 0 && written < 32);
      await sh('mount', '-o', 'remount,size=128m', daemon.data);
      await writer;
      await file.datasync();
      await file.close();
      await daemon.end('SIGKILL');
      await daemon.start();
      const found = await fs.readFile(path);
      for (let index = 0; index < 32; index += 1)
        assert.ok(found.subarray(index * MiB, (index + 1) * MiB).equals(chunk(index)));
    } finally {
      await daemon.end('SIGKILL');
      await sh('umount', daemon.data);
    }
  });

  test('a damaged cache is a miss', async () => {
    await using daemon = new Daemon();
    await daemon.start();
    const path = join(daemon.mount, 'disk.raw');
    await fs.writeFile(path, content());
    assert.equal((await sync(daemon)).status, 200);
    assert.equal(await daemon.end('SIGTERM'), 0);
    const [cached] = await filesIn(daemon.data, 'cache.data');
    const file = await fs.open(cached as string, 'r+');
    const { size } = await file.stat();
    for (let at = 100; at < size; at += 64 * KiB) await file.write(Buffer.from('damage'), 0, 6, at);
    await file.close();
    await daemon.start();
    assert.deepEqual(await damagedBlocks(path), { failed: [], wrong: [] });
    assert.equal(await daemon.end('SIGTERM'), 0);
    for (const name of await filesIn(daemon.data, 'cache.')) await fs.rm(name);
    await daemon.start();
    assert.deepEqual(await damagedBlocks(path), { failed: [], wrong: [] });
    assert.deepEqual((await daemon.status<Status>()).alarms, []);
  });

  for (const damage of ['flipped', 'missing'] as const)
    test(`a ${damage} segment gives EIO for its blocks alone, and an alarm`, async () => {
      await using daemon = new Daemon({ volumes: { segment: '64KiB' } });
      await daemon.start();
      const path = join(daemon.mount, 'disk.raw');
      await fs.writeFile(path, content());
      assert.equal((await sync(daemon)).status, 200);
      assert.equal(await daemon.end('SIGTERM'), 0);
      await fs.rm(join(daemon.data, 'cache'), { recursive: true });
      const victim = 300;
      let hit = 0;
      for (const name of await filesIn(daemon.store, 'segment/')) {
        const bytes = await fs.readFile(name).catch(() => Buffer.alloc(0));
        const at = bytes.indexOf(block(victim));
        if (at === -1) continue;
        hit += 1;
        if (damage === 'missing') await fs.rm(name);
        else await fs.writeFile(name, bytes.fill(0xee, at + 50, at + 60));
      }
      assert.equal(hit, 1);
      await daemon.start();
      const { failed, wrong } = await damagedBlocks(path);
      assert.deepEqual(wrong, []);
      assert.ok(failed.includes(victim));
      if (damage === 'flipped') assert.deepEqual(failed, [victim]);
      else assert.ok(failed.length <= 16, `${failed.length} blocks`);
      assert.match((await daemon.status<Status>()).alarms.join(), /damaged data was met/);
      // Writing heals.
      const file = await fs.open(path, 'r+');
      for (const index of failed) await file.write(block(index), 0, blockBytes, index * blockBytes);
      await file.sync();
      await file.close();
      assert.deepEqual(await damagedBlocks(path), { failed: [], wrong: [] });
    });
});
