/** What programs ask of files, by the system calls that they use, through a real mount. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { KiB, MiB } from '../../src/core/units.ts';
import { Daemon } from '../support/daemon.ts';
import { cannotMount, sh } from '../support/playground.ts';

const { O_CREAT, O_WRONLY } = fs.constants;

/** xfs_io makes one system call a command. */
const xfsIo = (path: string, ...commands: string[]) =>
  sh('xfs_io', '-f', ...commands.flatMap((command) => ['-c', command]), path);

async function ended(command: string, ...argv: string[]): Promise<number> {
  const child = spawn(command, argv, { stdio: 'ignore' });
  return new Promise((resolve) => child.on('close', (code) => resolve(code ?? -1)));
}

describe('files through a mount', { skip: cannotMount }, () => {
  let daemon: Daemon;
  const at = (...parts: string[]) => join(daemon.mount, ...parts);
  const requests = async () =>
    (await daemon.status<{ requests: Record<string, number> }>()).requests;
  before(async () => {
    daemon = new Daemon();
    await daemon.start();
  });
  after(() => daemon[Symbol.asyncDispose]());

  test('have extended attributes', async () => {
    await fs.writeFile(at('attributed'), '');
    await sh('setfattr', '-n', 'user.origin', '-v', 'import', at('attributed'));
    await sh('setfattr', '-n', 'user.large', '-v', 'x'.repeat(60_000), at('attributed'));
    const value = await sh(
      'getfattr',
      '--absolute-names',
      '--only-values',
      '-n',
      'user.origin',
      at('attributed'),
    );
    assert.equal(value, 'import');
    const listed = await sh('getfattr', '--absolute-names', at('attributed'));
    assert.match(listed, /user\.large/);
    await sh('setfattr', '-x', 'user.origin', at('attributed'));
    await assert.rejects(
      sh('getfattr', '-n', 'user.origin', at('attributed')),
      /No such attribute/,
    );
  });

  for (const name of ['small.bin', 'volume.raw'])
    test(`are zeroed, punched and grown by fallocate: ${name}`, async () => {
      await fs.writeFile(at(name), Buffer.alloc(MiB, 1));
      await xfsIo(at(name), 'fpunch 64k 64k', 'fzero 256k 100', 'falloc 2m 64k', 'falloc -k 4m 1m');
      const bytes = await fs.readFile(at(name));
      assert.equal(bytes.length, 2 * MiB + 64 * KiB);
      const expected = Buffer.alloc(bytes.length);
      expected
        .fill(1, 0, MiB)
        .fill(0, 64 * KiB, 128 * KiB)
        .fill(0, 256 * KiB, 256 * KiB + 100);
      assert.ok(bytes.equals(expected));
    });

  test('show their holes', async () => {
    await fs.writeFile(at('holes.raw'), '');
    await fs.truncate(at('holes.raw'), 64 * MiB);
    await xfsIo(at('holes.raw'), 'pwrite 8m 1m', 'pwrite 32m 4k');
    const map = await xfsIo(at('holes.raw'), 'seek -a -r 0');
    const rows = map.trim().split('\n').slice(1);
    assert.deepEqual(
      rows.map((row) => row.split(/\s+/).map((word) => Number(word) || word)),
      [
        ['HOLE', '0'],
        ['DATA', 8 * MiB],
        ['HOLE', 9 * MiB],
        ['DATA', 32 * MiB],
        ['HOLE', 32 * MiB + 4 * KiB],
      ].map(([what, where]) => [what, where === '0' ? '0' : where]),
    );
  });

  test('are mapped into memory, shared, where they are no volumes', async () => {
    await xfsIo(
      at('mapped'),
      ...['truncate 64k', 'mmap -rw 0 64k', 'mwrite -S 0x5a 4096 8192', 'msync -s', 'munmap'],
    );
    const bytes = await fs.readFile(at('mapped'));
    assert.ok(bytes.equals(Buffer.alloc(64 * KiB).fill(0x5a, 4096, 4096 + 8192)));
    const read = await xfsIo(at('mapped'), 'mmap -r 0 64k', 'mread -v 4096 4');
    assert.match(read, /5a 5a 5a 5a/);
  });

  test('take appends of several processes, each whole', async () => {
    const line = (writer: number) => `${String(writer).repeat(100)}\n`;
    const script = (writer: number) =>
      `i=0; while [ $i -lt 100 ]; do printf '%s\\n' ${line(writer).trim()} >> '${at('log')}'; i=$((i+1)); done`;
    const codes = await Promise.all(
      [1, 2, 3, 4].map((writer) => ended('sh', '-c', script(writer))),
    );
    assert.deepEqual(codes, [0, 0, 0, 0]);
    const lines = (await fs.readFile(at('log'), 'utf8')).split('\n').slice(0, -1);
    for (const writer of [1, 2, 3, 4])
      assert.equal(lines.filter((found) => `${found}\n` === line(writer)).length, 100);
    assert.equal(lines.length, 400);
  });

  test('get large direct requests whole, and no write asks for an attribute', async () => {
    const path = at('direct.raw');
    await fs.writeFile(path, '');
    await fs.truncate(path, 64 * MiB);
    const earlier = await requests();
    // The buffers of dd begin on a page, as those of QEMU do.
    await sh(
      'dd',
      'if=/dev/zero',
      `of=${path}`,
      'bs=1M',
      'count=16',
      'oflag=direct',
      'conv=notrunc',
    );
    await sh('dd', `if=${path}`, 'of=/dev/null', 'bs=1M', 'count=16', 'iflag=direct');
    const later = await requests();
    const asked = (name: string) => (later[name] ?? 0) - (earlier[name] ?? 0);
    assert.deepEqual([asked('write'), asked('read')], [16, 16]);
    assert.ok(asked('getxattr') <= 1);
  });

  test('are written by several at once', async () => {
    const path = at('parallel.raw');
    await fs.writeFile(path, '');
    await fs.truncate(path, 64 * MiB);
    const fio = await sh(
      ...([
        'fio',
        '--verify_state_save=0',
        '--name=parallel',
        `--filename=${path}`,
        '--rw=randwrite',
        '--bs=4k',
      ] as const),
      ...['--direct=1', '--ioengine=psync', '--numjobs=4', '--size=16m', '--offset_increment=16m'],
      ...['--verify=crc32c', '--do_verify=1', '--group_reporting'],
    );
    assert.match(fio, /err= 0/);
  });

  test('keep names of any bytes, and times to the nanosecond', async () => {
    const name = Buffer.alloc(255, 0xfe);
    const path = Buffer.concat([Buffer.from(`${daemon.mount}/`), name]);
    await fs.writeFile(path, 'odd');
    const listed = await fs.readdir(Buffer.from(daemon.mount), { encoding: 'buffer' });
    assert.ok(listed.some((found) => found.equals(name)));
    await sh('touch', '-d', '2001-02-03 04:05:06.123456789 UTC', at('log'));
    const { mtimeNs } = await fs.stat(at('log'), { bigint: true });
    assert.equal(mtimeNs, 981_173_106_123_456_789n);
  });

  test('give their group to what is made in a set-group-id folder', async () => {
    await fs.mkdir(at('shared'));
    await fs.chown(at('shared'), 0, 4242);
    await fs.chmod(at('shared'), 0o2775);
    await fs.writeFile(at('shared', 'file'), '');
    await fs.mkdir(at('shared', 'inner'));
    assert.equal((await fs.stat(at('shared', 'file'))).gid, 4242);
    const inner = await fs.stat(at('shared', 'inner'));
    assert.deepEqual([inner.gid, inner.mode & 0o2000], [4242, 0o2000]);
  });

  test('tell how much room there is', async () => {
    const { blocks, bsize, bavail, files } = await fs.statfs(daemon.mount);
    const store = await fs.statfs(daemon.store);
    assert.equal(blocks * bsize, store.blocks * store.bsize);
    assert.ok(bavail > 0 && bavail <= blocks && files > 0);
  });

  test('are bounded in size', async () => {
    const file = await fs.open(at('endless.raw'), O_WRONLY | O_CREAT);
    await assert.rejects(file.truncate(2 ** 46 + 1), { code: 'EFBIG' });
    await assert.rejects(file.write(Buffer.from('x'), 0, 1, 2 ** 46), { code: 'EFBIG' });
    await file.truncate(2 ** 46);
    await file.write(Buffer.from('x'), 0, 1, 2 ** 46 - 1);
    await file.close();
  });

  test('hold a git repository', async () => {
    const git = (...argv: string[]) =>
      sh('git', '-C', at('repository'), '-c', 'user.name=a', '-c', 'user.email=a@b', ...argv);
    await sh('git', 'init', '-q', at('repository'));
    for (let index = 0; index < 100; index += 1)
      await fs.writeFile(at('repository', `file${index}`), `${index}\n`.repeat(index));
    await git('add', '.');
    await git('commit', '-q', '-m', 'first');
    await git('gc', '-q', '--aggressive');
    await git('fsck', '--strict');
    assert.equal(await git('status', '--short'), '');
  });
});
