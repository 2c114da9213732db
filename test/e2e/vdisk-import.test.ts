/** Images into and out of a vPool: content and holes survive, and nothing is left half-made. */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { KiB, MiB } from '../../src/core/units.ts';
import type { VdiskReport } from '../../src/daemon/endpoints.ts';
import { wharf, wharfFile } from '../support/command.ts';
import { cannotMount, Playground, sh } from '../support/playground.ts';

const noQemu = spawnSync('qemu-img', ['--version']).status === 0 ? false : 'no qemu-img';

describe('images', { skip: cannotMount }, () => {
  const playground = new Playground();
  const at = (name: string) => join(playground.mount, name);
  const file = (name: string) => join(playground.folder, name);
  let given: string[] = [];

  before(async () => {
    given = ['--admin', (await playground.start()).admin];
    await fs.mkdir(at('vm1'));
    await makeSparse(file('sparse.raw'));
  });
  after(() => playground[Symbol.asyncDispose]());

  /** 64 MiB and a bit, of which 3 MiB and 5 bytes are data, and 1 MiB is written zeroes. */
  async function makeSparse(path: string): Promise<void> {
    const made = await fs.open(path, 'w');
    const put = (offset: number, bytes: Buffer) => made.write(bytes, 0, bytes.length, offset);
    await put(0, Buffer.alloc(MiB, 1));
    await put(20 * MiB + 4 * KiB, Buffer.alloc(2 * MiB, 2));
    await put(40 * MiB, Buffer.alloc(MiB));
    await put(60 * MiB + 1, Buffer.from('alone'));
    await made.truncate(64 * MiB + 3 * 512);
    await made.close();
  }

  async function digest(path: string): Promise<string> {
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
    return hash.digest('hex');
  }

  async function same(one: string, other: string): Promise<void> {
    assert.deepEqual([await digest(one)], [await digest(other)], `${one} and ${other}`);
  }

  async function done<T = VdiskReport>(...words: string[]): Promise<T> {
    const { code, stdout, stderr } = await wharf('vdisk', ...words, '--json', ...given);
    assert.deepEqual([code, stderr], [0, '']);
    return JSON.parse(stdout) as T;
  }

  async function refused(code: number, why: RegExp, ...words: string[]): Promise<void> {
    const ended = await wharf('vdisk', ...words, ...given);
    assert.deepEqual([ended.code, ended.stdout], [code, ''], ended.stderr);
    assert.match(ended.stderr, why);
    assert.equal(ended.stderr.trim().split('\n').length, 1, ended.stderr);
  }

  /** The same through a shell, for pipes; `{wharf}` is the command. */
  function shell(line: string): Promise<string> {
    const command = `'${process.execPath}' '${wharfFile}'`;
    return sh('bash', '-o', 'pipefail', '-c', line.replaceAll('{wharf}', command));
  }

  /** No temporary name has stayed in the vPool, nor beside the files. */
  async function nothingLeft(): Promise<void> {
    const folders = [playground.mount, at('vm1'), playground.folder];
    const names = (await Promise.all(folders.map((folder) => fs.readdir(folder)))).flat();
    assert.deepEqual(
      names.filter((name) => name.startsWith('.wharf-')),
      [],
    );
  }

  test('that are raw and sparse keep content, size and holes both ways', async () => {
    const imported = await done<VdiskReport & { format: string; tookMs: number }>(
      ...['import', file('sparse.raw'), '/vm1/in'],
    );
    assert.deepEqual(
      [imported.path, imported.sizeBytes, imported.format],
      ['/vm1/in', 64 * MiB + 3 * 512, 'raw'],
    );
    assert.ok(imported.tookMs > 0 && imported.usedBytes > 0);
    await same(file('sparse.raw'), at('vm1/in'));
    const { usedBytes } = await done('show', '/vm1/in');
    assert.ok(usedBytes >= 3 * MiB && usedBytes < 3 * MiB + 64 * KiB, `used ${usedBytes}`);
    const exported = await done<object>('export', '/vm1/in', file('out.raw'));
    assert.deepEqual(
      { ...exported, tookMs: 0 },
      {
        ...{ path: '/vm1/in', file: file('out.raw'), format: 'raw' },
        ...{ sizeBytes: 64 * MiB + 3 * 512, tookMs: 0 },
      },
    );
    await same(file('sparse.raw'), file('out.raw'));
    const { blocks } = await fs.stat(file('out.raw'));
    assert.ok(blocks * 512 < 4 * MiB, `${blocks} blocks`);
    await nothingLeft();
  });

  test('go through pipes, whose zeroes become holes', async () => {
    const flags = given.join(' ');
    await shell(`cat ${file('sparse.raw')} | {wharf} vdisk import - /vm1/piped.raw ${flags}`);
    const piped = await done('show', '/vm1/piped.raw');
    assert.equal(piped.sizeBytes, 64 * MiB + 3 * 512);
    assert.ok(piped.usedBytes < 3 * MiB + 64 * KiB, `used ${piped.usedBytes}`);
    await shell(`{wharf} vdisk export /vm1/piped.raw - ${flags} > ${file('piped.raw')}`);
    await same(file('sparse.raw'), file('piped.raw'));
    await shell(`{wharf} vdisk export /vm1/piped.raw - ${flags} | cat > ${file('piped.raw')}`);
    await same(file('sparse.raw'), file('piped.raw'));
    // Zeroes at the end are a part of the disk.
    await shell(`head -c 3000000 /dev/zero | {wharf} vdisk import - /vm1/zero.raw ${flags}`);
    const zero = await done('show', '/vm1/zero.raw');
    assert.deepEqual([zero.sizeBytes, zero.usedBytes], [3_000_000, 0]);
  });

  test('show on a terminal how far they are', async () => {
    const slowly = `(head -c 2M /dev/urandom; sleep 1; head -c 2M /dev/urandom)`;
    const line = `${slowly} | {wharf} vdisk import - /vm1/shown.raw ${given.join(' ')}`;
    const words = `'${process.execPath}' '${wharfFile}'`;
    const shown = await sh('script', '-qec', line.replace('{wharf}', words), '/dev/null');
    const [, first = '', ...rest] = shown.split('\r\u001b[K');
    assert.match(first, /^\d\.\d MiB, \d+\.?\d* [KMG]iB\/s$/);
    assert.match(rest.at(-1) ?? '', /^\/vm1\/shown\.raw: 4\.0 MiB, 4\.0 MiB used, from raw/);
  });

  test('of other formats are told by their content, and converted', { skip: noQemu }, async () => {
    for (const format of ['qcow2', 'vmdk', 'vhdx']) {
      const [image, disk] = [file(`${format}.raw`), `/vm1/${format}`];
      await sh('qemu-img', 'convert', '-f', 'raw', '-O', format, file('sparse.raw'), image);
      const imported = await done<VdiskReport & { format: string }>('import', image, disk);
      assert.equal(imported.format, format);
      // Sizes of some formats are rounded up.
      await sh('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', file('sparse.raw'), at(disk));
      assert.ok(imported.usedBytes < 4 * MiB, `used ${imported.usedBytes}`);
      const exported = file(`exported.${format}`);
      await done('export', disk, exported, '--format', format);
      await sh('qemu-img', 'compare', '-f', format, '-F', 'raw', exported, file('sparse.raw'));
    }
    await done('import', file('qcow2.raw'), '/vm1/as-is', '--format', 'raw');
    await same(file('qcow2.raw'), at('vm1/as-is'));
    await nothingLeft();
  });

  test('of other formats are refused without qemu-img, never taken for raw', async () => {
    const image = file('fake.raw');
    await fs.writeFile(
      image,
      Buffer.concat([Buffer.from('QFI\u00fb', 'latin1'), Buffer.alloc(MiB)]),
    );
    const words = ['vdisk', 'import', image, '/vm1/fake.raw', ...given];
    const env = { ...process.env, PATH: '/nowhere' };
    const ended = spawnSync(process.execPath, [wharfFile, ...words], { env, encoding: 'utf8' });
    assert.equal(ended.status, 1);
    assert.match(ended.stderr, /is qcow2, which needs qemu-img, and that is not installed/);
    const converting = ['vdisk', 'export', '/vm1/in', file('no.qcow2'), '--format', 'qcow2'];
    const none = spawnSync(process.execPath, [wharfFile, ...converting, ...given], {
      ...{ env, encoding: 'utf8' },
    });
    assert.match(none.stderr, /needs qemu-img, and that is not installed/);
    const flags = given.join(' ');
    await assert.rejects(
      shell(`cat ${image} | {wharf} vdisk import - /vm1/fake.raw ${flags}`),
      /what comes is qcow2: only raw can be piped/,
    );
    assert.equal(existsSync(at('vm1/fake.raw')) || existsSync(file('no.qcow2')), false);
    await nothingLeft();
  });

  test('do not take the place of anything, unless they are forced to', async () => {
    await fs.writeFile(file('small.raw'), Buffer.alloc(4 * KiB, 7));
    await fs.writeFile(file('empty.raw'), '');
    const small = file('small.raw');
    await done('import', small, '/here.raw');
    await refused(1, /\/here\.raw exists already; --force/, 'import', small, '/here.raw');
    await refused(1, /\/vm1 is no file/, 'import', small, '/vm1', '--force');
    await refused(3, /\/vm2: no such/, 'import', small, '/vm2/x.raw');
    await refused(3, /nothing: no such file/, 'import', file('nothing'), '/x.raw');
    await refused(1, /is a folder/, 'import', playground.folder, '/x.raw');
    await refused(1, /is empty/, 'import', file('empty.raw'), '/x.raw');
    await refused(1, /nothing has come/, 'import', '/dev/null', '/x.raw');
    await refused(2, /is no name/, 'import', small, '/vm1/');
    await refused(2, /lies in no vPool/, 'import', small, 'x.raw');
    await refused(3, /no vPool other/, 'import', small, 'other:/x.raw');
    await refused(2, /--format: found iso/, 'import', small, '/x.raw', '--format', 'iso');
    await refused(1, /small\.raw exists already; --force/, 'export', '/here.raw', small);
    await refused(1, /is no file/, 'export', '/here.raw', '/dev/null', '--force');
    await refused(3, /no such vDisk/, 'export', '/nothing.raw', file('x.raw'));
    await refused(2, /--json has no place/, 'export', '/here.raw', '-', '--json');
    await fs.writeFile(small, Buffer.alloc(8 * KiB, 8));
    await done('import', small, '/here.raw', '--force');
    await same(small, at('here.raw'));
    await fs.writeFile(small, 'other');
    await done('export', '/here.raw', small, '--force');
    await same(small, at('here.raw'));
    const user = await fs.open(at('here.raw'));
    try {
      await refused(1, /\/here\.raw is open/, 'import', small, '/here.raw', '--force');
      const ended = await wharf('vdisk', 'export', '/here.raw', file('open.raw'), ...given);
      assert.match(ended.stderr, /is open: what is written meanwhile may be missing/);
      assert.equal(ended.code, 0);
    } finally {
      await user.close();
    }
    await nothingLeft();
  });

  test('that fail leave nothing behind', async () => {
    await fs.mkdir(file('full'));
    await sh('mount', '-t', 'tmpfs', '-o', 'size=1m', 'wharf-test', file('full'));
    try {
      await refused(1, /no space|ENOSPC/i, 'export', '/vm1/in', file('full/x.raw'));
      assert.deepEqual(await fs.readdir(file('full')), []);
    } finally {
      await sh('umount', file('full'));
    }
    const flags = given.join(' ');
    await assert.rejects(shell(`{wharf} vdisk export /vm1/in - ${flags} | head -c 10`), /EPIPE/);
    // Reading its own memory from the start fails.
    await assert.rejects(shell(`{wharf} vdisk import /proc/self/mem /vm1/x.raw ${flags}`));
    assert.equal(existsSync(at('vm1/x.raw')), false);
    await nothingLeft();
  });

  test('that break in the middle leave nothing behind', { skip: noQemu }, async () => {
    const image = file('torn.qcow2');
    await sh('qemu-img', 'convert', '-O', 'qcow2', file('sparse.raw'), image);
    await fs.truncate(image, 2 * MiB);
    const backed = file('backed.qcow2');
    await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', image, '-F', 'qcow2', backed);
    await fs.rm(image);
    await refused(1, /torn\.qcow2/, 'import', backed, '/vm1/torn.raw');
    assert.equal(existsSync(at('vm1/torn.raw')), false);
    await nothingLeft();
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    test(`that are interrupted by ${signal} leave nothing behind`, async () => {
      const words = ['vdisk', 'import', '-', '/vm1/stopped.raw', ...given];
      const child = spawn(process.execPath, [wharfFile, ...words]);
      const ended = new Promise((resolve) =>
        child.on('close', (code, by) => resolve({ code, by })),
      );
      child.stdin.on('error', () => {});
      try {
        child.stdin.write(Buffer.alloc(3 * MiB, 1));
        await until(async () => {
          const names = await fs.readdir(at('vm1'));
          const [name] = names.filter((one) => one.startsWith('.wharf-'));
          return name !== undefined && (await fs.stat(at(`vm1/${name}`))).size >= MiB;
        });
        child.kill(signal);
        assert.deepEqual(await ended, { code: null, by: signal });
      } finally {
        child.kill('SIGKILL');
      }
      assert.equal(existsSync(at('vm1/stopped.raw')), false);
      await nothingLeft();
    });
});

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, 'it never happened');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
