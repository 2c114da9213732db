import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isStorageError } from '../../../src/core/errors.ts';
import { isPending } from '../../../src/core/eventually.ts';
import { KiB } from '../../../src/core/units.ts';
import type { Native } from '../../../src/platform/native.ts';
import { loadNative } from '../../../src/platform/native.ts';
import { systemDisk } from '../../../src/platform/system-disk.ts';

const { EAGAIN, EIO, EOPNOTSUPP } = constants.errno;
const loaded = loadNative();
const skip = loaded.native ? false : `no addon: ${loaded.reason}`;
const { native } = loaded;

function temporaryFolder(context: TestContext, parent = tmpdir()): string {
  const folder = mkdtempSync(join(parent, 'wharf-disk-'));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}

/** The addon, some of whose calls are answered by the test. */
function addonWith(calls: Partial<Native>): Native {
  assert.ok(native);
  return { ...native, ...calls };
}

/** A file of 100 bytes that the given addon serves. */
function fileOf(context: TestContext, addon: Native) {
  const bytes = Uint8Array.from({ length: 100 }, (_, index) => index);
  const file = systemDisk(addon).open(join(temporaryFolder(context), 'f'), 'create');
  file.write(0, [bytes]);
  return { file, bytes };
}

describe('a file by the addon', () => {
  test('is read at once where it is in memory', { skip }, async (context) => {
    const { file, bytes } = fileOf(context, addonWith({}));
    const into = new Uint8Array(100);
    assert.equal(file.read(0, into), 100);
    assert.deepEqual(into, bytes);
    await file.close();
  });

  test('gives its descriptor back behind whoever closes it', { skip }, async (context) => {
    const folder = temporaryFolder(context);
    const opened = () =>
      readdirSync('/proc/self/fd').filter((fd) => {
        const target = attempt(() => readlinkSync(`/proc/self/fd/${fd}`));
        return target?.startsWith(folder);
      }).length;
    const disk = systemDisk(native);
    const files = [1, 2, 3].map((number) => disk.open(join(folder, `${number}`), 'create'));
    for (const file of files) disk.remove(file.path);
    assert.equal(opened(), 3);
    await Promise.all(files.map((file) => file.close()));
    assert.ok(opened() > 0, 'nobody has waited for it');
    for (let turn = 0; opened() > 0; turn += 1) {
      assert.ok(turn < 100_000, 'it is never closed');
      await new Promise((resolve) => setImmediate(resolve));
    }
  });

  test('is read by the pool where it is not', { skip }, async (context) => {
    const { file, bytes } = fileOf(context, addonWith({ readNoWait: () => -EAGAIN }));
    const into = new Uint8Array(100);
    const read = file.read(0, into);
    assert.ok(isPending(read));
    assert.equal(await read, 100);
    assert.deepEqual(into, bytes);
    await file.close();
  });

  for (const there of [0, 1, 40])
    test(`is read to its end when ${there} bytes were in memory`, { skip }, async (context) => {
      const readNoWait: Native['readNoWait'] = (fd, into, offset) =>
        there === 0 ? 0 : (native as Native).readBlocking(fd, into.subarray(0, there), offset);
      const { file, bytes } = fileOf(context, addonWith({ readNoWait }));
      const into = new Uint8Array(60).fill(0xee);
      assert.equal(await file.read(20, into), 60);
      assert.deepEqual(into, bytes.slice(20, 80));
      const behind = new Uint8Array(60);
      assert.equal(await file.read(90, behind), 10);
      assert.deepEqual(behind.subarray(0, 10), bytes.slice(90));
      await file.close();
    });

  test('learns once that its file system reads only by waiting', { skip }, async (context) => {
    let asked = 0;
    const readNoWait = () => {
      asked += 1;
      return -EOPNOTSUPP;
    };
    const { file, bytes } = fileOf(context, addonWith({ readNoWait }));
    for (let round = 0; round < 3; round += 1) {
      const into = new Uint8Array(100);
      const read = file.read(0, into);
      assert.ok(isPending(read), 'never on the loop');
      assert.equal(await read, 100);
      assert.deepEqual(into, bytes);
    }
    assert.equal(asked, 1);
    await file.close();
  });

  test('says failed when the device fails', { skip }, async (context) => {
    const isFailed = (error: unknown) =>
      isStorageError(error, 'failed') && /EIO/.test(error.message);
    const atOnce = fileOf(context, addonWith({ readNoWait: () => -EIO })).file;
    assert.throws(() => atOnce.read(0, new Uint8Array(1)), isFailed);
    const later = addonWith({ readNoWait: () => -EAGAIN, readLater: async () => -EIO });
    const { file } = fileOf(context, later);
    await assert.rejects(async () => file.read(0, new Uint8Array(1)), isFailed);
    const unsynced = fileOf(context, addonWith({ dataSync: async () => -EIO })).file;
    await assert.rejects(unsynced.datasync(), isFailed);
    await Promise.all([atOnce.close(), file.close(), unsynced.close()]);
  });

  test('keeps its descriptor while the pool reads by it', { skip }, async (context) => {
    let finish = (): void => {};
    const gate = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const readLater: Native['readLater'] = async (fd, into, offset) => {
      await gate;
      return (native as Native).readBlocking(fd, into, offset);
    };
    const { file, bytes } = fileOf(context, addonWith({ readNoWait: () => -EAGAIN, readLater }));
    const into = new Uint8Array(100);
    const read = file.read(0, into);
    let isClosed = false;
    const closed = file.close().then(() => {
      isClosed = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(isClosed, false);
    finish();
    assert.equal(await read, 100);
    assert.deepEqual(into, bytes);
    await closed;
  });

  test('holds space and makes holes by zeroes where it must', { skip }, async (context) => {
    const { file, bytes } = fileOf(context, addonWith({ allocate: () => -EOPNOTSUPP }));
    file.allocate(0, 5000);
    assert.equal(file.size(), 5000);
    file.punch(50, 10_000);
    assert.equal(file.size(), 5000);
    const into = new Uint8Array(5000);
    assert.equal(await file.read(0, into), 5000);
    assert.deepEqual(into.subarray(0, 50), bytes.subarray(0, 50));
    assert.ok(into.subarray(50).every((byte) => byte === 0));
    await file.close();
  });

  test('is no_space on a full file system, also halfway through', {
    skip: skip === false && process.getuid?.() !== 0 ? 'not root' : skip,
  }, async (context) => {
    assert.ok(native);
    const mount = join(temporaryFolder(context), 'small');
    mkdirSync(mount);
    assert.equal(native.mount('wharf-test', mount, 'tmpfs', 0, 'size=64k'), 0);
    try {
      const file = systemDisk(native).open(join(mount, 'f'), 'create');
      const parts = Array.from({ length: 100 }, () => new Uint8Array(1 * KiB).fill(1));
      const isFull = (error: unknown) => isStorageError(error, 'no_space');
      assert.throws(() => file.write(0, parts), isFull);
      assert.throws(() => file.allocate(0, 128 * KiB), isFull);
      file.truncate(0);
      file.write(0, parts.slice(0, 32));
      assert.equal(file.size(), 32 * KiB);
      await file.close();
    } finally {
      // Files are closed behind their users.
      for (let attempt = 0; native.unmountNow(mount, 0) !== 0; attempt += 1) {
        assert.ok(attempt < 1000, 'the file is never closed');
        await sleep(5);
      }
    }
  });
});

const holder = `
  const { systemDisk } = await import(process.argv[1]);
  const { loadNative } = await import(process.argv[2]);
  const native = process.argv[4] === 'addon' ? loadNative().native : undefined;
  systemDisk(native).lock(process.argv[3], 'the other process');
  process.stdout.write('locked');
  setInterval(() => {}, 1000);
`;

describe('a lock', () => {
  for (const by of ['addon', 'program'] as const)
    test(`is seen by other processes and ends with its own (by ${by})`, {
      skip: by === 'addon' && skip,
    }, async (context) => {
      const path = join(temporaryFolder(context), 'lock');
      const source = (name: string) =>
        new URL(`../../../src/platform/${name}`, import.meta.url).href;
      const child = spawn(
        process.execPath,
        [
          '--input-type=module',
          '-e',
          holder,
          source('system-disk.ts'),
          source('native.ts'),
          path,
          by,
        ],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      );
      context.after(() => child.kill('SIGKILL'));
      await once(child.stdout, 'data');
      const other = by === 'addon' ? [native, undefined] : [undefined];
      for (const addon of other)
        assert.throws(
          () => systemDisk(addon).lock(path, 'this one'),
          (error) => isStorageError(error, 'busy') && /the other process/.test(error.message),
        );
      child.kill('SIGKILL');
      await once(child, 'exit');
      for (const addon of other) systemDisk(addon).lock(path, 'this one').release();
    });
});
