/** The life of a vDisk by the command: made, resized, renamed and deleted, on whichever host. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { GiB, MiB } from '../../src/core/units.ts';
import type { VdiskReport } from '../../src/daemon/endpoints.ts';
import { wharf, wharfFile } from '../support/command.ts';
import { cannotMount, Playground } from '../support/playground.ts';

describe('the life of a vDisk', { skip: cannotMount }, () => {
  const playground = new Playground();
  const at = (host: number, name: string) => join(playground.hosts[host]?.mount ?? '', name);
  const admin = (host: number) => playground.hosts[host]?.admin ?? '';

  /** What the command prints as JSON, asked of one host. */
  async function done<T = VdiskReport>(host: number, ...words: string[]): Promise<T> {
    const { code, stdout, stderr } = await wharf(
      ...['vdisk', ...words, '--json', '--admin', admin(host)],
    );
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as T;
  }

  /** One line that says why. */
  async function refused(code: number, why: RegExp, ...words: string[]): Promise<void> {
    const ended = await wharf('vdisk', ...words, '--admin', admin(0));
    assert.deepEqual([ended.code, ended.stdout], [code, ''], ended.stderr);
    assert.match(ended.stderr, why);
    assert.equal(ended.stderr.trim().split('\n').length, 1, ended.stderr);
  }

  before(async () => {
    await playground.start('--hosts', '2');
    await fs.mkdir(at(0, 'vm1'));
    await fs.writeFile(at(0, 'note.txt'), 'hello');
  });
  after(() => playground[Symbol.asyncDispose]());

  test('begins thin, whatever its name, and every mount sees it at once', async () => {
    await assert.rejects(fs.stat(at(0, 'vm1/new.disk')), { code: 'ENOENT' });
    const made = await done(0, 'create', '/vm1/new.disk', '--size', '20G');
    assert.deepEqual(
      [made.path, made.sizeBytes, made.usedBytes, made.owner],
      ['/vm1/new.disk', 20 * GiB, 0, 'a'],
    );
    assert.equal((await fs.stat(at(0, 'vm1/new.disk'))).size, 20 * GiB);
    assert.equal((await fs.stat(at(1, 'vm1/new.disk'))).size, 20 * GiB);
    assert.equal((await fs.stat(at(0, 'vm1/new.disk'))).blocks, 0);
    const onMount = await done(1, 'create', at(1, 'vm1/512.raw'), '--size', '512MiB');
    assert.deepEqual([onMount.path, onMount.sizeBytes], ['/vm1/512.raw', 512 * MiB]);
    const named = await done(0, 'create', 'demo:/named.img', '--size', '1.5GiB');
    assert.deepEqual([named.path, named.sizeBytes], ['/named.img', 1.5 * GiB]);
  });

  test('does not begin under a name, or with a size, that makes no sense', async () => {
    const create = (path: string, size = '1G') => ['create', path, '--size', size];
    await refused(1, /\/note\.txt exists already/, ...create('/note.txt'));
    await refused(1, /\/vm1 exists already/, ...create('/vm1'));
    await refused(3, /\/vm2: no such/, ...create('/vm2/disk.raw'));
    await refused(1, /\/note\.txt is not a folder/, ...create('/note.txt/disk.raw'));
    await refused(2, /lies in no vPool/, ...create('disk.raw'));
    await refused(3, /no vPool other here/, ...create('other:/disk.raw'));
    for (const path of ['/', '/vm1/', '/vm1/..', '/vm1/../x.raw', '/./x.raw'])
      await refused(1, /is no name in the vPool/, ...create(path));
    await refused(1, /255 bytes/, ...create(`/${'x'.repeat(256)}`));
    for (const size of ['0', '20', '1000', '1.1KiB'])
      await refused(1, /makes no sense/, ...create('/x.raw', size));
    for (const size of ['', 'big', '-1G', '20Q', '20G20'])
      await refused(2, /--size: found/, 'create', '/x.raw', `--size=${size}`);
    await refused(1, /at most 64 TiB/, ...create('/x.raw', '65T'));
    await refused(2, /required option '--size/, 'create', '/x.raw');
    await assert.rejects(fs.stat(at(0, 'x.raw')), { code: 'ENOENT' });
  });

  test('grows online, whoever owns it, and shrinks only by force', async () => {
    await done(0, 'create', '/grow.raw', '--size', '8M');
    const user = await fs.open(at(0, 'grow.raw'), 'r+');
    try {
      await user.write(Buffer.alloc(MiB, 1), 0, MiB, 7 * MiB);
      const grown = await done(1, 'resize', '/grow.raw', '--size', '16M');
      assert.deepEqual([grown.sizeBytes, grown.owner], [16 * MiB, 'a']);
      assert.equal((await fs.stat(at(0, 'grow.raw'))).size, 16 * MiB);
      assert.equal((await user.stat()).size, 16 * MiB);
      await user.write(Buffer.alloc(MiB, 2), 0, MiB, 15 * MiB);
      await refused(
        1,
        /loses what lies behind, 1048576 bytes of data; --force/,
        'resize',
        '/grow.raw',
        '--size',
        '12M',
      );
      assert.equal((await fs.stat(at(0, 'grow.raw'))).size, 16 * MiB);
      type Resized = VdiskReport & { lostBytes: number };
      const shrunk = await done<Resized>(1, 'resize', '/grow.raw', '--size', '12M', '--force');
      assert.deepEqual([shrunk.sizeBytes, shrunk.lostBytes], [12 * MiB, MiB]);
      assert.equal((await fs.stat(at(0, 'grow.raw'))).size, 12 * MiB);
      assert.equal((await done<Resized>(0, 'resize', '/grow.raw', '--size', '16M')).lostBytes, 0);
      const { buffer } = await user.read(Buffer.alloc(MiB, 9), 0, MiB, 15 * MiB);
      assert.ok(buffer.equals(Buffer.alloc(MiB)));
      await user.read(buffer, 0, MiB, 7 * MiB);
      assert.ok(buffer.equals(Buffer.alloc(MiB, 1)));
    } finally {
      await user.close();
    }
    await refused(1, /is not a vDisk/, 'resize', '/note.txt', '--size', '1G');
    await refused(3, /no such vDisk/, 'resize', '/nothing.raw', '--size', '1G');
    await refused(1, /makes no sense/, 'resize', '/grow.raw', '--size', '0');
  });

  test('has another name at once on every mount, and never that of something else', async () => {
    await done(0, 'create', '/old.raw', '--size', '1M');
    await fs.writeFile(at(0, 'old.raw'), 'content', { flag: 'r+' });
    await assert.rejects(fs.stat(at(0, 'vm1/new name')), { code: 'ENOENT' });
    await refused(1, /\/note\.txt exists already/, 'rename', '/old.raw', '/note.txt');
    await refused(3, /\/vm2: no such/, 'rename', '/old.raw', '/vm2/new.raw');
    await refused(2, /lies in no vPool/, 'rename', '/old.raw', 'new.raw');
    await refused(1, /is not a vDisk/, 'rename', '/note.txt', '/other.txt');
    await refused(1, /is not a vDisk/, 'rename', '/vm1', '/vm3');
    type Renamed = VdiskReport & { renamedFrom: string };
    const renamed = await done<Renamed>(0, 'rename', '/old.raw', '/vm1/new name');
    assert.deepEqual([renamed.path, renamed.renamedFrom], ['/vm1/new name', '/old.raw']);
    await assert.rejects(fs.stat(at(0, 'old.raw')), { code: 'ENOENT' });
    assert.equal((await fs.readFile(at(0, 'vm1/new name'))).toString('latin1', 0, 7), 'content');
    assert.equal((await done(1, 'show', '/vm1/new name')).sizeBytes, MiB);
  });

  test('ends when somebody says so, and says who still uses it', async () => {
    await done(0, 'create', '/gone.raw', '--size', '1M');
    await refused(
      2,
      /\/gone\.raw \(1\.0 MiB, 0 B used\) is not deleted without --yes/,
      'delete',
      '/gone.raw',
    );
    const user = await fs.open(at(1, 'gone.raw'), 'r+');
    try {
      await refused(2, /OPEN on some host/, 'delete', '/gone.raw');
      assert.equal((await done(0, 'show', '/gone.raw')).isInUse, true);
      const deleted = await done<object>(0, 'delete', '/gone.raw', '--yes');
      assert.deepEqual(deleted, { path: '/gone.raw', wasInUse: true });
      await assert.rejects(fs.stat(at(0, 'gone.raw')), { code: 'ENOENT' });
      assert.equal((await user.write(Buffer.alloc(4096, 1), 0, 4096, 0)).bytesWritten, 4096);
    } finally {
      await user.close();
    }
    await refused(3, /no such vDisk/, 'delete', '/gone.raw', '--yes');
    await refused(1, /is not a vDisk/, 'delete', '/note.txt', '--yes');
    await done(0, 'create', '/gone.raw', '--size', '2M');
    assert.equal((await done(0, 'show', '/gone.raw')).usedBytes, 0);
  });

  test('is asked for on a terminal before it ends', async () => {
    await done(0, 'create', '/asked.raw', '--size', '1M');
    const answer = async (text: string) => {
      const words = [process.execPath, wharfFile, 'vdisk', 'delete', '/asked.raw'];
      const line = [...words, '--admin', admin(0)].join(' ');
      const child = spawn('script', ['-qec', line, '/dev/null']);
      let shown = '';
      child.stdout.on('data', (chunk: Buffer) => {
        if (!shown.includes('[y/N]') && chunk.includes('[y/N]')) child.stdin.write(`${text}\n`);
        shown += chunk.toString();
      });
      const code = await new Promise((resolve) => child.on('close', resolve));
      return { code, shown };
    };
    const kept = await answer('no');
    assert.deepEqual([kept.code, /is not deleted/.test(kept.shown)], [1, true], kept.shown);
    assert.equal((await fs.stat(at(0, 'asked.raw'))).size, MiB);
    assert.equal((await answer('y')).code, 0);
    await assert.rejects(fs.stat(at(0, 'asked.raw')), { code: 'ENOENT' });
  });
});
