import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { isStorageError } from '../../../src/core/errors.ts';
import { limits } from '../../../src/core/limits.ts';
import { MiB } from '../../../src/core/units.ts';
import {
  decodeManifest,
  emptyManifest,
  encodeManifest,
  epochOfKey,
  pieceKey,
} from '../../../src/file/manifest.ts';
import { fileId } from '../../support/file-world.ts';
import { tenureStarts } from '../../support/tenure-starts.ts';

const plain = { noNullPrototype: true } as const;
const piece = fc.record(
  {
    key: fc
      .tuple(fc.nat(), fc.nat(), fc.nat())
      .map(([epoch, version, index]) => pieceKey(fileId(1), epoch, version, index)),
    bytes: fc.integer({ min: 1, max: limits.pieceBytes }),
    checksum: fc.integer({ min: 0, max: 0xffff_ffff }),
  },
  plain,
);
const withStarts = fc.record(
  {
    version: fc.nat(),
    sizeBytes: fc.integer({ min: 3 * MiB, max: limits.promoteBytes }),
    pieces: fc.array(fc.option(piece, { nil: null }), { maxLength: 3 }),
    starts: tenureStarts,
    changes: fc.nat(),
  },
  plain,
);
const manifest = fc.oneof(
  withStarts,
  withStarts.map((given) => ({ ...given, starts: [], changes: 0 })),
);

const isCorrupt = (error: unknown) => isStorageError(error, 'corrupt');

describe('the manifest of a file', () => {
  test('is read back as it was written', () => {
    fc.assert(
      fc.property(manifest, (given) =>
        assert.deepEqual(decodeManifest(encodeManifest(given)), given),
      ),
    );
    assert.deepEqual(decodeManifest(encodeManifest(emptyManifest)), emptyManifest);
  });

  test('is refused as corrupt wherever it is cut off', () => {
    fc.assert(
      fc.property(manifest, fc.nat(), (given, cut) => {
        const bytes = encodeManifest(given);
        assert.throws(() => decodeManifest(bytes.subarray(0, cut % bytes.length)), isCorrupt);
      }),
    );
  });

  test('is refused as corrupt, or understood, whatever byte is wrong; never anything else', () => {
    fc.assert(
      fc.property(manifest, fc.nat(), fc.integer({ min: 1, max: 255 }), (given, at, flip) => {
        const bytes = new Uint8Array(encodeManifest(given));
        bytes[at % bytes.length] = (bytes[at % bytes.length] ?? 0) ^ flip;
        try {
          decodeManifest(bytes);
        } catch (error) {
          assert.ok(isCorrupt(error), String(error));
        }
      }),
    );
  });

  test('is refused as corrupt where a field is not of its kind', () => {
    const good = {
      ...{ version: 1, sizeBytes: MiB, pieces: [{ key: 'k', bytes: 1, checksum: 1 }] },
      ...{ changes: 9, starts: [{ epoch: 3, after: 4 }] },
    };
    const wrong: object[] = [
      { ...good, version: -1 },
      { ...good, version: '1' },
      { ...good, sizeBytes: limits.promoteBytes + 1 },
      { ...good, sizeBytes: 0 },
      { ...good, pieces: {} },
      { ...good, changes: -1 },
      ...[-1, 2 ** 32, '1'].map((epoch) => ({ ...good, starts: [{ epoch, after: 4 }] })),
      ...[-1, 2 ** 53, '1'].map((after) => ({ ...good, starts: [{ epoch: 3, after }] })),
      { ...good, starts: [...good.starts, { epoch: 4, after: 4 }] },
      { ...good, starts: [...good.starts, { epoch: 3, after: 5 }] },
      ...[7, 'piece', [], { key: 1, bytes: 1, checksum: 1 }].map((found) => ({
        ...good,
        pieces: [found],
      })),
      ...[0, -1, 1.5, MiB + 1, '1'].map((bytes) => ({
        ...good,
        pieces: [{ key: 'k', bytes, checksum: 1 }],
      })),
      ...[-1, 2 ** 32, null].map((checksum) => ({
        ...good,
        pieces: [{ key: 'k', bytes: 1, checksum }],
      })),
    ];
    assert.doesNotThrow(() => decodeManifest(encodeManifest(good as never)));
    for (const found of wrong)
      assert.throws(() => decodeManifest(encodeManifest(found as never)), isCorrupt);
  });
});

describe('the name of a piece', () => {
  test('tells the tenure in which it was written', () => {
    assert.equal(epochOfKey(pieceKey(fileId(1), 17, 4, 63)), 17);
    assert.equal(epochOfKey('file/something/else'), undefined);
  });
});
