/** `wharf up` as a user meets it: real daemon, real mount. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { isMounted } from '../../src/frontend/fuse/mount.ts';
import { wharf } from '../support/command.ts';
import { cannotMount, Playground, sh } from '../support/playground.ts';

const skip = cannotMount;

describe('a playground', { skip }, () => {
  test('keeps files, folders, links and their attributes over a restart', async () => {
    await using playground = new Playground();
    const { mount } = await playground.start();
    const at = (...parts: string[]) => join(mount, ...parts);
    await fs.mkdir(at('vm1'));
    await fs.writeFile(at('vm1', 'vm1.xml'), '<domain/>');
    await fs.symlink('vm1.xml', at('vm1', 'link'));
    await fs.link(at('vm1', 'vm1.xml'), at('vm1', 'hard'));
    await fs.rename(at('vm1', 'hard'), at('renamed'));
    await fs.chmod(at('renamed'), 0o640);
    await fs.utimes(at('renamed'), 1000, 2000);
    await fs.writeFile(at('big.bin'), Buffer.alloc(3_000_000, 7));
    assert.equal(await playground.stop('SIGINT'), 0);
    assert.equal(isMounted(mount), false);
    await playground.start();
    assert.equal(await fs.readFile(at('vm1', 'link'), 'utf8'), '<domain/>');
    const stat = await fs.stat(at('renamed'));
    assert.equal(stat.mode & 0o777, 0o640);
    assert.equal(stat.nlink, 2);
    assert.equal(stat.mtimeMs, 2_000_000);
    assert.deepEqual(await fs.readFile(at('big.bin')), Buffer.alloc(3_000_000, 7));
    assert.deepEqual((await fs.readdir(at('vm1'))).sort(), ['link', 'vm1.xml']);
  });

  test('treats unlinked open files, replacing renames and full folders as POSIX says', async () => {
    await using playground = new Playground();
    const { mount } = await playground.start();
    const at = (...parts: string[]) => join(mount, ...parts);
    const file = await fs.open(at('a'), 'w+');
    await file.writeFile('still here');
    await fs.unlink(at('a'));
    await assert.rejects(fs.stat(at('a')), { code: 'ENOENT' });
    const { buffer } = await file.read(Buffer.alloc(10), 0, 10, 0);
    assert.equal(buffer.toString(), 'still here');
    await file.close();
    await fs.writeFile(at('old'), 'old');
    await fs.writeFile(at('new'), 'new');
    await fs.rename(at('new'), at('old'));
    assert.equal(await fs.readFile(at('old'), 'utf8'), 'new');
    await fs.mkdir(at('d'));
    await fs.mkdir(at('d', 'e'));
    await assert.rejects(fs.rmdir(at('d')), { code: 'ENOTEMPTY' });
    await assert.rejects(fs.rename(at('d'), at('d', 'e', 'f')), { code: 'EINVAL' });
    await assert.rejects(fs.mkdir(at('d')), { code: 'EEXIST' });
    await assert.rejects(fs.writeFile(at('x'.repeat(256)), ''), { code: 'ENAMETOOLONG' });
    await fs.appendFile(at('log'), 'one\n');
    await fs.appendFile(at('log'), 'two\n');
    assert.equal(await fs.readFile(at('log'), 'utf8'), 'one\ntwo\n');
    await assert.rejects(fs.truncate(at('old'), 2 ** 46 + 1), { code: 'EFBIG' });
  });

  test('makes a volume of a file that grows to 64 MiB, without its user noticing', async () => {
    await using playground = new Playground();
    const { mount, admin } = await playground.start();
    const path = join(mount, 'growing.bin');
    const file = await fs.open(path, 'w+');
    const chunk = Buffer.alloc(1024 * 1024);
    for (let index = 0; index < 70; index += 1) await file.write(chunk.fill(index + 1), 0);
    await file.sync();
    for (const index of [0, 31, 63, 64, 69]) {
      await file.read(chunk, 0, chunk.length, index * chunk.length);
      assert.ok(chunk.every((byte) => byte === index + 1));
    }
    await file.close();
    const shown = await wharf('vdisk', 'show', path, '--json', '--admin', admin);
    assert.equal((JSON.parse(shown.stdout) as { sizeBytes: number }).sizeBytes, 70 * 1024 * 1024);
  });

  test('is shown by the command, whose exit codes say what went wrong', async () => {
    await using playground = new Playground();
    const { mount, admin } = await playground.start();
    await sh('qemu-img', 'create', '-f', 'raw', join(mount, 'disk.raw'), '20G');
    await fs.writeFile(join(mount, 'note.txt'), 'hello');
    const given = ['--admin', admin];
    const list = await wharf('vdisk', 'list', '--json', ...given);
    const { vdisks } = JSON.parse(list.stdout) as { vdisks: { path: string; sizeBytes: number }[] };
    assert.deepEqual(
      vdisks.map(({ path, sizeBytes }) => [path, sizeBytes]),
      [['/disk.raw', 20 * 2 ** 30]],
    );
    assert.equal((await wharf('status', ...given)).code, 0);
    assert.equal((await wharf('vdisk', 'show', 'demo:/disk.raw', ...given)).code, 0);
    assert.equal((await wharf('vdisk', 'sync', '/disk.raw', ...given)).code, 0);
    const metrics = await (await fetch(`${admin}/metrics`)).text();
    assert.match(metrics, /^wharf_backend_request_seconds_count\{operation="put"\} [1-9]/m);
    assert.match(metrics, /^wharf_volumes\{state="open"\} 1$/m);
    const missing = await wharf('vdisk', 'show', '/nothing.raw', ...given);
    assert.deepEqual([missing.code, missing.stderr.trim().split('\n').length], [3, 1]);
    assert.equal((await wharf('vdisk', 'frobnicate', ...given)).code, 2);
    assert.equal((await wharf('status', '--admin', 'http://127.0.0.1:1')).code, 4);
  });

  test('serves an object store that takes nothing read-only', async () => {
    await using playground = new Playground();
    const { store, mount } = playground;
    await fs.mkdir(store);
    await sh('mount', '-t', 'tmpfs', '-o', 'size=64m', 'wharf-test', store);
    try {
      await playground.start();
      await fs.writeFile(join(mount, 'note.txt'), 'hello');
      await fs.writeFile(join(mount, 'disk.raw'), Buffer.alloc(2 ** 20, 1));
      assert.equal((await wharf('vdisk', 'sync', join(mount, 'disk.raw'))).code, 0);
      assert.equal(await playground.stop(), 0);
      await sh('mount', '-o', 'remount,ro', store);
      await playground.start();
      assert.equal(await fs.readFile(join(mount, 'note.txt'), 'utf8'), 'hello');
      assert.ok((await fs.readFile(join(mount, 'disk.raw'))).equals(Buffer.alloc(2 ** 20, 1)));
      const refused = { code: 'EROFS' };
      await assert.rejects(fs.writeFile(join(mount, 'new'), ''), refused);
      await assert.rejects(fs.open(join(mount, 'disk.raw'), 'r+'), refused);
      await assert.rejects(fs.unlink(join(mount, 'note.txt')), refused);
      const made = await wharf('vdisk', 'create', join(mount, 'new.raw'), '--size', '1M');
      assert.deepEqual([made.code, /vPool is read-only/.test(made.stderr)], [1, true]);
      assert.equal(await playground.stop(), 0);
      await sh('mount', '-o', 'remount,rw', store);
      await playground.start();
      await fs.writeFile(join(mount, 'new'), '');
    } finally {
      await playground.stop();
      await sh('umount', store);
    }
  });

  test('refuses a second daemon on the same data, naming who holds it', async () => {
    await using playground = new Playground();
    const { pid } = await playground.start();
    const second = await wharf('up', '--dir', playground.folder);
    assert.equal(second.code, 1);
    assert.match(second.stderr, new RegExp(`in use by host a, process ${pid}`));
    assert.ok(isMounted(playground.mount));
  });

  test('refuses wrong flags in one line that names the flag', async () => {
    for (const [flags, words] of [
      [['--hosts', '0'], '--hosts: found 0'],
      [['--backend', 'tape'], '--backend: found tape; allowed is dir or s3'],
      [['--backend', 's3'], '--s3-endpoint: found nothing'],
      [['--registry', 'paper'], '--registry: found paper'],
      [['--frobnicate'], '--frobnicate'],
    ] as const) {
      const { code, stderr } = await wharf('up', ...flags);
      assert.equal(code, 2);
      assert.ok(stderr.includes(words), stderr);
      assert.equal(stderr.trim().split('\n').length, 1);
    }
  });

  test('leaves no dead mount when its daemon is killed, and starts again', async () => {
    await using playground = new Playground();
    const { pid, mount } = await playground.start();
    await fs.writeFile(join(mount, 'a'), 'a');
    const handle = await fs.open(join(mount, 'a'));
    await handle.sync();
    await handle.close();
    process.kill(pid, 'SIGKILL');
    assert.equal(await playground.ended, 70);
    assert.equal(isMounted(mount), false);
    await playground.start();
    assert.equal(await fs.readFile(join(mount, 'a'), 'utf8'), 'a');
  });
});
