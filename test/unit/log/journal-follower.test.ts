import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KiB } from '../../../src/core/units.ts';
import { isStorageError } from '../../../src/core/errors.ts';
import { fileHeaderBytes, recordBytes } from '../../../src/format/journal-record.ts';
import { Journal } from '../../../src/log/journal.ts';
import { JournalFollower } from '../../../src/log/journal-follower.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import { MemoryDisk } from '../../../src/platform/memory-disk.ts';
import { quietLog } from '../../support/quiet-log.ts';

const checksum = tableChecksum();
const settings = { fileBytes: 64 * KiB, bytesMax: 256 * KiB };

async function open(disk = new MemoryDisk()) {
  const options = { folder: '/journal/v', epoch: 1, tag: 77, afterSequence: 0, settings };
  const journal = await Journal.open(disk, checksum, quietLog(), options, async () => {});
  const payload = new Uint8Array(4096);
  const table = Uint32Array.of(checksum.crc32c(payload));
  const append = () => journal.appendWrite(0, payload, table, 2 ** 30).sequence;
  return { journal, append };
}

test('a follower has what was appended since it last looked', async () => {
  const { journal, append } = await open();
  const follower = new JournalFollower(journal, 0);
  append();
  append();
  assert.equal((await follower.next()).records.length, 2 * recordBytes(1));
  append();
  const { records, lastSequence } = await follower.next();
  assert.deepEqual([records.length, lastSequence], [recordBytes(1), 3]);
  await journal.close();
});

test('a follower has come as far as a journal that was trimmed before it looked', async () => {
  const { journal, append } = await open();
  const follower = new JournalFollower(journal, 0);
  for (let record = 0; record < 3; record += 1) append();
  await journal.sync();
  journal.trim(3);
  const { records, lastSequence } = await follower.next();
  assert.deepEqual([records.length, lastSequence], [0, 3]);
  append();
  assert.equal((await follower.next()).lastSequence, 4);
  await journal.close();
});

test('a follower passes over no record that was damaged on the disk', async () => {
  // Of the second of three, and of the only one: the sequence, up and down, and the length.
  const [sequenceAt, lengthAt] = [16, 6];
  for (const { records, damaged } of [
    { records: 3, damaged: 1 },
    { records: 1, damaged: 0 },
  ])
    for (const at of [sequenceAt, sequenceAt + 6, lengthAt, lengthAt + 1]) {
      const disk = new MemoryDisk();
      const { journal, append } = await open(disk);
      for (let record = 0; record < records; record += 1) append();
      const [file = ''] = disk.list('/journal/v');
      disk.flip(`/journal/v/${file}`, fileHeaderBytes + damaged * recordBytes(1) + at);
      assert.ok(
        await isAllOrRefused(new JournalFollower(journal, 0), records * recordBytes(1)),
        `byte ${at} of record ${damaged + 1} of ${records}`,
      );
      await journal.close();
    }
});

/** Whoever gets all of it sees what is damaged. */
async function isAllOrRefused(follower: JournalFollower, bytes: number): Promise<boolean> {
  let handedOut = 0;
  try {
    while (handedOut < bytes) {
      const { records } = await follower.next();
      if (records.length === 0) return false;
      handedOut += records.length;
    }
    return true;
  } catch (error) {
    return isStorageError(error, 'corrupt');
  }
}
