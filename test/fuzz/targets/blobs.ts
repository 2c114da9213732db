/** What lies in the backend. */

import assert from 'node:assert/strict';
import { objectId } from '../../../src/core/units.ts';
import { cloneHead, decodeHead, emptyHead, encodeHead } from '../../../src/format/head.ts';
import { decodeMapPage, encodeMapPage, pageFanout } from '../../../src/format/map-page.ts';
import { placeWords, setPlace } from '../../../src/format/place.ts';
import { decodeCopyBlob, encodeCopyBlob } from '../../../src/format/registry-copy.ts';
import type { SegmentHeader } from '../../../src/format/segment.ts';
import {
  decodeSegmentHead,
  encodeSegmentHead,
  segmentHeadBytes,
  segmentIndexBytes,
} from '../../../src/format/segment.ts';
import { SegmentUsage } from '../../../src/volume/segment-usage.ts';
import type { Target } from '../target.ts';
import { assertSame, checksum, sign, viewOf } from '../target.ts';

const reencodedBytesMax = 256 * 1024;
const id = objectId('0123456789abcdef'.repeat(2));

const place = (...[epoch, sequence, offset]: [number, number, number]) => {
  const words = new Uint32Array(placeWords);
  setPlace(words, 0, epoch, sequence, offset, 4096, 0x1234_5678);
  return words;
};
const used = {
  ...{ ...emptyHead, epoch: 7, volumeBytes: 2 ** 40, journalSequence: 900, dataBlocks: 77 },
  ...{ rootLevel: 2, root: place(7, 9, 4096), usage: place(7, 10, 8192) },
  tail: [
    { epoch: 6, first: 3, last: 5, origin: 0 },
    { epoch: 7, first: 1, last: 9, origin: 0 },
  ],
};

const starts = [
  { epoch: 6, after: 100 },
  { epoch: 7, after: 890 },
];

export const head: Target = {
  ...{ name: 'head', kind: 'bytes', refuses: ['corrupt'] },
  samples: {
    empty: encodeHead(emptyHead, checksum),
    used: encodeHead(used, checksum),
    clone: encodeHead(cloneHead(used, id), checksum),
    tenures: encodeHead({ ...used, starts }, checksum),
  },
  repair: (input) => sign(input, input.length - 4),
  decode(input) {
    const found = decodeHead(input, checksum);
    assertSame(encodeHead(found, checksum), input);
    return true;
  },
};

function segmentSample(header: Partial<SegmentHeader>): Uint8Array {
  const { trims = [], chunks = [] } = header;
  const headBytes = segmentHeadBytes(trims.length, chunks.length);
  const segment = new Uint8Array(headBytes + 4096 * chunks.length);
  const own = { objectId: id, epoch: 7, sequence: 3, groupFirst: 3, lastOfCut: true };
  const counts = { kind: 'data' as const, journalSequence: 900, volumeBytes: 2 ** 40 };
  const previous = { epoch: 6, sequence: 12 };
  const whole = { ...own, ...counts, previous, trims, chunks, headBytes, ...header };
  encodeSegmentHead(segment, whole, checksum);
  return segment.slice(0, segmentIndexBytes(segment));
}

const chunkOf = (kind: 'block' | 'page' | 'usage', index: number) => ({
  ...{ kind, level: kind === 'page' ? 1 : 0, checksum: 0x1234_5678 + index },
  ...{ block: index * 256, offset: 4096 * (index + 1), bytes: 4096 },
});

export const segment: Target = {
  ...{ name: 'segment', kind: 'bytes', refuses: ['corrupt'] },
  samples: {
    data: segmentSample({
      followsSequence: 880,
      trims: [{ block: 8, count: 5 }],
      chunks: [chunkOf('block', 0), chunkOf('block', 1)],
    }),
    trims: segmentSample({ trims: [1, 2, 3].map((block) => ({ block, count: 2 ** 30 })) }),
    map: segmentSample({ kind: 'map', chunks: [chunkOf('page', 0), chunkOf('usage', 1)] }),
  },
  repair(input) {
    if (input.length < 96) return;
    const fixed = checksum.crc32c(input.subarray(0, 92));
    viewOf(input).setUint32(92, checksum.crc32c(input.subarray(96), fixed), true);
  },
  decode(input) {
    const indexBytes = segmentIndexBytes(input);
    const found = decodeSegmentHead(input, checksum);
    assert.ok(indexBytes <= input.length && indexBytes <= found.headBytes);
    assert.ok(found.headBytes <= found.segmentBytes, 'the head is a part of the segment');
    // Of a segment that says that it is large, the encoder would have to be given all.
    if (found.segmentBytes > reencodedBytesMax) return true;
    const again = new Uint8Array(found.segmentBytes);
    encodeSegmentHead(again, found, checksum);
    assertSame(again.subarray(0, indexBytes), input.subarray(0, indexBytes));
    return true;
  },
};

function pageSample(level: number, slots: readonly number[]): Uint8Array {
  const words = new Uint32Array(pageFanout * placeWords);
  for (const slot of slots) words.set(place(7, slot, 4096 * slot), slot * placeWords);
  return encodeMapPage({ level, firstBlock: 65_536 * level, words }).slice();
}

export const mapPage: Target = {
  ...{ name: 'map-page', kind: 'bytes', refuses: ['corrupt'] },
  samples: {
    empty: pageSample(0, []),
    sparse: pageSample(0, [0, 7, 8, 255]),
    inner: pageSample(2, [1, 2, 3]),
    full: pageSample(
      0,
      Array.from({ length: pageFanout }, (_, slot) => slot),
    ),
  },
  decode(input) {
    assertSame(encodeMapPage(decodeMapPage(input)), input);
    return true;
  },
};

function usageSample(segments: number, deaths: number, isWhole = true): Uint8Array {
  const usage = new SegmentUsage();
  for (let sequence = 1; sequence <= segments; sequence += 1)
    usage.add(place(3, sequence, 4096), 0);
  for (let sequence = 1; sequence <= deaths; sequence += 1)
    usage.remove(place(3, sequence, 4096), 0);
  usage.noteDeaths({ epoch: 4, sequence: 1 });
  if (!isWhole) usage.markIncomplete();
  const [piece = new Uint8Array(8)] = usage.encode();
  return piece;
}

export const segmentUsage: Target = {
  ...{ name: 'segment-usage', kind: 'bytes', refuses: ['corrupt'] },
  samples: {
    none: new Uint8Array(8),
    alive: usageSample(3, 0),
    dead: usageSample(4, 2),
    incomplete: usageSample(2, 1, false),
  },
  decode(input) {
    const usage = new SegmentUsage();
    usage.decode(input);
    const pieces = [...usage.encode()];
    // Deaths may stand in any order.
    if (usage.segmentCount > 0) assert.equal(Buffer.concat(pieces).length, input.length);
    return true;
  },
};

const blobHead = {
  ...{ kind: 'change' as const, isLast: false, salt: '0123456789abcdef'.repeat(2), term: 3 },
  ...{ number: 9, fromRevision: 1000, untilRevision: 1010, madeMs: 1_700_000_000_000 },
};

export const registryCopy: Target = {
  ...{ name: 'registry-copy', kind: 'bytes', refuses: ['corrupt'] },
  samples: {
    change: encodeCopyBlob(
      blobHead,
      [
        { key: 'i\0\0\0\0\0\0\0\u0001', value: Buffer.from('{"v":1}') },
        { key: 'gone', value: undefined },
      ],
      checksum,
    ),
    base: encodeCopyBlob(
      { ...blobHead, kind: 'base', isLast: true },
      [{ key: 'vpool', value: Buffer.from('{"v":1,"name":"vms"}') }],
      checksum,
    ),
    empty: encodeCopyBlob(blobHead, [], checksum),
  },
  repair(input) {
    if (input.length >= 12) viewOf(input).setUint32(8, input.length, true);
    sign(input, input.length - 4);
  },
  decode(input) {
    const found = decodeCopyBlob(input, checksum);
    assertSame(encodeCopyBlob(found, found.entries, checksum), input);
    return true;
  },
};
