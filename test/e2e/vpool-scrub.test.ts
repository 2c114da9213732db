/** `wharf vpool scrub` as a user gives it, on a store in a folder in which something is damaged. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { MiB } from '../../src/core/units.ts';
import type { ScrubFindings } from '../../src/daemon/scrub.ts';
import { wharf, wharfFile } from '../support/command.ts';
import { cannotMount, Playground } from '../support/playground.ts';

describe('wharf vpool scrub', { skip: cannotMount }, () => {
  const playground = new Playground();
  const admin = () => playground.hosts[0]?.admin ?? '';
  const scrub = (...words: string[]) =>
    wharf('vpool', 'scrub', 'demo', ...words, '--admin', admin());

  /** All blobs of the store, the largest last. */
  async function blobs(): Promise<{ path: string; bytes: number }[]> {
    const names = await fs.readdir(playground.store, { recursive: true });
    const found = await Promise.all(
      names.map(async (name) => {
        const path = join(playground.store, name);
        const stat = await fs.stat(path);
        return stat.isFile() ? [{ path, bytes: stat.size }] : [];
      }),
    );
    return found.flat().sort((left, right) => left.bytes - right.bytes);
  }

  before(async () => {
    await playground.start('--hosts', '2');
    const disk = await fs.open(join(playground.mount, 'd.raw'), 'w');
    await disk.write(Buffer.alloc(5 * MiB, 'wharf'), 0, 5 * MiB, 0);
    await disk.close();
    await fs.writeFile(join(playground.mount, 'note.txt'), 'hello');
    const ended = await wharf('vdisk', 'sync', '/d.raw', '--admin', admin());
    assert.equal(ended.code, 0, ended.stderr);
  });
  after(() => playground[Symbol.asyncDispose]());

  test('says that all is well, and what it has read', async () => {
    const { code, stdout, stderr } = await scrub();
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(stdout, /^demo: no damage; 5\.\d MiB read in .+\n$/);
    const json = await scrub('--json', '--repair');
    const { damage, waste, findings, state } = JSON.parse(json.stdout) as ScrubFindings;
    assert.deepEqual([damage, waste, findings, state], [0, 0, [], 'done']);
    const status = await wharf('status', '--admin', admin());
    assert.match(status.stdout, /^scrub +done: 5\.\d MiB read, .+\/s, 0 damaged$/m);
  });

  test('refuses another vPool, and a rate that is none', async () => {
    const other = await wharf('vpool', 'scrub', 'attic', '--admin', admin());
    assert.deepEqual([other.code, other.stdout], [3, '']);
    assert.match(other.stderr, /^wharf: no vPool attic here; this is demo\n$/);
    assert.equal((await scrub('--rate', 'fast')).code, 2);
    assert.equal((await scrub('--rate', '1')).code, 1);
  });

  test('ends at Ctrl-C, and leaves the next one room', async () => {
    const argv = [wharfFile, 'vpool', 'scrub', 'demo', '--rate', '64KiB', '--admin', admin()];
    const child = spawn(process.execPath, argv, { stdio: 'ignore' });
    const closed = once(child, 'close');
    for (let state = ''; state !== 'running'; ) {
      const status = await wharf('status', '--json', '--admin', admin());
      state = (JSON.parse(status.stdout) as { scrub: { state: string } }).scrub.state;
    }
    const second = await scrub();
    assert.equal(second.code, 1);
    assert.match(second.stderr, /^wharf: a scrub of the vPool goes on here already\n$/);
    child.kill('SIGINT');
    assert.deepEqual(await closed, [1, null]);
    assert.equal((await scrub()).code, 0);
  });

  test('tells which bytes of a disk are damaged, and exits with 6', async () => {
    const segment = (await blobs()).at(-1) as { path: string };
    const file = await fs.open(segment.path, 'r+');
    const byte = Buffer.alloc(1);
    const at = 100_000;
    await file.read(byte, 0, 1, at);
    await file.write(Buffer.of((byte[0] as number) ^ 1), 0, 1, at);
    await file.close();
    const { code, stdout, stderr } = await scrub('--repair');
    assert.equal(code, 6, stderr);
    assert.match(
      stdout,
      /^damage: \/d\.raw: segment\/\S+ has damaged blocks\n {2}bytes \d+\+4096\n/,
    );
    assert.match(stderr, /^wharf: demo is damaged: 1 finding to look at\n$/);
    const offset = Number(/bytes (\d+)\+4096/.exec(stdout)?.[1]);
    const disk = await fs.open(join(playground.mount, 'd.raw'), 'r+');
    await disk.write(Buffer.alloc(4096, 'wharf'), 0, 4096, offset);
    await disk.close();
    assert.equal((await wharf('vdisk', 'sync', '/d.raw', '--admin', admin())).code, 0);
    const healed = await scrub();
    assert.equal(healed.code, 0, healed.stdout);
  });

  test('deletes an orphan when it is told to', async () => {
    const [some] = (await blobs()).filter(({ path }) => path.includes('/file/'));
    const { path } = some as { path: string };
    const orphan = path.replace(/file\/[0-9a-f]{32}\//, `file/${'f'.repeat(32)}/`);
    await fs.mkdir(join(orphan, '..'), { recursive: true });
    await fs.copyFile(path, orphan);
    const looked = await scrub();
    assert.equal(looked.code, 0, looked.stderr);
    assert.match(looked.stdout, /^waste: 1 pieces that no file names/);
    assert.match(looked.stdout, /1 that nobody needs \(--repair deletes it\)/);
    assert.match((await scrub('--repair')).stdout, /^repaired: 1 pieces that no file names/);
    await assert.rejects(fs.stat(orphan), { code: 'ENOENT' });
    assert.equal(await fs.readFile(join(playground.mount, 'note.txt'), 'utf8'), 'hello');
  });
});
