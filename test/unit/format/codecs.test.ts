/** Every record decodes to what was encoded; every truncation and every flipped bit is refused. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { isStorageError } from '../../../src/core/errors.ts';
import { objectId } from '../../../src/core/units.ts';
import { decodeHead, encodeHead } from '../../../src/format/head.ts';
import {
  decodeFileHeader,
  decodeRecordHead,
  encodeFileHeader,
  encodeRecordHead,
  payloadBlocksMax,
  payloadOffset,
} from '../../../src/format/journal-record.ts';
import {
  copyBlobKey,
  decodeCopyBlob,
  encodeCopyBlob,
  parseCopyBlobKey,
} from '../../../src/format/registry-copy.ts';
import {
  decodeSegmentHead,
  encodeSegmentHead,
  segmentHeadBytes,
} from '../../../src/format/segment.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import { tenureStarts } from '../../support/tenure-starts.ts';

const checksum = tableChecksum();
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const u53 = fc.maxSafeNat();

/** `decode` throws or gives undefined for each damaged copy of `bytes`. */
function refusesDamage(bytes: Uint8Array, decode: (bytes: Uint8Array) => unknown): void {
  const isRefused = (damaged: Uint8Array) => {
    try {
      return decode(damaged) === undefined;
    } catch (error) {
      assert.ok(
        isStorageError(error, 'corrupt') || isStorageError(error, 'invalid'),
        String(error),
      );
      return true;
    }
  };
  for (let length = 0; length < bytes.length; length += 1)
    assert.ok(isRefused(bytes.subarray(0, length)), `cut to ${length} bytes`);
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const damaged = bytes.slice();
    damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
    assert.ok(isRefused(damaged), `bit ${bit} flipped`);
  }
}

const head = fc.record({
  epoch: u32,
  volumeBytes: u53,
  journalSequence: u53,
  dataBlocks: u53,
  rootLevel: fc.nat(4),
  root: fc.uint32Array({ minLength: 6, maxLength: 6 }),
  tail: fc.array(fc.record({ epoch: u32, first: u32, last: u32, origin: u32 }), { maxLength: 5 }),
  usage: fc.nat(3).chain((count) => fc.uint32Array({ minLength: count * 6, maxLength: count * 6 })),
  ancestors: fc.array(fc.nat().map((seed) => objectId(seed.toString(16).padStart(32, '0')))),
  starts: fc.oneof(fc.constant([]), tenureStarts),
});

describe('the head of a volume', () => {
  test('decodes to what was encoded', () => {
    fc.assert(
      fc.property(head, (value) => {
        assert.deepEqual(decodeHead(encodeHead(value, checksum), checksum), structuredClone(value));
      }),
    );
  });

  test('refuses every truncation and every flipped bit', () => {
    fc.assert(
      fc.property(head, (value) => {
        refusesDamage(encodeHead(value, checksum), (bytes) => decodeHead(bytes, checksum));
      }),
      { numRuns: 5 },
    );
  });
});

const copyBlob = fc.record({
  kind: fc.constantFrom('base' as const, 'change' as const),
  isLast: fc.boolean(),
  salt: fc.constant('0123456789abcdef'.repeat(2)),
  term: u32,
  number: u32,
  fromRevision: u53,
  untilRevision: u53,
  madeMs: u53,
  entries: fc.array(
    fc.record({
      key: fc.uint8Array({ maxLength: 20 }).map((key) => Buffer.from(key).toString('latin1')),
      value: fc.option(fc.uint8Array({ maxLength: 20 }), { nil: undefined }),
    }),
    { maxLength: 6 },
  ),
});

describe('a blob of the copy of a registry', () => {
  test('decodes to what was encoded', () => {
    fc.assert(
      fc.property(copyBlob, (value) => {
        const { entries, ...found } = decodeCopyBlob(
          encodeCopyBlob(value, value.entries, checksum),
          checksum,
        );
        const plain = entries.map((entry) => ({
          key: entry.key,
          value: entry.value && Uint8Array.from(entry.value),
        }));
        assert.deepEqual({ ...found, entries: plain }, structuredClone(value));
      }),
    );
  });

  test('refuses every truncation and every flipped bit', () => {
    fc.assert(
      fc.property(copyBlob, (value) => {
        const bytes = encodeCopyBlob(value, value.entries, checksum);
        refusesDamage(bytes, (damaged) => decodeCopyBlob(damaged, checksum));
      }),
      { numRuns: 5 },
    );
  });

  test('has a name that tells what it is', () => {
    const key = copyBlobKey('change', 10, 255);
    assert.equal(key, 'change/0000000a/000000ff');
    assert.deepEqual(parseCopyBlobKey(key), { kind: 'change', term: 10, number: 255 });
    assert.equal(parseCopyBlobKey(`${key}0`), undefined);
  });
});

const segment = fc.record(
  {
    kind: fc.constantFrom('data' as const, 'map' as const),
    objectId: fc.constant(objectId('0123456789abcdef'.repeat(2))),
    epoch: u32,
    sequence: u32,
    groupFirst: u32,
    lastOfCut: fc.boolean(),
    journalSequence: u53,
    volumeBytes: u53,
    previous: fc.record({ epoch: u32, sequence: u32 }),
    trims: fc.array(fc.record({ block: u53, count: u53 }), { maxLength: 4 }),
    chunks: fc.array(
      fc.record({
        kind: fc.constantFrom('block' as const, 'page' as const, 'usage' as const),
        level: fc.nat(4),
        checksum: u32,
        block: u53,
        offset: u32,
        bytes: u32,
      }),
      { maxLength: 6 },
    ),
    followsSequence: u53,
  },
  {
    requiredKeys: [
      'kind',
      'objectId',
      'epoch',
      'sequence',
      'groupFirst',
      'lastOfCut',
      'journalSequence',
      'volumeBytes',
      'previous',
      'trims',
      'chunks',
    ],
  },
);

describe('the head of a segment', () => {
  const encode = (value: typeof segment extends fc.Arbitrary<infer T> ? T : never) => {
    const headBytes = segmentHeadBytes(value.trims.length, value.chunks.length);
    const bytes = new Uint8Array(headBytes + 100);
    encodeSegmentHead(bytes, { ...value, headBytes }, checksum);
    return { bytes, headBytes };
  };

  test('decodes to what was encoded', () => {
    fc.assert(
      fc.property(segment, (value) => {
        const { bytes, headBytes } = encode(value);
        const found = decodeSegmentHead(bytes, checksum);
        const whole = { ...value, headBytes, segmentBytes: bytes.length };
        assert.deepEqual(found, structuredClone(whole));
      }),
    );
  });

  test('refuses every truncation and every flipped bit', () => {
    fc.assert(
      fc.property(segment, (value) => {
        const used = 96 + value.trims.length * 16 + value.chunks.length * 24;
        const { bytes } = encode(value);
        refusesDamage(bytes.slice(0, used), (damaged) => decodeSegmentHead(damaged, checksum));
      }),
      { numRuns: 5 },
    );
  });
});

const fields = {
  epoch: u32,
  tag: u32,
  sequence: u53,
  durableSequence: u53,
  block: u53,
  volumeBytes: u53,
};
/** A record about as many blocks as it has payload. */
const withPayload = <T extends 'write' | 'resize'>(kind: T, maxLength: number) =>
  fc
    .record({ ...fields, kind: fc.constant(kind), checksums: fc.uint32Array({ maxLength }) })
    .map((value) => ({ ...value, count: value.checksums.length }));
const trims = fc.record({
  ...{ ...fields, kind: fc.constant('trim' as const), count: u53 },
  checksums: fc.constant(new Uint32Array(0)),
});
const record = fc.oneof(withPayload('write', 8), withPayload('resize', 1), trims);

describe('a record of the journal', () => {
  const encode = (value: Parameters<typeof encodeRecordHead>[2]) => {
    const scratch = new Uint8Array(payloadOffset(payloadBlocksMax)).fill(0xaa);
    const view = new DataView(scratch.buffer);
    return scratch.slice(0, encodeRecordHead(scratch, view, value, checksum));
  };

  test('decodes to what was encoded', () => {
    fc.assert(
      fc.property(record, (value) => {
        assert.deepEqual(decodeRecordHead(encode(value), checksum), structuredClone(value));
      }),
    );
  });

  test('refuses every truncation and every flipped bit of header and table', () => {
    fc.assert(
      fc.property(record, (value) => {
        const used = 64 + value.checksums.length * 4;
        refusesDamage(encode(value).slice(0, used), (bytes) => decodeRecordHead(bytes, checksum));
      }),
      { numRuns: 5 },
    );
  });

  test('is in a file whose header refuses damage as well', () => {
    const header = { number: 7, epoch: 3, firstSequence: 2 ** 40 };
    const bytes = encodeFileHeader(header, checksum);
    assert.deepEqual(decodeFileHeader(bytes, checksum), header);
    refusesDamage(bytes, (damaged) => decodeFileHeader(damaged, checksum));
  });
});

/** Bytes of version 1, as they were first written: a change of format must not pass unseen. */
describe('the formats as they are written', () => {
  test('have not changed', () => {
    const digest = (bytes: Uint8Array) => createHash('sha1').update(bytes).digest('hex');
    const scratch = new Uint8Array(payloadOffset(payloadBlocksMax));
    const view = new DataView(scratch.buffer);
    const bytes = encodeRecordHead(
      scratch,
      view,
      {
        ...{ kind: 'write', epoch: 1, tag: 2, sequence: 3, durableSequence: 2, block: 4, count: 2 },
        ...{ volumeBytes: 2 ** 40, checksums: Uint32Array.of(5, 6) },
      },
      checksum,
    );
    const headBytes = encodeHead(
      {
        ...{ epoch: 1, volumeBytes: 2, journalSequence: 3, dataBlocks: 4, rootLevel: 1 },
        root: Uint32Array.of(1, 2, 3, 4, 5, 6),
        tail: [{ epoch: 1, first: 2, last: 3, origin: 4 }],
        usage: Uint32Array.of(6, 5, 4, 3, 2, 1),
        ancestors: [objectId('00112233445566778899aabbccddeeff')],
        starts: [],
      },
      checksum,
    );
    assert.deepEqual(
      [digest(scratch.subarray(0, bytes)), digest(headBytes)],
      ['981443a093838ab8fc0551aee5d472d01b5b065a', '4c7ba66e5767cf39a67bc8cb0a804aa40bb06ed0'],
    );
  });
});
