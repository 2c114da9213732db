/** An increment is read as it was written, or refused: there is nothing in between. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ahead } from '../../../src/cli/ahead.ts';
import type { Change } from '../../../src/cli/increment-reader.ts';
import { readIncrement } from '../../../src/cli/increment-reader.ts';
import { MiB, objectId } from '../../../src/core/units.ts';
import type { IncrementHeader, IncrementRecord } from '../../../src/format/increment.ts';
import { encodeIncrementHeader, encodeIncrementRecord } from '../../../src/format/increment.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';

const checksum = tableChecksum();

const header: IncrementHeader = {
  volume: objectId('7'.repeat(32)),
  from: { name: 'monday', createdNs: 1_795_262_000_000_000_001n, sizeBytes: 2 * MiB },
  to: { name: 'tuesday, früh', createdNs: 1_795_348_400_000_000_002n, sizeBytes: 3 * MiB + 512 },
};

const data = (offset: number, text: string): Change => {
  const bytes = Buffer.from(text);
  const [length, before] = [bytes.length, offset];
  return { kind: 'data', offset, length, before, checksum: checksum.crc32c(bytes), bytes };
};

const changes: readonly Change[] = [
  data(0, 'first'),
  { kind: 'zeroes', offset: 4096, length: 2 * MiB },
  data(3 * MiB, 'last'),
];

/** The header, then each record with its data, then the end. */
function encode(from = header, list = changes, end: Partial<IncrementRecord> = {}): Buffer[] {
  const begun = encodeIncrementHeader(from, checksum);
  let { chain } = begun;
  let dataBytes = 0;
  const parts = [Buffer.from(begun.value)];
  const add = (record: IncrementRecord, bytes: Uint8Array = new Uint8Array(0)) => {
    const encoded = encodeIncrementRecord(record, chain, checksum);
    chain = encoded.chain;
    parts.push(Buffer.concat([encoded.value, bytes]));
  };
  for (const change of list) {
    add(change, change.kind === 'data' ? change.bytes : undefined);
    if (change.kind === 'data') dataBytes += change.length;
  }
  add({ kind: 'end', records: list.length, dataBytes, ...end } as IncrementRecord);
  return parts;
}

async function read(bytes: Uint8Array, step = bytes.length) {
  async function* stream() {
    for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step);
  }
  const increment = await readIncrement(stream(), checksum);
  return { header: increment.header, changes: await Array.fromAsync(increment.changes) };
}

const refuses = (bytes: Uint8Array, why: RegExp | string = /./) =>
  assert.rejects(read(bytes), (error: Error & { code?: string }) => {
    assert.equal(error.code, 'corrupt');
    assert.match(error.message, new RegExp(why));
    return true;
  });

describe('an increment', () => {
  test('is read as it was written, in whatever pieces it comes', async () => {
    const whole = Buffer.concat(encode());
    for (const step of [1, 7, 36, whole.length]) {
      const found = await read(whole, step);
      assert.deepEqual(found.header, header);
      const plain = (list: readonly Change[]) =>
        list.map((change) =>
          'bytes' in change ? { ...change, bytes: [...change.bytes] } : change,
        );
      assert.deepEqual(plain(found.changes), plain(changes));
    }
    assert.deepEqual((await read(Buffer.concat(encode(header, [])))).changes, []);
  });

  test('is refused with any bit of it flipped, and wherever it is cut off', async () => {
    const whole = Buffer.concat(encode());
    for (let bit = 0; bit < whole.length * 8; bit += 1) {
      const flipped = Buffer.from(whole);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      await refuses(flipped);
    }
    for (let length = 0; length < whole.length; length += 1)
      await refuses(whole.subarray(0, length));
    await refuses(Buffer.concat([whole, whole]), 'something stands behind its end');
  });

  test('is refused where a record is missing, moved, twice, or of another one', async () => {
    const [head, first, middle, last, end] = encode() as [Buffer, Buffer, Buffer, Buffer, Buffer];
    const other = encode({ ...header, to: { ...header.to, name: 'other' } });
    for (const parts of [
      [head, middle, last, end],
      [head, first, last, middle, end],
      [head, first, first, middle, last, end],
      [head, first, middle, last, other.at(-1) as Buffer],
      [other[0] as Buffer, first, middle, last, end],
      [head, end],
    ])
      await refuses(Buffer.concat(parts), 'it is damaged');
  });

  test('is refused where what is well written makes no sense', async () => {
    const zeroes = (offset: number, length: number) =>
      ({ kind: 'zeroes', offset, length }) as const;
    for (const list of [
      [zeroes(4096, 4096), zeroes(4096, 4096)],
      [zeroes(8192, 4096), data(4096, 'before')],
      [zeroes(3 * MiB, 513)],
      [zeroes(0, 0)],
    ])
      await refuses(Buffer.concat(encode(header, list)), 'it is damaged');
    for (const end of [{ records: 2 }, { dataBytes: 1 }])
      await refuses(Buffer.concat(encode(header, changes, end)), 'it is damaged');
    await refuses(Buffer.alloc(200), 'it is no increment');
    const later = Buffer.concat(encode());
    later.writeUInt16LE(2, 4);
    await refuses(later, 'version 2; known is 1');
  });
});

describe('work ahead', () => {
  test('gives results in order, a bounded number of them early', async () => {
    let [begun, ended, most] = [0, 0, 0];
    async function* items() {
      for (let item = 0; item < 50; item += 1) yield item;
    }
    const work = async (item: number) => {
      begun += 1;
      most = Math.max(most, begun - ended);
      for (let turn = item % 5; turn > 0; turn -= 1) await Promise.resolve();
      return item;
    };
    const found: number[] = [];
    for await (const item of ahead(items(), 4, work)) {
      found.push(item);
      ended += 1;
    }
    assert.deepEqual(
      found,
      Array.from({ length: 50 }, (_, item) => item),
    );
    assert.equal(most, 4);
  });

  test('ends with the first failure, and waits for what is under way', async () => {
    let ended = 0;
    async function* items() {
      yield* [0, 1, 2, 3, 4, 5];
    }
    const work = async (item: number) => {
      await new Promise((resolve) => setImmediate(resolve));
      ended += 1;
      if (item === 1) throw new Error('no');
      return item;
    };
    const found: number[] = [];
    await assert.rejects(async () => {
      for await (const item of ahead(items(), 3, work)) found.push(item);
    }, /no/);
    assert.deepEqual([found, ended], [[0], 4]);
  });
});
