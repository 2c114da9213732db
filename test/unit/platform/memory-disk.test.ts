import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import { MemoryDisk } from '../../../src/platform/memory-disk.ts';
import { seededRandom } from '../../../src/platform/random.ts';

const path = '/f';
const filled = (length: number, value: number) => new Uint8Array(length).fill(value);
const seeds = Array.from({ length: 200 }, (_, index) => index + 1);

/** Every content that the file is found with after power cuts with many seeds; undefined: none. */
function outcomes(disk: MemoryDisk, name = path): (Uint8Array | undefined)[] {
  return seeds.map((seed) => contentOf(disk.crash(seededRandom(seed)), name));
}

function contentOf(disk: MemoryDisk, name = path): Uint8Array | undefined {
  if (!disk.list('/').includes(name.slice(1))) return undefined;
  const file = disk.open(name, 'read');
  const into = new Uint8Array(file.size());
  file.read(0, into);
  return into;
}

/** What was found, each once, as text in order. */
function distinct(found: readonly unknown[]): string[] {
  return [...new Set(found.map(String))].sort();
}

/** A disk with one file of that content; its name and bytes are durable. */
async function diskWith(bytes: Uint8Array) {
  const disk = new MemoryDisk();
  const file = disk.open(path, 'create');
  file.write(0, [bytes]);
  await file.datasync();
  disk.syncFolder('/');
  return { disk, file };
}

describe('a disk in memory whose power goes', () => {
  test('keeps what was synced, always', async () => {
    const { disk } = await diskWith(filled(3000, 1));
    for (const found of outcomes(disk)) assert.deepEqual(found, filled(3000, 1));
  });

  test('keeps, loses or tears a write that was not synced', async () => {
    const { disk, file } = await diskWith(filled(4096, 1));
    file.write(100, [filled(3000, 2)]);
    const whole = filled(4096, 1).fill(2, 100, 3100);
    let lost = 0;
    let kept = 0;
    let torn = 0;
    for (const found of outcomes(disk)) {
      assert.ok(found);
      assert.ok(found.subarray(0, 100).every((byte) => byte === 1));
      assert.ok(found.subarray(3100).every((byte) => byte === 1));
      const isKept = Buffer.compare(found, whole) === 0;
      if (isKept) kept += 1;
      else if (found.every((byte) => byte === 1)) lost += 1;
      else torn += 1;
      // A sector is one or the other, never both.
      for (let at = 512; at < 3072; at += 512)
        assert.equal(new Set(found.subarray(at, at + 512)).size, 1, `sector at ${at}`);
    }
    assert.ok(lost > 0 && kept > 0 && torn > 0, `${lost} lost, ${kept} kept, ${torn} torn`);
  });

  test('lets a later write survive an earlier one', async () => {
    const { disk, file } = await diskWith(filled(1024, 0));
    file.write(0, [filled(512, 1)]);
    file.write(512, [filled(512, 2)]);
    const found = outcomes(disk).map((bytes) => `${bytes?.[0]}${bytes?.[512]}`);
    assert.deepEqual(distinct(found), ['00', '02', '10', '12']);
  });

  test('covers by a datasync only what was written before it', async () => {
    const { disk, file } = await diskWith(filled(512, 0));
    file.write(0, [filled(512, 1)]);
    const syncing = file.datasync();
    file.write(0, [filled(512, 2)]);
    await syncing;
    assert.deepEqual(distinct(outcomes(disk).map((bytes) => bytes?.[0])), ['1', '2']);
  });

  test('may forget a size that was not synced', async () => {
    const { disk, file } = await diskWith(filled(1000, 1));
    file.truncate(10);
    const shrunk = outcomes(disk).map((bytes) => bytes?.length);
    assert.deepEqual(distinct(shrunk), ['10', '1000']);
    await file.datasync();
    assert.ok(outcomes(disk).every((bytes) => bytes?.length === 10));
    file.allocate(0, 2000);
    const grown = outcomes(disk).map((bytes) => bytes?.length);
    assert.deepEqual(distinct(grown), ['10', '2000']);
  });

  test('never makes durable later what a failed datasync covered', async () => {
    const { disk, file } = await diskWith(filled(512, 1));
    file.write(0, [filled(512, 2)]);
    disk.faults.failingSyncs = 1;
    await assert.rejects(file.datasync(), (error) => isStorageError(error, 'failed'));
    await file.datasync();
    const into = new Uint8Array(512);
    file.read(0, into);
    assert.equal(into[0], 2, 'readers still see it');
    assert.ok(outcomes(disk).every((bytes) => bytes?.[0] === 1));
  });

  test('knows a name for certain once its folder was synced', async () => {
    const disk = new MemoryDisk();
    const file = disk.open(path, 'create');
    file.write(0, [filled(10, 1)]);
    await file.datasync();
    const before = outcomes(disk);
    assert.ok(before.some((bytes) => bytes === undefined));
    assert.ok(before.some((bytes) => bytes?.length === 10));
    disk.syncFolder('/');
    assert.ok(outcomes(disk).every((bytes) => bytes?.length === 10));
    disk.remove(path);
    const removed = outcomes(disk);
    assert.ok(removed.some((bytes) => bytes === undefined));
    assert.ok(removed.some((bytes) => bytes?.length === 10));
    disk.syncFolder('/');
    assert.ok(outcomes(disk).every((bytes) => bytes === undefined));
  });

  test('renames as a whole or not at all', async () => {
    const { disk } = await diskWith(filled(10, 1));
    const next = disk.open('/g', 'create');
    next.write(0, [filled(10, 2)]);
    await next.datasync();
    disk.syncFolder('/');
    disk.rename('/g', path);
    const found = seeds.map((seed) => {
      const after = disk.crash(seededRandom(seed));
      return `${contentOf(after)?.[0]} ${contentOf(after, '/g')?.[0]}`;
    });
    assert.deepEqual(distinct(found), ['1 2', '2 undefined']);
  });

  test('brings nothing back that was there before a folder took its place', async () => {
    const disk = new MemoryDisk();
    for (const folder of ['/old', '/new']) {
      disk.makeFolder(folder);
      const file = disk.open(`${folder}/f`, 'create');
      file.write(0, [filled(4, folder === '/new' ? 2 : 1)]);
      await file.datasync();
      disk.syncFolder(folder);
    }
    disk.removeFolder('/old');
    disk.rename('/new', '/old');
    disk.syncFolder('/');
    disk.syncFolder('/old');
    for (const seed of seeds) {
      const found = disk.crash(seededRandom(seed)).open('/old/f', 'read');
      const bytes = new Uint8Array(4);
      found.read(0, bytes);
      assert.deepEqual(bytes, filled(4, 2));
    }
  });

  test('has a folder under one of its names, with all that is in it', async () => {
    const disk = new MemoryDisk();
    disk.makeFolder('/old');
    await disk.open('/old/f', 'create').datasync();
    disk.syncFolder('/old');
    disk.rename('/old', '/new');
    const names = seeds.map((seed) => {
      const found = disk.crash(seededRandom(seed));
      const [folder = ''] = ['/old', '/new'].filter((name) => found.list(name).includes('f'));
      found.open(`${folder}/f`, 'read');
      return folder;
    });
    assert.deepEqual(distinct(names), ['/new', '/old']);
  });

  test('has in a folder that was renamed what was removed there and is not gone for good', async () => {
    const disk = new MemoryDisk();
    disk.makeFolder('/old');
    for (const name of ['/old/f', '/old/g']) await disk.open(name, 'create').datasync();
    disk.syncFolder('/old');
    disk.remove('/old/g');
    disk.rename('/old', '/new');
    disk.syncFolder('/');
    const names = seeds.map((seed) => {
      const found = disk.crash(seededRandom(seed));
      assert.deepEqual(found.list('/old'), []);
      return found.list('/new').join();
    });
    assert.deepEqual(distinct(names), ['f', 'f,g']);
  });

  test('gives the same after the same seed, and goes on as it was', async () => {
    const { disk, file } = await diskWith(filled(8192, 1));
    for (let index = 0; index < 16; index += 1) file.write(index * 512, [filled(700, index)]);
    const first = contentOf(disk.crash(seededRandom(5)));
    assert.deepEqual(contentOf(disk.crash(seededRandom(5))), first);
    const crashed = disk.crash(seededRandom(6));
    crashed.open(path, 'existing').write(0, [filled(8192, 99)]);
    const into = new Uint8Array(512);
    file.read(0, into);
    assert.ok(into.every((byte) => byte === 0));
  });

  test('loses nothing when only the process dies', async () => {
    const disk = new MemoryDisk();
    const lock = disk.lock('/lock', 'the first');
    disk.open(path, 'create').write(0, [filled(10, 1)]);
    const again = disk.reopened();
    assert.deepEqual(contentOf(again), filled(10, 1));
    assert.ok(outcomes(again).some((bytes) => bytes === undefined));
    again.lock('/lock', 'the second').release();
    lock.release();
  });
});

describe('a disk in memory that fails on order', () => {
  test('is full after so many new bytes', () => {
    const disk = new MemoryDisk();
    const file = disk.open(path, 'create');
    disk.faults.freeBytes = 1000;
    file.write(0, [filled(600, 1)]);
    file.write(0, [filled(600, 2)]);
    assert.throws(
      () => file.write(600, [filled(401, 3)]),
      (error) => isStorageError(error, 'no_space'),
    );
    assert.equal(file.size(), 600);
    assert.throws(
      () => file.allocate(0, 1001),
      (error) => isStorageError(error, 'no_space'),
    );
    file.write(600, [filled(400, 3)]);
  });

  test('damages the bytes it is told to', async () => {
    const { disk, file } = await diskWith(filled(100, 1));
    disk.flip(path, 10, 5);
    const into = new Uint8Array(100);
    file.read(0, into);
    assert.deepEqual(
      [...into].flatMap((byte, at) => (byte === 1 ? [] : [at])),
      [10, 11, 12, 13, 14],
    );
    assert.deepEqual(outcomes(disk)[0], into, 'for good');
    disk.misdirect(path, 98, filled(5, 7));
    file.read(0, into);
    assert.deepEqual([...into.subarray(97)], [1, 7, 7], 'as far as the file goes');
  });

  test('fails the calls it is told to', async () => {
    const { disk, file } = await diskWith(filled(100, 1));
    const isFailed = (error: unknown) => isStorageError(error, 'failed');
    disk.faults.fails = (operation) => operation === 'read';
    assert.throws(() => file.read(0, new Uint8Array(1)), isFailed);
    disk.faults.slowReads = true;
    await assert.rejects(async () => file.read(0, new Uint8Array(1)), isFailed);
    disk.faults.fails = (operation, of) => operation === 'write' && of === path;
    assert.throws(() => file.write(0, [filled(1, 1)]), isFailed);
    disk.open('/other', 'create').write(0, [filled(1, 1)]);
    disk.faults.fails = (operation) => operation === 'open';
    assert.throws(() => disk.open(path, 'read'), isFailed);
  });
});
