/** What people do with VM disks, by the real tools: QEMU, mkfs, loop devices, fio, a guest. */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MiB } from '../../src/core/units.ts';
import { wharf } from '../support/command.ts';
import { bootGuest, cannotBoot } from '../support/guest.ts';
import { cannotMount, Playground, sh } from '../support/playground.ts';

/** Longer than anything here takes. */
const patienceMs = 30_000;

describe('a VM disk', { skip: cannotMount }, () => {
  test('is made, converted, checked and compared by qemu-img', async () => {
    await using playground = new Playground();
    const { mount } = await playground.start();
    const disk = join(mount, 'disk.raw');
    await sh('qemu-img', 'create', '-f', 'raw', disk, '20G');
    assert.equal((await fs.stat(disk)).size, 20 * 2 ** 30);
    // qemu-img writes one block of zeroes to see how the file aligns.
    assert.ok((await fs.stat(disk)).blocks * 512 <= 4096);
    const image = join(playground.folder, 'image.raw');
    await fs.writeFile(image, Buffer.alloc(5_000_000, 'wharf'));
    await fs.truncate(image, 64 * 2 ** 20);
    await sh('qemu-img', 'convert', '-O', 'qcow2', image, join(mount, 'copy.qcow2'));
    await sh('qemu-img', 'check', join(mount, 'copy.qcow2'));
    await sh(
      'qemu-img',
      'convert',
      '-O',
      'raw',
      join(mount, 'copy.qcow2'),
      join(mount, 'copy.raw'),
    );
    assert.match(await sh('qemu-img', 'compare', image, join(mount, 'copy.raw')), /identical/);
    const map = JSON.parse(await sh('qemu-img', 'map', '--output=json', '-f', 'raw', disk)) as {
      data: boolean;
      length: number;
    }[];
    assert.ok(map.every(({ data, length }) => !data || length <= 4096));
  });

  test('gives space back where it is discarded', async () => {
    await using playground = new Playground();
    const { mount } = await playground.start();
    const disk = join(mount, 'disk.raw');
    await fs.writeFile(disk, Buffer.alloc(8 * 2 ** 20, 1));
    const blocksOf = async () => (await fs.stat(disk)).blocks * 512;
    assert.equal(await blocksOf(), 8 * 2 ** 20);
    await sh('fallocate', '--punch-hole', '--offset', '1M', '--length', '4M', disk);
    assert.equal(await blocksOf(), 4 * 2 ** 20);
    const bytes = await fs.readFile(disk);
    assert.ok(bytes.subarray(2 ** 20, 5 * 2 ** 20).every((byte) => byte === 0));
    assert.ok(bytes.subarray(5 * 2 ** 20).every((byte) => byte === 1));
  });

  test('gives space back on the object store for what is discarded, by the host and by QEMU', async () => {
    await using playground = new Playground();
    const { mount, admin } = await playground.start();
    const disk = join(mount, 'disk.raw');
    await fs.writeFile(disk, randomBytes(48 * MiB));
    const stored = async () => {
      const names = await fs.readdir(playground.store, { recursive: true });
      const segments = names.filter((name) => name.includes('/segment/'));
      const sizes = segments.map((name) =>
        // One may go while they are looked at.
        fs.stat(join(playground.store, name)).then(
          (stat) => (stat.isFile() ? stat.size : 0),
          () => 0,
        ),
      );
      return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
    };
    const isCompact = async (dataBytes: number) => {
      const { code, stderr } = await wharf('vdisk', 'compact', '/disk.raw', '--admin', admin);
      assert.equal(code, 0, stderr);
      // Dead segments are deleted when the reads of them have ended.
      const deadline = performance.now() + patienceMs;
      while ((await stored()) > 1.3 * dataBytes) {
        assert.ok(performance.now() < deadline, `${await stored()} bytes are stored`);
        await sleep(20);
      }
    };
    assert.equal((await wharf('vdisk', 'sync', '/disk.raw', '--admin', admin)).code, 0);
    assert.ok((await stored()) >= 48 * MiB);
    await sh('fallocate', '--punch-hole', '--offset', '8M', '--length', '24M', disk);
    await isCompact(24 * MiB);
    // As QEMU does for a guest that trims, with discard=unmap.
    await sh('qemu-io', '-f', 'raw', '-t', 'none', '-d', 'unmap', '-c', 'discard 36M 12M', disk);
    await isCompact(12 * MiB);
    const bytes = await fs.readFile(disk);
    assert.ok(bytes.subarray(8 * MiB, 32 * MiB).every((byte) => byte === 0));
    assert.ok(bytes.subarray(36 * MiB).every((byte) => byte === 0));
    assert.ok(bytes.subarray(0, 8 * MiB).some((byte) => byte !== 0));
  });

  test('holds an ext4 file system on a loop device, clean after a restart', async () => {
    await using playground = new Playground();
    const { mount } = await playground.start();
    const disk = join(mount, 'disk.raw');
    const inside = join(playground.folder, 'inside');
    await fs.truncate(disk, 0).catch(() => {});
    await fs.writeFile(disk, '');
    await fs.truncate(disk, 2 ** 30);
    await sh('mkfs.ext4', '-q', disk);
    await fs.mkdir(inside);
    await sh('mount', '-o', 'loop', disk, inside);
    try {
      await sh('cp', '-r', join(import.meta.dirname, '../../src'), inside);
    } finally {
      await sh('umount', inside);
    }
    assert.equal(await playground.stop(), 0);
    await playground.start();
    await sh('e2fsck', '-fn', disk);
    await sh('mount', '-o', 'loop,ro', disk, inside);
    try {
      await sh('diff', '-r', join(import.meta.dirname, '../../src'), join(inside, 'src'));
    } finally {
      await sh('umount', inside);
    }
  });

  test('passes verified random I/O of fio at any alignment', async () => {
    await using playground = new Playground();
    const { mount } = await playground.start();
    const common = [`--filename=${join(mount, 'fio.raw')}`, '--size=64M', '--direct=1'];
    const verify = [
      '--verify=crc32c',
      '--do_verify=1',
      '--verify_state_save=0',
      '--verify_fatal=1',
      '--rw=randwrite',
    ];
    const argv = ['--name=verify', ...common, ...verify, '--bsrange=512-256k', '--blockalign=512'];
    await sh('fio', '--verify_state_save=0', ...argv, '--ioengine=libaio', '--iodepth=16');
    await sh(
      'fio',
      '--verify_state_save=0',
      ...argv,
      '--ioengine=psync',
      '--fsync=16',
      '--io_size=8M',
    );
  });

  test('boots a guest that writes, syncs and powers off, and finds it all again', {
    skip: cannotBoot,
  }, async () => {
    await using playground = new Playground();
    const { mount } = await playground.start();
    const disk = join(mount, 'vm1.raw');
    await sh('qemu-img', 'create', '-f', 'raw', disk, '512M');
    await sh('mkfs.ext4', '-q', disk);
    const written = await bootGuest(playground.folder, disk, 'write');
    assert.ok(written.passed, written.console);
    await sh('e2fsck', '-fn', disk);
    assert.equal(await playground.stop(), 0);
    await playground.start();
    const checked = await bootGuest(playground.folder, disk, 'check');
    assert.ok(checked.passed, checked.console);
    await sh('e2fsck', '-fn', disk);
  });
});
