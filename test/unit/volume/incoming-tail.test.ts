/** Records that come from a volume's owner: none is missing, and all are the volume's. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import { KiB } from '../../../src/core/units.ts';
import { Journal } from '../../../src/log/journal.ts';
import { JournalFollower } from '../../../src/log/journal-follower.ts';
import { TailStore } from '../../../src/log/tail-store.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import { MemoryDisk } from '../../../src/platform/memory-disk.ts';
import { IncomingTail } from '../../../src/volume/incoming-tail.ts';
import { quietLog } from '../../support/quiet-log.ts';

const checksum = tableChecksum();
const tag = 77;

/** One record each: of sequences 1 to `count`. */
async function recordsOf(count: number): Promise<Uint8Array[]> {
  const settings = { fileBytes: 256 * KiB, bytesMax: 512 * KiB };
  const options = { folder: '/from', epoch: 1, tag, afterSequence: 0, settings };
  const journal = await Journal.open(new MemoryDisk(), checksum, quietLog(), options, () => {});
  const follower = new JournalFollower(journal, 0);
  const payload = new Uint8Array(4096).fill(1);
  const records: Uint8Array[] = [];
  for (let index = 0; index < count; index += 1) {
    journal.appendWrite(index, payload, Uint32Array.of(checksum.crc32c(payload)), 2 ** 30);
    records.push((await follower.next()).records);
  }
  await journal.close();
  return records;
}

function receive(afterSequence: number, its = tag) {
  const disk = new MemoryDisk();
  const store = TailStore.begin({ disk, checksum }, { folder: '/to', fileBytes: 16 * KiB });
  const placed: number[][] = [];
  const tail = new IncomingTail({
    ...{ store, epoch: 1, tag: its, afterSequence },
    place: async (files) => {
      placed.push(...files.map(({ records }) => records.map(({ header }) => header.sequence)));
    },
    remove: () => disk.removeFolder('/to'),
  });
  return { disk, tail, placed };
}

const isCode = (code: 'invalid' | 'corrupt') => (error: unknown) => isStorageError(error, code);

test('records follow each other, but for those that are on the backend', async () => {
  const records = await recordsOf(9);
  const { tail, placed, disk } = receive(2);
  tail.append(records[2] as Uint8Array, 0);
  tail.append(records[3] as Uint8Array, 0);
  assert.throws(() => tail.append(records[6] as Uint8Array, 5), isCode('invalid'));
  tail.append(records[6] as Uint8Array, 6);
  tail.append(records[7] as Uint8Array, 6);
  assert.equal(tail.lastSequence, 8);
  await tail.keep();
  // The file before the gap holds nothing that is needed.
  assert.deepEqual(placed, [[7, 8]]);
  assert.equal(disk.list('/to').length, 1);
});

test('the first record may not be one behind a gap either', async () => {
  const records = await recordsOf(4);
  const { tail } = receive(1);
  assert.throws(() => tail.append(records[2] as Uint8Array, 1), isCode('invalid'));
  await tail.drop();
});

test('records of another volume are refused', async () => {
  const [record] = await recordsOf(1);
  const { tail } = receive(0, tag + 1);
  assert.throws(() => tail.append(record as Uint8Array, 0), isCode('corrupt'));
  await tail.drop();
});

test('what is dropped leaves nothing, and what was kept stays', async () => {
  const [record] = await recordsOf(1);
  const dropped = receive(0);
  dropped.tail.append(record as Uint8Array, 0);
  await dropped.tail.drop();
  assert.deepEqual(dropped.disk.list('/to'), []);
  const kept = receive(0);
  kept.tail.append(record as Uint8Array, 0);
  await kept.tail.keep();
  await kept.tail.drop();
  assert.equal(kept.disk.list('/to').length, 1);
});
