import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KiB } from '../../../src/core/units.ts';
import { recordBytes } from '../../../src/format/journal-record.ts';
import { Journal } from '../../../src/log/journal.ts';
import { JournalFollower } from '../../../src/log/journal-follower.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import { MemoryDisk } from '../../../src/platform/memory-disk.ts';
import { quietLog } from '../../support/quiet-log.ts';

const checksum = tableChecksum();
const settings = { fileBytes: 64 * KiB, bytesMax: 256 * KiB };

async function open() {
  const options = { folder: '/journal/v', epoch: 1, tag: 77, afterSequence: 0, settings };
  const journal = await Journal.open(
    new MemoryDisk(),
    checksum,
    quietLog(),
    options,
    async () => {},
  );
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
