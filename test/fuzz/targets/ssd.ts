/** What lies on local SSDs. */

import assert from 'node:assert/strict';
import type { StoredLine } from '../../../src/cache/index-record.ts';
import {
  decodeIndexRecords,
  encodeIndexRecord,
  indexRecordBytes,
} from '../../../src/cache/index-record.ts';
import { limits } from '../../../src/core/limits.ts';
import { objectId } from '../../../src/core/units.ts';
import type { RecordHeader } from '../../../src/format/journal-record.ts';
import {
  decodeFileHeader,
  encodeFileHeader,
  encodeRecordHead,
  fileHeaderBytes,
  payloadOffset,
  peekRecord,
  recordBytes,
  recordHeaderBytes,
} from '../../../src/format/journal-record.ts';
import { recordsIn } from '../../../src/log/tail-store.ts';
import type { Target } from '../target.ts';
import { assertSame, checksum, sign, viewOf } from '../target.ts';

const { blockBytes } = limits;

export const journalFile: Target = {
  ...{ name: 'journal-file', kind: 'bytes', refuses: ['corrupt'] },
  samples: {
    first: encodeFileHeader({ number: 1, epoch: 1, firstSequence: 1 }, checksum),
    later: encodeFileHeader({ number: 900, epoch: 7, firstSequence: 2 ** 40 }, checksum),
  },
  repair: (input) => sign(input, 60),
  decode(input) {
    const found = decodeFileHeader(input, checksum);
    if (!found) return false;
    const again = encodeFileHeader(found, checksum);
    assertSame(again, input.subarray(0, fileHeaderBytes));
    return true;
  },
};

type Fields = Omit<RecordHeader, 'checksums' | 'epoch' | 'tag' | 'durableSequence' | 'volumeBytes'>;

function encodeHeader(header: RecordHeader): Uint8Array {
  const scratch = new Uint8Array(payloadOffset(header.checksums.length));
  const bytes = encodeRecordHead(scratch, viewOf(scratch), header, checksum);
  return scratch.subarray(0, bytes);
}

function record(fields: Fields, blocks = 0): Uint8Array {
  const payload = new Uint8Array(blocks * blockBytes).fill(fields.sequence);
  const checksums = new Uint32Array(blocks);
  checksum.crc32cBlocks(payload, blockBytes, checksums, 0);
  const rest = { epoch: 7, tag: 0x1234_5678, durableSequence: 3, volumeBytes: 2 ** 40 };
  return new Uint8Array(Buffer.concat([encodeHeader({ ...rest, ...fields, checksums }), payload]));
}

const write = record({ kind: 'write', sequence: 5, block: 9, count: 1 }, 1);
const trim = record({ kind: 'trim', sequence: 6, block: 8, count: 2 ** 20 });
const resize = record({ kind: 'resize', sequence: 7, block: 0, count: 0 });
const unaligned = record({ kind: 'resize', sequence: 8, block: 2, count: 1 }, 1);

/** Of each record, as far as they are whole: of the table, of its blocks, and of its head. */
function repairRecords(input: Uint8Array): void {
  for (let at = 0; at + recordHeaderBytes <= input.length; ) {
    const view = viewOf(input.subarray(at));
    const blocks = view.getUint16(6, true);
    const tableEnd = recordHeaderBytes + blocks * 4;
    const payload = input.subarray(at + payloadOffset(blocks));
    const inTable = Math.min(blocks, (view.byteLength - recordHeaderBytes) >> 2);
    for (let block = 0; block < inTable; block += 1) {
      const content = payload.subarray(block * blockBytes, (block + 1) * blockBytes);
      view.setUint32(recordHeaderBytes + block * 4, checksum.crc32c(content), true);
    }
    const fixed = checksum.crc32c(input.subarray(at, at + 60));
    const table = input.subarray(at + recordHeaderBytes, at + tableEnd);
    view.setUint32(60, checksum.crc32c(table, fixed), true);
    at += recordBytes(blocks);
  }
}

export const journalRecords: Target = {
  ...{ name: 'journal-records', kind: 'bytes', refuses: ['corrupt'] },
  samples: {
    write,
    trim,
    resize,
    unaligned,
    several: new Uint8Array(Buffer.concat([trim, resize, write])),
  },
  repair: repairRecords,
  decode(input) {
    const peeked = peekRecord(input);
    let end = 0;
    for (const { header, from, to } of recordsIn(input, checksum)) {
      assert.equal(from, end);
      if (from === 0) assert.deepEqual(peeked, { bytes: to, sequence: header.sequence });
      const { length } = header.checksums;
      const head = encodeHeader(header).subarray(0, recordHeaderBytes + 4 * length);
      assertSame(head, input.subarray(from, from + head.length));
      end = to;
    }
    assert.equal(end, input.length);
    return true;
  },
};

function indexSample(...lines: Partial<StoredLine>[]): Uint8Array {
  const bytes = new Uint8Array(lines.length * indexRecordBytes);
  for (const [slot, line] of lines.entries()) {
    const id = objectId('0123456789abcdef'.repeat(2));
    const whole = { ...{ slot, id, epoch: 7, sequence: 3, line: slot, valid: 0xffff }, ...line };
    encodeIndexRecord(whole, bytes.subarray(slot * indexRecordBytes), checksum);
  }
  return bytes;
}

export const cacheIndex: Target = {
  ...{ name: 'cache-index', kind: 'bytes', refuses: [] },
  samples: {
    one: indexSample({ valid: 1 }),
    several: indexSample({}, { id: objectId('f'.repeat(32)) }, {}),
    empty: new Uint8Array(2 * indexRecordBytes),
  },
  repair(input) {
    for (let at = 0; at + indexRecordBytes <= input.length; at += indexRecordBytes)
      sign(input.subarray(at, at + indexRecordBytes), indexRecordBytes - 4);
  },
  decode(input) {
    let found = 0;
    decodeIndexRecords(input, 100, checksum, (line) => {
      const at = (line.slot - 100) * indexRecordBytes;
      const again = new Uint8Array(indexRecordBytes);
      encodeIndexRecord(line, again, checksum);
      assertSame(again, input.subarray(at, at + indexRecordBytes));
      found += 1;
    });
    return found > 0;
  },
};
