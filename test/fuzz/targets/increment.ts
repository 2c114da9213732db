/** What is read of a file or a pipe that somebody hands over. */

import type { Change } from '../../../src/cli/increment-reader.ts';
import { readIncrement } from '../../../src/cli/increment-reader.ts';
import { objectId } from '../../../src/core/units.ts';
import type { IncrementHeader } from '../../../src/format/increment.ts';
import {
  encodeIncrementHeader,
  encodeIncrementRecord,
  incrementRecordBytes,
  incrementStartBytes,
} from '../../../src/format/increment.ts';
import type { Target } from '../target.ts';
import { assertSame, checksum, sign, viewOf } from '../target.ts';

const chunkBytes = 50;
const state = (name: string, createdNs: bigint) => ({ name, sizeBytes: 2 ** 30, createdNs });
const header = {
  volume: objectId('0123456789abcdef'.repeat(2)),
  from: state('monday', 5n),
  to: state('dienstag ü', 6n),
};

function encode(of: IncrementHeader, changes: readonly Change[]): Uint8Array {
  const { value, chain: begun } = encodeIncrementHeader(of, checksum);
  const parts = [value];
  let chain = begun;
  let dataBytes = 0;
  const put = (record: Parameters<typeof encodeIncrementRecord>[0]) => {
    const encoded = encodeIncrementRecord(record, chain, checksum);
    parts.push(encoded.value);
    chain = encoded.chain;
  };
  for (const change of changes) {
    put(change);
    if (change.kind !== 'data') continue;
    parts.push(change.bytes);
    dataBytes += change.length;
  }
  put({ kind: 'end', records: changes.length, dataBytes });
  return new Uint8Array(Buffer.concat(parts));
}

function changeOf(index: number): Change {
  const where = { offset: index * 8192, length: 64 };
  if (index % 2 === 1) return { kind: 'zeroes', ...where };
  const bytes = new Uint8Array(where.length).fill(index);
  return { kind: 'data', ...where, bytes, before: index, checksum: checksum.crc32c(bytes) };
}

/** Each record's checksum goes on from the one before, and data stand between them. */
function repair(input: Uint8Array): void {
  if (input.length < incrementStartBytes) return;
  const view = viewOf(input);
  let at = incrementStartBytes + view.getUint16(6, true) + view.getUint16(8, true);
  sign(input, at);
  let chain = at + 4 <= input.length ? view.getUint32(at, true) : 0;
  for (at += 4; at + incrementRecordBytes <= input.length; ) {
    const record = input.subarray(at, at + incrementRecordBytes);
    const fields = viewOf(record);
    const dataAt = at + incrementRecordBytes;
    const length = record[0] === 1 ? Math.min(fields.getUint32(16, true), input.length) : 0;
    const data = input.subarray(dataAt, dataAt + length);
    if (length > 0) fields.setUint32(28, checksum.crc32c(data), true);
    sign(record, 32, chain);
    chain = fields.getUint32(32, true);
    at = dataAt + length;
  }
}

async function* chunksOf(input: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < input.length; at += chunkBytes) yield input.subarray(at, at + chunkBytes);
}

export const increment: Target = {
  ...{ name: 'increment', kind: 'bytes', refuses: ['corrupt'] },
  samples: {
    nothing: encode(header, []),
    changes: encode(header, [0, 1, 2].map(changeOf)),
  },
  repair,
  async decode(input) {
    const found = await readIncrement(chunksOf(input), checksum);
    const changes: Change[] = [];
    for await (const change of found.changes) changes.push(change);
    assertSame(encode(found.header, changes), input);
    return true;
  },
};
