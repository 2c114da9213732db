/** Snapshots as files under `.snapshots`, through the mounts of two hosts. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { MiB } from '../../src/core/units.ts';
import { wharf } from '../support/command.ts';
import { cannotMount, Playground } from '../support/playground.ts';

const run = promisify(execFile);
const sizeBytes = 8 * MiB;

describe('snapshots as files', { skip: cannotMount }, () => {
  const playground = new Playground();
  const at = (host: number, ...path: string[]) =>
    join(playground.hosts[host]?.mount ?? '', ...path);
  const shown = (host: number, ...path: string[]) => at(host, 'vm', '.snapshots', ...path);

  async function snapshot(host: number, ...words: string[]): Promise<void> {
    const admin = playground.hosts[host]?.admin ?? '';
    const { code, stderr } = await wharf('vdisk', 'snapshot', ...words, '--admin', admin);
    assert.equal(code, 0, stderr);
  }

  async function refused(why: RegExp, ...words: string[]): Promise<void> {
    const admin = playground.hosts[0]?.admin ?? '';
    const { code, stderr } = await wharf('vdisk', 'snapshot', ...words, '--admin', admin);
    assert.equal(code, 1, stderr);
    assert.match(stderr, why);
  }

  /** The kernel of a host believes what it has looked up until it is told of a change. */
  async function believes(path: string, what: 'there' | 'gone'): Promise<void> {
    const isThere = () =>
      fs.stat(path).then(
        () => true,
        () => false,
      );
    while ((await isThere()) !== (what === 'there')) await sleep(20);
  }

  /** A disk with holes between. */
  async function write(value: number): Promise<void> {
    const file = await fs
      .open(at(0, 'vm/d.raw'), 'r+')
      .catch(() => fs.open(at(0, 'vm/d.raw'), 'w'));
    await file.truncate(sizeBytes);
    await file.write(Buffer.alloc(MiB, value), 0, MiB, 0);
    await file.write(Buffer.alloc(MiB, value), 0, MiB, 5 * MiB);
    await file.sync();
    await file.close();
  }

  function content(value: number): Buffer {
    const bytes = Buffer.alloc(sizeBytes);
    return bytes.fill(value, 0, MiB).fill(value, 5 * MiB, 6 * MiB);
  }

  before(async () => {
    await playground.start('--hosts', '2');
    await fs.mkdir(at(0, 'vm'));
    await fs.writeFile(at(0, 'vm/note'), 'hello');
  });
  after(() => playground[Symbol.asyncDispose]());

  test('are seen at once where they are made, and in a moment elsewhere', async () => {
    await write(1);
    for (const host of [0, 1])
      await assert.rejects(fs.stat(shown(host, 'one')), { code: 'ENOENT' });
    await snapshot(1, 'create', '/vm/d.raw', 'one');
    await write(2);
    assert.deepEqual(await fs.readdir(shown(1)), ['one']);
    assert.ok((await fs.readFile(shown(1, 'one/d.raw'))).equals(content(1)));
    await believes(shown(0), 'there');
    assert.deepEqual(await fs.readdir(shown(0)), ['one']);
    assert.ok((await fs.readFile(shown(0, 'one/d.raw'))).equals(content(1)));
    assert.equal((await fs.stat(shown(0, 'one/d.raw'))).mode & 0o777, 0o444);
    assert.deepEqual((await fs.readdir(at(0, 'vm'))).sort(), ['d.raw', 'note']);
    const [here, there] = await Promise.all(
      [0, 1].map((host) => fs.stat(shown(host, 'one/d.raw'))),
    );
    assert.equal(here?.ino, there?.ino);
    assert.deepEqual([here?.size, here?.blocks], [sizeBytes, (2 * MiB) / 512]);
  });

  test('are copied, holes and all, found and mapped by the usual tools', async () => {
    const copy = join(playground.folder, 'copy.raw');
    await run('cp', ['--sparse=always', shown(1, 'one/d.raw'), copy]);
    assert.ok((await fs.readFile(copy)).equals(content(1)));
    const { stdout: found } = await run('find', [shown(0), '-type', 'f']);
    assert.equal(found, `${shown(0, 'one/d.raw')}\n`);
    const { stdout: used } = await run('du', ['-sk', shown(0)]);
    assert.match(used, /^2048\t/);
    await run('cp', [shown(0, 'one/d.raw'), at(1, 'vm/d.raw')]);
    assert.ok((await fs.readFile(at(0, 'vm/d.raw'))).equals(content(1)));
    const seek = `
import mmap, os, sys
file = open(sys.argv[1], 'rb')
print(*[os.lseek(file.fileno(), 0, os.SEEK_HOLE), os.lseek(file.fileno(), 2 << 20, os.SEEK_DATA)])
print(mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)[5 << 20])`;
    const { stdout: places } = await run('python3', ['-c', seek, shown(1, 'one/d.raw')]);
    assert.equal(places, `${MiB} ${5 * MiB}\n1\n`);
  });

  test('are written, made, removed and renamed by nobody, root or not', async () => {
    const file = shown(0, 'one/d.raw');
    const readOnly: (() => Promise<unknown>)[] = [
      () => fs.open(file, 'r+'),
      () => fs.open(file, 'w'),
      () => fs.truncate(file, 1),
      () => fs.chmod(file, 0o600),
      () => fs.utimes(file, 1, 1),
      () => fs.unlink(file),
      () => fs.rmdir(shown(0, 'one')),
      () => fs.mkdir(shown(0, 'two')),
      () => fs.writeFile(shown(0, 'one/x'), ''),
      () => fs.link(at(0, 'vm/note'), shown(0, 'one/x')),
      () => fs.rename(file, at(0, 'vm/x')),
      () => fs.rename(at(0, 'vm/note'), shown(0, 'one/x')),
    ];
    for (const change of readOnly) await assert.rejects(change, { code: 'EROFS' }, String(change));
    await assert.rejects(fs.link(file, at(0, 'vm/x')), { code: 'EPERM' });
    await assert.rejects(fs.mkdir(shown(0)), { code: 'EEXIST' });
    await assert.rejects(fs.mkdir(at(0, '.snapshots')), { code: 'EPERM' });
    await assert.rejects(fs.rmdir(shown(0)), { code: 'EPERM' });
    await assert.rejects(fs.rename(shown(0), at(0, 'vm/x')), { code: 'EPERM' });
    await assert.rejects(run('rm', ['-rf', at(1, 'vm')]), /Device or resource busy/);
    assert.ok((await fs.readFile(shown(1, 'one/d.raw'))).equals(content(1)));
    assert.deepEqual(await fs.readdir(at(0, 'vm')), ['d.raw']);
  });

  test('stay where they were made, and stay while somebody reads them', async () => {
    await fs.rename(at(0, 'vm/d.raw'), at(0, 'moved.raw'));
    await assert.rejects(fs.rmdir(at(0, 'vm')), { code: 'ENOTEMPTY' });
    await snapshot(0, 'create', '/moved.raw', 'two');
    assert.deepEqual(await fs.readdir(at(0, '.snapshots/two')), ['moved.raw']);
    const reader = await fs.open(shown(1, 'one/d.raw'));
    try {
      await refused(/\/moved\.raw@one is open/, 'delete', '/moved.raw', 'one', '--yes');
      assert.ok((await reader.readFile()).equals(content(1)));
    } finally {
      await reader.close();
    }
    await snapshot(0, 'rollback', '/moved.raw', 'one', '--yes');
    const [before = ''] = (await fs.readdir(at(1, '.snapshots'))).filter((name) => name !== 'two');
    assert.match(before, /^before-rollback-/);
    assert.ok((await fs.readFile(at(1, '.snapshots', before, 'moved.raw'))).equals(content(1)));
  });

  test('go when they are given up, and then their folder may', async () => {
    await snapshot(0, 'delete', '/moved.raw', 'one', '--yes');
    await assert.rejects(fs.stat(shown(0)), { code: 'ENOENT' });
    await fs.rmdir(at(0, 'vm'));
    await believes(at(1, 'vm'), 'gone');
  });
});
