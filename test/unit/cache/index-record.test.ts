import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { StoredLine } from '../../../src/cache/index-record.ts';
import {
  decodeIndexRecords,
  encodeIndexRecord,
  indexRecordBytes,
} from '../../../src/cache/index-record.ts';
import { objectId } from '../../../src/core/units.ts';
import { nativeChecksum, tableChecksum } from '../../../src/platform/checksum.ts';
import { loadNative } from '../../../src/platform/native.ts';

const checksum = tableChecksum();

function encode(lines: readonly StoredLine[]): Uint8Array {
  const bytes = new Uint8Array(lines.length * indexRecordBytes);
  for (const [index, line] of lines.entries())
    encodeIndexRecord(line, bytes.subarray(index * indexRecordBytes), checksum);
  return bytes;
}

function decode(bytes: Uint8Array, firstSlot = 0, by = checksum): StoredLine[] {
  const found: StoredLine[] = [];
  decodeIndexRecords(bytes, firstSlot, by, (line) => found.push(line));
  return found;
}

const u32 = fc.nat({ max: 0xffff_ffff });
const hexDigits = fc.array(fc.nat({ max: 15 }), { minLength: 32, maxLength: 32 });
const anyLine = fc.record({
  id: hexDigits.map((digits) => objectId(digits.map((digit) => digit.toString(16)).join(''))),
  epoch: u32,
  sequence: u32,
  line: u32,
  valid: fc.integer({ min: 1, max: 0xffff }),
});

const one: StoredLine = {
  slot: 0,
  id: objectId('00112233445566778899aabbccddeeff'),
  epoch: 7,
  sequence: 0x01020304,
  line: 63,
  valid: 0x00ff,
};

describe('a record of the index', () => {
  test('comes back as it was, many at once', () => {
    fc.assert(
      fc.property(fc.array(anyLine, { maxLength: 20 }), fc.nat({ max: 1e6 }), (lines, first) => {
        const stored = lines.map((line, index) => ({ ...line, slot: first + index }));
        assert.deepEqual(decode(encode(stored), first), stored);
      }),
    );
  });

  test('has the bytes of version 1', () => {
    assert.equal(
      Buffer.from(encode([one])).toString('hex'),
      '57434958' + // magic
        '0100' +
        'ff00' + // valid
        '00112233445566778899aabbccddeeff' +
        '07000000' +
        '04030201' +
        '3f000000' +
        '00'.repeat(24) +
        goldenChecksum,
    );
  });

  test('is refused with any bit flipped', () => {
    const bytes = encode([one]);
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const at = bit >> 3;
      bytes[at] = (bytes[at] as number) ^ (1 << (bit & 7));
      assert.deepEqual(decode(bytes), [], `bit ${bit}`);
      bytes[at] = (bytes[at] as number) ^ (1 << (bit & 7));
    }
    assert.deepEqual(decode(bytes), [one]);
  });

  test('is refused when it is cut', () => {
    const bytes = encode([one]);
    for (let length = 0; length < bytes.length; length += 1)
      assert.deepEqual(decode(bytes.slice(0, length)), [], `${length} bytes`);
  });

  test('costs its neighbours nothing when it is damaged or empty', () => {
    const lines = [0, 1, 2, 3, 4].map((slot) => ({ ...one, slot, line: slot }));
    const bytes = encode(lines);
    bytes[1 * indexRecordBytes + 9] = 0xff;
    bytes.fill(0, 3 * indexRecordBytes, 4 * indexRecordBytes);
    assert.deepEqual(
      decode(bytes).map(({ slot }) => slot),
      [0, 2, 4],
    );
  });

  test('of another version, or of no part, stands for an empty slot', () => {
    for (const [at, value] of [
      [4, 2],
      [0, 0x58],
    ] as const) {
      const bytes = encode([one]);
      bytes[at] = value;
      const crc = checksum.crc32c(bytes.subarray(0, 60));
      new DataView(bytes.buffer).setUint32(60, crc, true);
      assert.deepEqual(decode(bytes), []);
    }
    assert.deepEqual(decode(encode([{ ...one, valid: 0 }])), []);
  });

  const loaded = loadNative();
  const skip = loaded.native ? false : `no addon: ${loaded.reason}`;
  test('is read the same by the addon', { skip }, () => {
    assert.ok(loaded.native);
    assert.deepEqual(decode(encode([one]), 0, nativeChecksum(loaded.native)), [one]);
  });
});

/** Of the golden bytes; computed once by the definition of CRC-32C. */
const goldenChecksum = 'f8ea7684';
