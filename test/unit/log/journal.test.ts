import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import { KiB } from '../../../src/core/units.ts';
import { recordBytes } from '../../../src/format/journal-record.ts';
import type { JournalRecord } from '../../../src/log/journal.ts';
import { Journal } from '../../../src/log/journal.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import { MemoryDisk } from '../../../src/platform/memory-disk.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import { quietLog } from '../../support/quiet-log.ts';

const checksum = tableChecksum();
const folder = '/journal/v';
const settings = { fileBytes: 64 * KiB, bytesMax: 256 * KiB };

async function open(disk: MemoryDisk, options: { epoch?: number; after?: number } = {}) {
  const records: JournalRecord[] = [];
  const log = quietLog();
  const { epoch = 1, after = 0 } = options;
  const journalOptions = { folder, epoch, tag: 77, afterSequence: after, settings };
  const journal = await Journal.open(disk, checksum, log, journalOptions, (record) => {
    records.push(record);
  });
  return { journal, records, log };
}

function append(journal: Journal, block: number, value: number): number {
  const payload = new Uint8Array(4096).fill(value);
  const table = Uint32Array.of(checksum.crc32c(payload));
  return journal.appendWrite(block, payload, table, 2 ** 30).sequence;
}

const file = (number: number) => `${folder}/${String(number).padStart(8, '0')}.journal`;
const payloadAt = (record: number) => 64 + record * recordBytes(1) + 128;
const isCode = (code: 'corrupt' | 'failed' | 'no_space' | 'fenced') => (error: unknown) =>
  isStorageError(error, code);

describe('a journal', () => {
  test('replays what was appended, in order, with its payload', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    append(journal, 5, 1);
    journal.appendTrim(100, 2 ** 33, 2 ** 40);
    journal.appendResize(12_345, {
      block: 3,
      payload: new Uint8Array(4096).fill(9),
      checksum: checksum.crc32c(new Uint8Array(4096).fill(9)),
    });
    await journal.close();
    const again = await open(disk, { epoch: 2 });
    assert.deepEqual(
      again.records.map(({ kind, sequence, volumeBytes }) => [kind, sequence, volumeBytes]),
      [
        ['write', 1, 2 ** 30],
        ['trim', 2, 2 ** 40],
        ['resize', 3, 12_345],
      ],
    );
    const [written, trimmed, resized] = again.records;
    assert.ok(written?.kind === 'write' && trimmed?.kind === 'trim' && resized?.kind === 'resize');
    assert.deepEqual([trimmed.block, trimmed.count], [100, 2 ** 33]);
    const into = new Uint8Array(4096);
    await again.journal.read(written.file, written.offset, into);
    assert.ok(into.every((byte) => byte === 1));
    await again.journal.read(resized.tail?.file ?? 0, resized.tail?.offset ?? 0, into);
    assert.ok(into.every((byte) => byte === 9));
    await again.journal.close();
  });

  test('gives back what is reserved behind its last record when it is closed', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    append(journal, 1, 1);
    assert.equal(disk.open(file(1), 'read').size(), settings.fileBytes);
    await journal.close();
    assert.equal(disk.open(file(1), 'read').size(), 64 + recordBytes(1));
    const again = await open(disk, { epoch: 2 });
    assert.equal(again.records.length, 1);
    await again.journal.close();
  });

  test('shares one datasync among all who wait', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    append(journal, 0, 1);
    const first = journal.sync();
    const rest = Array.from({ length: 15 }, (_, index) => {
      if (index < 8) append(journal, index, 2);
      return journal.sync();
    });
    await Promise.all([first, ...rest]);
    assert.equal(disk.syncCount, 2);
    await journal.sync();
    assert.equal(disk.syncCount, 2, 'nothing new, nothing to do');
    await journal.close();
  });

  test('is not trusted again after a failed datasync', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    const { file: at, offset } = journal.appendWrite(
      0,
      new Uint8Array(4096).fill(3),
      Uint32Array.of(checksum.crc32c(new Uint8Array(4096).fill(3))),
      4096,
    );
    disk.faults.failingSyncs = 1;
    await assert.rejects(journal.sync(), isCode('failed'));
    await assert.rejects(journal.sync(), isCode('failed'));
    assert.throws(() => append(journal, 0, 1), isCode('failed'));
    const into = new Uint8Array(4096);
    await journal.read(at, offset, into);
    assert.ok(into.every((byte) => byte === 3));
    await journal.close();
  });

  test('is not trusted again after a failed write', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    append(journal, 0, 1);
    disk.faults.fails = (operation) => operation === 'write';
    assert.throws(() => append(journal, 0, 2), isCode('failed'));
    disk.faults.fails = () => false;
    assert.throws(() => append(journal, 0, 3), isCode('failed'));
    await assert.rejects(journal.sync(), isCode('failed'));
    await journal.close();
  });

  for (const syncedBefore of [0, 1, 7])
    test(`of a process that failed is durable once it is recovered, ${syncedBefore} records from before`, async () => {
      const failing = new MemoryDisk();
      const { journal } = await open(failing);
      for (let sequence = 1; sequence <= syncedBefore; sequence += 1) {
        append(journal, sequence, 1);
        await journal.sync();
      }
      append(journal, 100, 1);
      append(journal, 101, 1);
      failing.faults.failingSyncs = 1;
      await assert.rejects(journal.sync(), isCode('failed'));
      await journal.close();
      const recovered = await open(failing.reopened(), { epoch: 2 });
      assert.equal(recovered.records.length, syncedBefore + 2);
      await recovered.journal.close();
      for (let seed = 1; seed <= 10; seed += 1) {
        const found = failing.crash(seededRandom(seed));
        const after = await open(found, { epoch: 3 });
        assert.equal(after.records.length, syncedBefore + 2);
        await after.journal.close();
      }
    });

  test('refuses a new file without space, and goes on when there is some', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    append(journal, 0, 1);
    disk.faults.freeBytes = 0;
    assert.throws(() => {
      for (let index = 0; index < 100; index += 1) append(journal, index, 2);
    }, isCode('no_space'));
    const last = journal.lastSequence;
    disk.faults.freeBytes = Number.POSITIVE_INFINITY;
    assert.equal(append(journal, 0, 3), last + 1);
    await journal.close();
    assert.equal((await open(disk, { epoch: 2 })).records.length, last + 1);
  });

  test('gives up for a new one, on a full SSD, a file that was being synced when it was trimmed', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    const full = Math.floor((settings.fileBytes - 64) / recordBytes(1));
    for (let index = 0; index < full; index += 1) append(journal, 0, 1);
    disk.faults.freeBytes = 0;
    const held = Promise.withResolvers<void>();
    disk.faults.pause = () => held.promise;
    const synced = journal.sync();
    journal.trim(journal.lastSequence);
    held.resolve();
    await synced;
    assert.throws(() => append(journal, 0, 2), isCode('no_space'));
    append(journal, 0, 3);
    await journal.close();
  });

  test('cuts a torn end and says so', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    for (let index = 0; index < 5; index += 1) append(journal, index, index);
    await journal.close();
    disk.flip(file(1), payloadAt(4) + 10);
    const again = await open(disk, { epoch: 2 });
    assert.equal(again.records.length, 4);
    assert.ok(again.log.lines.some(({ message }) => message === 'torn end of the journal is cut'));
    assert.equal(append(again.journal, 9, 9), 5);
    await again.journal.sync();
    await again.journal.close();
    const third = await open(disk, { epoch: 3 });
    assert.deepEqual(
      third.records.map((record) => (record.kind === 'write' ? record.block : -1)),
      [0, 1, 2, 3, 9],
    );
  });

  for (const [what, lost] of [
    ['records that are whole', [1]],
    ['no whole record', [1, 2]],
  ] as const)
    test(`keeps no file behind a torn end, with ${what}`, async () => {
      const disk = new MemoryDisk();
      const { journal } = await open(disk);
      for (let index = 0; index < 16; index += 1) append(journal, index, index);
      await journal.close();
      assert.equal(disk.list(folder).length, 2);
      for (const number of lost) disk.flip(file(number), 64);
      const { journal: again } = await open(disk, { epoch: 2 });
      assert.equal(append(again, 0, 1), 1);
      again.trim(1);
      assert.equal(again.usedBytes, 0);
      await again.close();
      assert.deepEqual(disk.list(folder), []);
    });

  test('keeps a durable record whose payload is damaged, with an alarm', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    for (let index = 0; index < 5; index += 1) {
      append(journal, index, index);
      await journal.sync();
    }
    await journal.close();
    disk.flip(file(1), payloadAt(1) + 10);
    const { records, log } = await open(disk, { epoch: 2 });
    assert.equal(records.length, 5);
    assert.ok(log.lines.some(({ level }) => level === 'error'));
  });

  test('refuses to serve when a durable record can not be read', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    for (let index = 0; index < 5; index += 1) {
      append(journal, index, index);
      await journal.sync();
    }
    await journal.close();
    disk.flip(file(1), 64 + recordBytes(1) + 20);
    await assert.rejects(open(disk, { epoch: 2 }), isCode('corrupt'));
  });

  test('refuses to serve when a file with durable records is gone', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    for (let index = 0; index < 40; index += 1) {
      append(journal, index, index);
      await journal.sync();
    }
    await journal.close();
    disk.remove(file(2));
    await assert.rejects(open(disk, { epoch: 2 }), isCode('corrupt'));
  });

  test('refuses the journal of a later tenure', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk, { epoch: 7 });
    append(journal, 0, 1);
    await journal.close();
    await assert.rejects(open(disk, { epoch: 6 }), isCode('fenced'));
  });

  test('skips what is on the backend already, and removes its files', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    for (let index = 0; index < 40; index += 1) append(journal, index, index);
    await journal.close();
    const { journal: again, records } = await open(disk, { epoch: 2, after: 30 });
    assert.deepEqual([records[0]?.sequence, records.length], [31, 10]);
    assert.equal(disk.list(folder).length, 1);
    again.trim(40);
    await again.close();
    assert.equal(disk.list(folder).length, 0);
  });

  test('lets a reader finish in a file that is trimmed meanwhile', async () => {
    const disk = new MemoryDisk();
    disk.faults.slowReads = true;
    const { journal } = await open(disk);
    const at = {
      ...journal.appendWrite(0, new Uint8Array(4096).fill(8), new Uint32Array(1), 4096),
    };
    const into = new Uint8Array(4096);
    const reading = journal.read(at.file, at.offset, into);
    journal.trim(at.sequence);
    assert.equal(await reading, 4096);
    assert.ok(into.every((byte) => byte === 8));
    await journal.close();
  });

  test('recovers a prefix that holds all that was synced, after 600 power cuts', async () => {
    for (let seed = 1; seed <= 150; seed += 1) {
      const random = seededRandom(seed);
      let disk = new MemoryDisk();
      let expected: number[] = [];
      let synced = 0;
      for (let epoch = 1; epoch <= 4; epoch += 1) {
        const { journal, records } = await open(disk, { epoch });
        const found = records.map((record) => (record.kind === 'write' ? record.block : -1));
        assert.ok(found.length >= synced, `seed ${seed}: synced records are lost`);
        assert.deepEqual(found, expected.slice(0, found.length), `seed ${seed}: not a prefix`);
        expected = found;
        synced = found.length;
        for (let step = 0; step < 25; step += 1) {
          if (random.fraction() < 0.15) {
            await journal.sync();
            synced = expected.length;
          } else if (journal.hasRoom(4096)) {
            const block = Math.floor(random.fraction() * 1000);
            append(journal, block, step);
            expected.push(block);
          }
        }
        disk = disk.crash(random);
        await journal.close();
      }
    }
  });
});
