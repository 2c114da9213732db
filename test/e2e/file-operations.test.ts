/** What programs do to files, through a real mount of a real daemon, for files of both kinds. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Daemon } from '../support/daemon.ts';
import { KiB, MiB, TiB } from '../../src/core/units.ts';
import { cannotMount, sh } from '../support/playground.ts';
import * as calls from '../support/system-calls.ts';

/** Each command is one system call. */
const xfsIo = (path: string, ...commands: string[]) =>
  sh('xfs_io', ...commands.flatMap((command) => ['-c', command]), path);

/** Bytes that are different everywhere, the same in each run. */
function noise(bytes: number, seed: string): Buffer {
  const parts: Buffer[] = [];
  for (let index = 0; index * 32 < bytes; index += 1)
    parts.push(createHash('sha256').update(`${seed} ${index}`).digest());
  return Buffer.concat(parts).subarray(0, bytes);
}

describe('through a mount', { skip: cannotMount || calls.noSystemCalls }, () => {
  let daemon: Daemon;
  const at = (...parts: string[]) => daemon.at(...parts);
  before(async () => {
    daemon = new Daemon();
    await daemon.start();
  });
  after(() => daemon[Symbol.asyncDispose]());

  describe('extended attributes', () => {
    test('are set, read, listed and removed, and stay over a rename', async () => {
      await fs.writeFile(at('xattr'), '');
      const value = noise(100, 'value');
      await calls.setAttribute(at('xattr'), 'user.note', value);
      await calls.setAttribute(at('xattr'), 'user.empty', Buffer.alloc(0));
      await fs.rename(at('xattr'), at('xattr-2'));
      assert.deepEqual(await calls.getAttribute(at('xattr-2'), 'user.note'), value);
      assert.equal((await calls.getAttribute(at('xattr-2'), 'user.empty')).length, 0);
      const names = () => sh('getfattr', '--absolute-names', at('xattr-2'));
      assert.deepEqual((await names()).match(/user\.\w+/g)?.sort(), ['user.empty', 'user.note']);
      await sh('setfattr', '-x', 'user.note', at('xattr-2'));
      assert.deepEqual((await names()).match(/user\.\w+/g), ['user.empty']);
      await assert.rejects(calls.getAttribute(at('xattr-2'), 'user.note'), { code: 'ENODATA' });
      await assert.rejects(sh('setfattr', '-x', 'user.note', at('xattr-2')), /No such attribute/);
    });

    test('are made, or replaced, only where they are not, or are, there', async () => {
      await fs.mkdir(at('xattr-folder'));
      const set = (text: string, how: 'create' | 'replace') =>
        calls.setAttribute(at('xattr-folder'), 'user.a', Buffer.from(text), how);
      await assert.rejects(set('1', 'replace'), { code: 'ENODATA' });
      await set('2', 'create');
      await assert.rejects(set('3', 'create'), { code: 'EEXIST' });
      await set('4', 'replace');
      assert.equal((await calls.getAttribute(at('xattr-folder'), 'user.a')).toString(), '4');
    });

    test('that would change a mode are refused, so that who sets them sets the mode', async () => {
      await fs.writeFile(at('xattr-list'), '', { mode: 0o640 });
      for (const name of ['system.posix_acl_access', 'system.posix_acl_default'])
        await assert.rejects(calls.getAttribute(at('xattr-list'), name), { code: 'ENOTSUP' });
      // An access list of nothing but the modes rw-, r-- and r--.
      const list = Buffer.from('0200000001000600ffffffff04000400ffffffff20000400ffffffff', 'hex');
      const set = calls.setAttribute(at('xattr-list'), 'system.posix_acl_access', list);
      await assert.rejects(set, { code: 'ENOTSUP' });
    });

    test('have the sizes that Linux allows, and tell what does not fit', async () => {
      await fs.writeFile(at('xattr-sizes'), '');
      const longest = `user.${'n'.repeat(250)}`;
      const largest = noise(64 * KiB, 'largest');
      await calls.setAttribute(at('xattr-sizes'), longest, largest);
      const get = (bytesMax?: number) => calls.getAttribute(at('xattr-sizes'), longest, bytesMax);
      assert.ok((await get()).equals(largest));
      assert.equal((await get(0)).toString(), String(64 * KiB));
      await assert.rejects(get(64 * KiB - 1), { code: 'ERANGE' });
      const tooLarge = calls.setAttribute(at('xattr-sizes'), 'user.b', noise(64 * KiB + 1, 'b'));
      await assert.rejects(tooLarge, { code: 'E2BIG' });
    });
  });

  for (const name of ['small.bin', 'disk.raw'])
    describe(`the file ${name}`, () => {
      const path = (suffix: string) => at(`${suffix}-${name}`);

      test('takes fallocate: reserve, punch, zero, with and without its size', async () => {
        const file = path('falloc');
        const content = noise(MiB, name);
        await fs.writeFile(file, content);
        const fallocate = (...argv: string[]) => sh('fallocate', ...argv, file);
        await fallocate('-n', '-o', '1M', '-l', '1M');
        assert.equal((await fs.stat(file)).size, MiB);
        await fallocate('-o', '1M', '-l', '64K');
        const expected = Buffer.concat([content, Buffer.alloc(64 * KiB)]);
        assert.ok((await fs.readFile(file)).equals(expected));
        await fallocate('-p', '-o', '100000', '-l', '100001');
        await fallocate('-z', '-o', '500000', '-l', '65537');
        expected.fill(0, 100_000, 200_001).fill(0, 500_000, 565_537);
        assert.ok((await fs.readFile(file)).equals(expected));
        await fallocate('-z', '-n', '-o', '1M', '-l', '1M');
        assert.equal((await fs.stat(file)).size, expected.length);
        await fallocate('-z', '-o', '1M', '-l', '1M');
        assert.equal((await fs.stat(file)).size, 2 * MiB);
        await assert.rejects(fallocate('-c', '-o', '0', '-l', '4K'), /not supported/);
      });

      test('tells its data from its holes, which copies keep', async () => {
        const file = path('holes');
        const handle = await fs.open(file, 'w+');
        const content = noise(MiB, 'data');
        await handle.truncate(32 * MiB);
        await handle.write(content, 0, MiB, 3 * MiB);
        await handle.close();
        const found = async (command: string) =>
          (await xfsIo(file, command)).trim().split(/\s+/).slice(2);
        assert.deepEqual(await found('seek -a -r 0'), [
          ...['HOLE', '0', 'DATA', String(3 * MiB), 'HOLE', String(4 * MiB)],
        ]);
        assert.deepEqual(await found('seek -d 3145733'), ['DATA', '3145733']);
        assert.deepEqual(await found('seek -h 5m'), ['HOLE', String(5 * MiB)]);
        assert.deepEqual(await found('seek -d 4m'), ['DATA', 'EOF']);
        assert.deepEqual(await found('seek -h 32m'), ['HOLE', 'EOF']);
        const copy = join(daemon.folder, 'copy');
        await sh('cp', '--sparse=auto', file, copy);
        assert.equal((await fs.stat(copy)).blocks * 512, MiB);
        assert.equal((await fs.stat(file)).blocks * 512, MiB);
        await sh('cmp', file, copy);
        const map = await sh('qemu-img', 'map', '-f', 'raw', '--output=json', file);
        const extents = JSON.parse(map) as { start: number; length: number; data: boolean }[];
        assert.deepEqual(
          extents.filter(({ data }) => data).map(({ start, length }) => [start, length]),
          [[3 * MiB, MiB]],
        );
      });

      test('can be mapped into memory, shared', async () => {
        const file = path('mapped');
        const content = noise(100_000, 'mapped');
        await fs.writeFile(file, content);
        await xfsIo(file, 'mmap -rw 0 96k', 'mwrite -S 0x5a 70000 9000', 'msync -s');
        content.fill(0x5a, 70_000, 79_000);
        assert.ok((await fs.readFile(file)).equals(content));
        await fs.writeFile(file, 'by write', { flag: 'r+' });
        const shown = await xfsIo(file, 'mmap -r 0 96k', 'mread -v 0 8', 'mread -v 78999 2');
        const rows = [...shown.matchAll(/^[0-9a-f]+: {2}((?:[0-9a-f]{2} )+)/gm)];
        const seen = Buffer.from(
          rows.map(([, bytes]) => bytes?.replaceAll(' ', '')).join(''),
          'hex',
        );
        content.write('by write', 0);
        assert.deepEqual(
          seen,
          Buffer.concat([content.subarray(0, 8), content.subarray(78_999, 79_001)]),
        );
      });

      test('loses nothing that four processes append at once', async () => {
        const file = path('appended');
        const recordBytes = 64;
        const count = 300;
        const records = (writer: number) =>
          Array.from({ length: count }, (_, index) =>
            `${writer} ${index} `.padEnd(recordBytes - 1, '.').concat('\n'),
          );
        await fs.writeFile(file, '');
        const writers = [1, 2, 3, 4].map(async (writer) => {
          const input = join(daemon.folder, `records-${writer}`);
          await fs.writeFile(input, records(writer).join(''));
          const argv = [`if=${input}`, `of=${file}`, `bs=${recordBytes}`];
          await sh('dd', ...argv, 'oflag=append', 'conv=notrunc');
        });
        await Promise.all(writers);
        const lines = (await fs.readFile(file, 'utf8')).split('\n').slice(0, -1);
        assert.equal(lines.length, 4 * count);
        for (const writer of [1, 2, 3, 4])
          assert.deepEqual(
            lines.filter((line) => line.startsWith(`${writer} `)).map((line) => `${line}\n`),
            records(writer),
          );
      });

      test('serves who has it open when its last name goes, and then goes', async () => {
        const file = path('unlinked');
        const handle = await fs.open(file, 'w+');
        await handle.write(noise(300_000, 'before'));
        await fs.unlink(file);
        await handle.write(noise(1000, 'after'), 0, 1000, 299_000);
        const expected = noise(300_000, 'before').fill(noise(1000, 'after'), 299_000);
        const found = Buffer.alloc(300_001);
        assert.equal((await handle.read(found, 0, 300_001, 0)).bytesRead, 300_000);
        assert.ok(found.subarray(0, 300_000).equals(expected));
        assert.equal((await handle.stat()).nlink, 0);
        await handle.close();
        await assert.rejects(fs.stat(file), { code: 'ENOENT' });
      });

      test('grows to 64 TiB and not beyond', async () => {
        const file = path('largest');
        await sh('truncate', '-s', '64T', file);
        assert.equal((await fs.stat(file)).size, 64 * TiB);
        const handle = await fs.open(file, 'r+');
        await handle.write('end', 64 * TiB - 3);
        const { buffer } = await handle.read(Buffer.alloc(4), 0, 4, 64 * TiB - 4);
        assert.equal(buffer.toString(), '\0end');
        await assert.rejects(handle.write('x', 64 * TiB), { code: 'EFBIG' });
        await assert.rejects(handle.truncate(64 * TiB + 1), { code: 'EFBIG' });
        await handle.close();
        await assert.rejects(sh('fallocate', '-o', '64T', '-l', '4K', file), /too large/);
        await fs.unlink(file);
      });
    });

  test('several write one volume at once', async () => {
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
      ...['--verify=crc32c', '--do_verify=1', '--verify_state_save=0', '--group_reporting'],
    );
    assert.match(fio, /err= 0/);
  });

  describe('names', () => {
    test('change places, or give way to none, as renameat2 is told', async () => {
      await fs.mkdir(at('exchanged'));
      await fs.writeFile(at('exchanged', 'inside'), 'in the folder');
      await fs.writeFile(at('other'), 'file');
      await calls.renameWith(at('exchanged'), at('other'), 'exchange');
      assert.equal(await fs.readFile(at('exchanged'), 'utf8'), 'file');
      assert.equal(await fs.readFile(at('other', 'inside'), 'utf8'), 'in the folder');
      const refused = calls.renameWith(at('exchanged'), at('other', 'inside'), 'no-replace');
      await assert.rejects(refused, { code: 'EEXIST' });
      await calls.renameWith(at('exchanged'), at('other', 'new'), 'no-replace');
      assert.deepEqual((await fs.readdir(at('other'))).sort(), ['inside', 'new']);
      const missing = calls.renameWith(at('other'), at('exchanged'), 'exchange');
      await assert.rejects(missing, { code: 'ENOENT' });
    });

    test('of one file share its data, attributes and count', async () => {
      await fs.writeFile(at('one'), 'data');
      await fs.mkdir(at('links'));
      await fs.link(at('one'), at('links', 'two'));
      await fs.appendFile(at('links', 'two'), ' and more');
      await fs.chmod(at('links', 'two'), 0o604);
      assert.equal(await fs.readFile(at('one'), 'utf8'), 'data and more');
      const [one, two] = await Promise.all([fs.stat(at('one')), fs.stat(at('links', 'two'))]);
      assert.deepEqual([one.ino, one.mode, one.nlink], [two.ino, two.mode, 2]);
      await fs.unlink(at('one'));
      assert.equal((await fs.stat(at('links', 'two'))).nlink, 1);
      await assert.rejects(fs.link(at('links'), at('links-2')), { code: 'EPERM' });
    });

    test('have up to 255 bytes of any kind', async () => {
      const folder = at('bytes');
      await fs.mkdir(folder);
      const every = Buffer.from(
        Array.from({ length: 255 }, (_, index) => index + 1).map((byte) =>
          byte === 47 ? 1 : byte,
        ),
      );
      const names = [every, Buffer.alloc(255, 0xff), Buffer.from([0xc3, 0x28]), Buffer.from(' ')];
      const inside = (name: Buffer) => Buffer.concat([Buffer.from(`${folder}/`), name]);
      for (const name of names) await fs.writeFile(inside(name), name);
      const listed = await fs.readdir(folder, { encoding: 'buffer' });
      assert.deepEqual(
        new Set(listed.map((name) => name.toString('hex'))),
        new Set(names.map((name) => name.toString('hex'))),
      );
      for (const name of listed) assert.deepEqual(await fs.readFile(inside(name)), name);
      const tooLong = fs.writeFile(inside(Buffer.alloc(256, 0xff)), '');
      await assert.rejects(tooLong, { code: 'ENAMETOOLONG' });
    });
  });
});
