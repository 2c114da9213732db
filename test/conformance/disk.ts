/** The contract of `Disk` (src/ports/disk.ts). */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ErrorCode } from '../../src/core/errors.ts';
import { isStorageError } from '../../src/core/errors.ts';
import { KiB, MiB } from '../../src/core/units.ts';
import { seededRandom } from '../../src/platform/random.ts';
import type { Disk, DiskFile } from '../../src/ports/disk.ts';

export interface OpenedDisk extends AsyncDisposable {
  readonly disk: Disk;
  /** An empty folder of the test's own. */
  readonly folder: string;
}

const isCode = (code: ErrorCode) => (error: unknown) => isStorageError(error, code);

/** Bytes that tell their own place, different for each seed. */
function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + (index >> 8) + seed * 31) & 255);
}

async function readBack(file: DiskFile, offset: number, length: number): Promise<Uint8Array> {
  const into = new Uint8Array(length).fill(0xee);
  const count = await file.read(offset, into);
  return into.subarray(0, count);
}

export function diskSuite(
  name: string,
  open: () => Promise<OpenedDisk>,
  supports: { readonly skip?: string } = {},
): void {
  const withDisk = (title: string, body: (disk: Disk, folder: string) => Promise<void>) =>
    test(title, { skip: supports.skip ?? false }, async () => {
      await using opened = await open();
      await body(opened.disk, opened.folder);
    });

  describe(`${name} as a disk`, () => {
    bytesOfFiles(withDisk);
    space(withDisk);
    names(withDisk);
    lifecycle(withDisk);
    locks(withDisk);
  });
}

type WithDisk = (title: string, body: (disk: Disk, folder: string) => Promise<void>) => void;

function bytesOfFiles(withDisk: WithDisk): void {
  withDisk('gives back what was written, at any alignment', async (disk, folder) => {
    const file = disk.open(`${folder}/f`, 'create');
    const bytes = pattern(300_000, 1);
    file.write(0, [bytes]);
    for (const [offset, length] of [
      [0, 300_000],
      [1, 4096],
      [4095, 2],
      [131_071, 65_537],
      [299_999, 1],
    ] as const)
      assert.deepEqual(
        await readBack(file, offset, length),
        bytes.slice(offset, offset + length),
        `${length} from ${offset}`,
      );
    await file.close();
  });

  withDisk('writes many parts one behind another, empty ones too', async (disk, folder) => {
    const file = disk.open(`${folder}/f`, 'create');
    const parts = Array.from({ length: 150 }, (_, index) => pattern((index * 37) % 4100, index));
    file.write(10, parts);
    const whole = Buffer.concat(parts);
    assert.equal(file.size(), 10 + whole.length);
    assert.deepEqual(Buffer.from(await readBack(file, 10, whole.length)), whole);
    file.write(0, []);
    file.write(0, [new Uint8Array(0)]);
    assert.equal(file.size(), 10 + whole.length);
    await file.close();
  });

  withDisk('has taken the bytes when a write returns', async (disk, folder) => {
    const file = disk.open(`${folder}/f`, 'create');
    const bytes = pattern(8192, 3);
    const given = bytes.slice();
    file.write(0, [given.subarray(0, 100), given.subarray(100)]);
    given.fill(0);
    await file.datasync();
    assert.deepEqual(await readBack(file, 0, 8192), bytes);
    await file.close();
  });

  withDisk('fills only its part of a larger buffer', async (disk, folder) => {
    const file = disk.open(`${folder}/f`, 'create');
    file.write(0, [pattern(1000, 4)]);
    const memory = new Uint8Array(3000).fill(0xaa);
    assert.equal(await file.read(100, memory.subarray(1000, 1500)), 500);
    assert.deepEqual(memory.subarray(1000, 1500), pattern(1000, 4).slice(100, 600));
    assert.ok([...memory.subarray(0, 1000), ...memory.subarray(1500)].every((b) => b === 0xaa));
    await file.close();
  });

  withDisk('gives fewer bytes at the end alone', async (disk, folder) => {
    const file = disk.open(`${folder}/f`, 'create');
    assert.equal((await readBack(file, 0, 10)).length, 0);
    file.write(0, [pattern(5000, 5)]);
    assert.deepEqual(await readBack(file, 4990, 100), pattern(5000, 5).slice(4990));
    assert.equal((await readBack(file, 5000, 100)).length, 0);
    assert.equal((await readBack(file, 1 * MiB, 100)).length, 0);
    await file.close();
  });

  withDisk('shows zeroes between the end and a write behind it', async (disk, folder) => {
    const file = disk.open(`${folder}/f`, 'create');
    file.write(0, [pattern(10, 6)]);
    file.write(100_000, [pattern(10, 7)]);
    assert.ok((await readBack(file, 10, 99_990)).every((byte) => byte === 0));
    assert.equal(file.size(), 100_010);
    await file.close();
  });

  withDisk('agrees with a plain array under random changes', async (disk, folder) => {
    const seed = 4711;
    const random = seededRandom(seed);
    const below = (bound: number) => Math.floor(random.fraction() * bound);
    const file = disk.open(`${folder}/f`, 'create');
    let truth = new Uint8Array(0);
    const resize = (bytes: number) => {
      const next = new Uint8Array(bytes);
      next.set(truth.subarray(0, bytes));
      truth = next;
    };
    for (let step = 0; step < 300; step += 1) {
      const what = random.fraction();
      const offset = below(200_000);
      const length = 1 + below(30_000);
      if (what < 0.5) {
        const bytes = pattern(length, step);
        const cut = below(length);
        file.write(offset, [bytes.subarray(0, cut), bytes.subarray(cut)]);
        if (truth.length < offset + length) resize(offset + length);
        truth.set(bytes, offset);
      } else if (what < 0.65) {
        file.punch(offset, length);
        truth.fill(0, offset, offset + length);
      } else if (what < 0.75) {
        file.truncate(offset);
        resize(offset);
      } else if (what < 0.85) {
        file.allocate(offset, length);
        if (truth.length < offset + length) resize(offset + length);
      } else if (what < 0.9) await file.datasync();
      assert.equal(file.size(), truth.length, `seed ${seed} step ${step}`);
      const found = await readBack(file, offset, length);
      assert.deepEqual(found, truth.slice(offset, offset + length), `seed ${seed} step ${step}`);
    }
    assert.deepEqual(await readBack(file, 0, truth.length), truth);
    await file.close();
  });

  withDisk('answers reads that overlap, each with its own bytes', async (disk, folder) => {
    const file = disk.open(`${folder}/f`, 'create');
    const bytes = pattern(1 * MiB, 8);
    file.write(0, [bytes]);
    const reads = Array.from({ length: 64 }, (_, index) => readBack(file, index * 9_000, 20_000));
    for (const [index, found] of (await Promise.all(reads)).entries())
      assert.deepEqual(found, bytes.slice(index * 9_000, index * 9_000 + 20_000));
    await file.close();
  });
}

function space(withDisk: WithDisk): void {
  withDisk('reserves space behind the end as zeroes', async (disk, folder) => {
    const file = disk.open(`${folder}/f`, 'create');
    file.write(0, [pattern(5000, 1)]);
    file.allocate(0, 256 * KiB);
    assert.equal(file.size(), 256 * KiB);
    assert.deepEqual(await readBack(file, 0, 5000), pattern(5000, 1));
    assert.ok((await readBack(file, 5000, 256 * KiB - 5000)).every((byte) => byte === 0));
    file.allocate(0, 4096);
    assert.equal(file.size(), 256 * KiB, 'it never shrinks');
    await file.close();
  });

  withDisk('reads zeroes where it was punched, and keeps its size', async (disk, folder) => {
    const file = disk.open(`${folder}/f`, 'create');
    const bytes = pattern(100_000, 2);
    file.write(0, [bytes]);
    file.punch(10_001, 50_003);
    file.punch(95_000, 1 * MiB);
    file.punch(2 * MiB, 4096);
    bytes.fill(0, 10_001, 60_004).fill(0, 95_000);
    assert.equal(file.size(), 100_000);
    assert.deepEqual(await readBack(file, 0, 100_000), bytes);
    await file.close();
  });

  withDisk('shows zeroes where it was cut and grew again', async (disk, folder) => {
    const file = disk.open(`${folder}/f`, 'create');
    file.write(0, [pattern(10_000, 3)]);
    file.truncate(3000);
    assert.equal((await readBack(file, 0, 10_000)).length, 3000);
    file.truncate(10_000);
    assert.deepEqual(await readBack(file, 0, 3000), pattern(10_000, 3).slice(0, 3000));
    assert.ok((await readBack(file, 3000, 7000)).every((byte) => byte === 0));
    await file.close();
  });

  withDisk('tells how much room there is', async (disk, folder) => {
    const { totalBytes, freeBytes } = disk.space(folder);
    assert.ok(freeBytes > 0 && freeBytes <= totalBytes);
    assert.throws(() => disk.space(`${folder}/nowhere`), isCode('not_found'));
  });
}

function names(withDisk: WithDisk): void {
  withDisk('opens as it is asked to', async (disk, folder) => {
    const path = `${folder}/f`;
    assert.throws(() => disk.open(path, 'existing'), isCode('not_found'));
    assert.throws(() => disk.open(path, 'read'), isCode('not_found'));
    assert.throws(() => disk.open(`${folder}/no/f`, 'create'), isCode('not_found'));
    const made = disk.open(path, 'exclusive');
    assert.equal(made.path, path);
    made.write(0, [pattern(10, 1)]);
    assert.throws(() => disk.open(path, 'exclusive'), isCode('exists'));
    const same = disk.open(path, 'create');
    assert.deepEqual(await readBack(same, 0, 10), pattern(10, 1));
    const reader = disk.open(path, 'read');
    assert.deepEqual(await readBack(reader, 0, 10), pattern(10, 1));
    assert.throws(() => reader.write(0, [pattern(10, 2)]), isCode('failed'));
    assert.deepEqual(await readBack(disk.open(path, 'existing'), 0, 10), pattern(10, 1));
    await Promise.all([made.close(), same.close(), reader.close()]);
  });

  withDisk('lists names in order, and nothing where there is no folder', async (disk, folder) => {
    for (const name of ['b', 'a10', 'a2', 'Z'])
      await disk.open(`${folder}/${name}`, 'create').close();
    disk.makeFolder(`${folder}/c/d`);
    await disk.open(`${folder}/c/inside`, 'create').close();
    assert.deepEqual(disk.list(folder), ['Z', 'a10', 'a2', 'b', 'c']);
    assert.deepEqual(disk.list(`${folder}/c`), ['d', 'inside']);
    assert.deepEqual(disk.list(`${folder}/nowhere`), []);
  });

  withDisk('makes a folder with its parents, as often as asked', async (disk, folder) => {
    disk.makeFolder(`${folder}/x/y/z`);
    disk.makeFolder(`${folder}/x/y/z`);
    await disk.open(`${folder}/x/y/z/f`, 'exclusive').close();
    disk.syncFolder(`${folder}/x/y/z`);
    assert.throws(() => disk.syncFolder(`${folder}/nowhere`), isCode('not_found'));
  });

  withDisk('removes a file while others read it', async (disk, folder) => {
    const file = disk.open(`${folder}/f`, 'create');
    file.write(0, [pattern(5000, 1)]);
    disk.remove(`${folder}/f`);
    assert.deepEqual(disk.list(folder), []);
    assert.throws(() => disk.remove(`${folder}/f`), isCode('not_found'));
    assert.deepEqual(await readBack(file, 0, 5000), pattern(5000, 1));
    const other = disk.open(`${folder}/f`, 'exclusive');
    assert.equal(other.size(), 0);
    await Promise.all([file.close(), other.close()]);
  });

  withDisk('removes a folder and all in it; none is no error', async (disk, folder) => {
    disk.makeFolder(`${folder}/x/y`);
    await disk.open(`${folder}/x/y/f`, 'create').close();
    await disk.open(`${folder}/xy`, 'create').close();
    disk.removeFolder(`${folder}/x`);
    disk.removeFolder(`${folder}/x`);
    assert.deepEqual(disk.list(folder), ['xy']);
  });

  withDisk('renames over what was there', async (disk, folder) => {
    const file = disk.open(`${folder}/a`, 'create');
    file.write(0, [pattern(100, 1)]);
    const other = disk.open(`${folder}/b`, 'create');
    other.write(0, [pattern(100, 2)]);
    disk.rename(`${folder}/a`, `${folder}/b`);
    assert.deepEqual(disk.list(folder), ['b']);
    const found = disk.open(`${folder}/b`, 'read');
    assert.deepEqual(await readBack(found, 0, 100), pattern(100, 1));
    assert.throws(() => disk.rename(`${folder}/a`, `${folder}/c`), isCode('not_found'));
    assert.throws(() => disk.rename(`${folder}/b`, `${folder}/no/c`), isCode('not_found'));
    await Promise.all([file.close(), other.close(), found.close()]);
  });
}

function lifecycle(withDisk: WithDisk): void {
  withDisk('refuses every call of a closed file', async (disk, folder) => {
    const file = disk.open(`${folder}/f`, 'create');
    file.write(0, [pattern(5000, 1)]);
    await file.close();
    await file.close();
    const closed = isCode('closed');
    await assert.rejects(async () => file.read(0, new Uint8Array(10)), closed);
    assert.throws(() => file.write(0, [new Uint8Array(10)]), closed);
    await assert.rejects(file.datasync(), closed);
    assert.throws(() => file.allocate(0, 10), closed);
    assert.throws(() => file.punch(0, 10), closed);
    assert.throws(() => file.truncate(0), closed);
    assert.throws(() => file.size(), closed);
  });

  withDisk('waits for reads and syncs in flight when it is closed', async (disk, folder) => {
    const file = disk.open(`${folder}/f`, 'create');
    const bytes = pattern(1 * MiB, 2);
    file.write(0, [bytes]);
    let ended = 0;
    const reads = Array.from({ length: 8 }, async () => {
      const found = await readBack(file, 0, 1 * MiB);
      ended += 1;
      return found;
    });
    const synced = file.datasync();
    const closing = file.close();
    assert.equal(closing instanceof Promise, true);
    await assert.rejects(async () => file.read(0, new Uint8Array(10)), isCode('closed'));
    await closing;
    await Promise.all([...reads, synced]);
    assert.equal(ended, 8);
    for (const read of reads) assert.deepEqual(await read, bytes);
  });

  withDisk('shows one open what another wrote', async (disk, folder) => {
    const writer = disk.open(`${folder}/f`, 'create');
    const reader = disk.open(`${folder}/f`, 'read');
    writer.write(0, [pattern(100, 1)]);
    assert.deepEqual(await readBack(reader, 0, 100), pattern(100, 1));
    await writer.close();
    assert.deepEqual(await readBack(reader, 0, 100), pattern(100, 1));
    await reader.close();
  });
}

function locks(withDisk: WithDisk): void {
  withDisk('locks once, and tells who holds it', async (disk, folder) => {
    const first = disk.lock(`${folder}/lock`, 'host a, process 1');
    assert.throws(
      () => disk.lock(`${folder}/lock`, 'host b'),
      (error) => isStorageError(error, 'busy') && error.message.includes('host a, process 1'),
    );
    const other = disk.lock(`${folder}/other`, 'host c');
    first.release();
    first.release();
    const second = disk.lock(`${folder}/lock`, 'b');
    first.release();
    assert.throws(
      () => disk.lock(`${folder}/lock`, 'host d'),
      (error) => isStorageError(error, 'busy') && error.message.endsWith('in use by b'),
    );
    second.release();
    other.release();
  });
}
