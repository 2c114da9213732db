import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { isStorageError } from '../../../src/core/errors.ts';
import {
  decodeMapPage,
  encodeMapPage,
  pageBytesMax,
  pageFanout,
} from '../../../src/format/map-page.ts';
import { placeWords, setPlace } from '../../../src/format/place.ts';

const word = fc.integer({ min: 0, max: 0xffff_ffff });
const places = fc.uniqueArray(
  fc.record({
    slot: fc.integer({ min: 0, max: pageFanout - 1 }),
    epoch: word,
    sequence: word,
    offset: word,
    length: fc.integer({ min: 1, max: 0xff_ffff }),
    checksum: word,
  }),
  { selector: (place) => place.slot, maxLength: pageFanout },
);

describe('a page of the block map', () => {
  test('decodes to what was encoded, and is as small as its places', () => {
    fc.assert(
      fc.property(places, fc.nat(4), fc.nat(2 ** 31), (list, level, first) => {
        const words = new Uint32Array(pageFanout * placeWords);
        for (const { slot, epoch, sequence, offset, length, checksum } of list)
          setPlace(words, slot * placeWords, epoch, sequence, offset, length, checksum);
        const bytes = encodeMapPage({ level, firstBlock: first, words });
        assert.equal(bytes.length, 48 + 24 * list.length);
        assert.ok(bytes.length <= pageBytesMax);
        assert.deepEqual(decodeMapPage(bytes), { level, firstBlock: first, words });
      }),
    );
  });

  test('refuses every truncation', () => {
    const words = new Uint32Array(pageFanout * placeWords);
    for (let slot = 0; slot < 40; slot += 1)
      setPlace(words, slot * 3 * placeWords, 1, 2, 3, 4096, 5);
    const bytes = encodeMapPage({ level: 0, firstBlock: 512, words });
    for (let length = 0; length < bytes.length; length += 1)
      assert.throws(
        () => decodeMapPage(bytes.subarray(0, length)),
        (error) => isStorageError(error, 'corrupt'),
      );
  });
});
