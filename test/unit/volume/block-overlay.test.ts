import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { placeWords, setPlace } from '../../../src/format/place.ts';
import { BlockOverlay } from '../../../src/volume/block-overlay.ts';

const blocks = 2000;
const step = fc.oneof(
  fc.record({ do: fc.constant('put' as const), block: fc.nat(blocks), offset: fc.nat(1e6) }),
  fc.record({ do: fc.constant('trim' as const), from: fc.nat(blocks), count: fc.nat(300) }),
);

/** In all its steps. */
function sortedRows(overlay: BlockOverlay): Uint32Array {
  const steps = overlay.sortedDataRows();
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

describe('a block overlay', () => {
  test('answers as a plain map of the same changes', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
        const overlay = new BlockOverlay();
        const model = new Map<number, number | 'hole'>();
        const place = new Uint32Array(placeWords);
        for (const change of steps) {
          if (change.do === 'put') {
            setPlace(place, 0, 7, 1, change.offset, 4096, 0);
            overlay.put(change.block, place);
            model.set(change.block, change.offset);
          } else {
            overlay.trim(change.from, change.from + change.count);
            for (let index = 0; index < change.count; index += 1)
              model.set(change.from + index, 'hole');
          }
        }
        for (let block = 0; block <= blocks + 300; block += 1) {
          const expected = model.get(block);
          const found = overlay.find(block, place);
          if (expected === undefined) assert.equal(found, 'absent');
          else if (expected === 'hole') assert.equal(found, 'hole');
          else assert.deepEqual([found, place[2]], ['data', expected]);
        }
        const sorted = [...sortedRows(overlay)].map((row) => overlay.blockOfRow(row));
        const data = [...model].filter(([, value]) => value !== 'hole').map(([block]) => block);
        assert.deepEqual(
          sorted,
          data.sort((left, right) => left - right),
        );
      }),
      { numRuns: 60 },
    );
  });

  test('finds blocks where they were moved to, and what was trimmed nowhere', () => {
    const overlay = new BlockOverlay();
    for (const block of [9, 4, 7, 1]) overlay.putJournalBlock(block, 1, block * 4096, 4096, block);
    overlay.trim(4, 6);
    const rows = sortedRows(overlay);
    const places = new Uint32Array(rows.length * placeWords);
    for (const index of rows.keys())
      setPlace(places, index * placeWords, 2, 3, (index + 1) * 100, 4096, index);
    overlay.move(rows, places);
    const place = new Uint32Array(placeWords);
    const offsets = [1, 7, 9].map((block) => [overlay.find(block, place), place[0], place[2]]);
    assert.deepEqual(offsets, [
      ['data', 2, 100],
      ['data', 2, 200],
      ['data', 2, 300],
    ]);
    assert.equal(overlay.find(4, place), 'hole');
    assert.equal(overlay.find(5, place), 'hole');
  });

  test('keeps every place while it grows', () => {
    const overlay = new BlockOverlay();
    const place = new Uint32Array(placeWords);
    for (let block = 0; block < 5000; block += 1) {
      setPlace(place, 0, 7, 1, block, 4096, 0);
      overlay.put(block * 3, place);
    }
    for (let block = 0; block < 5000; block += 1) {
      assert.equal(overlay.find(block * 3, place), 'data');
      assert.equal(place[2], block);
    }
  });

  test('tells blocks apart that agree in their lower 32 bits', () => {
    const overlay = new BlockOverlay();
    const place = new Uint32Array(placeWords);
    for (const [offset, block] of [5, 5 + 2 ** 32, 5 + 3 * 2 ** 32].entries())
      overlay.putJournalBlock(block, 1, offset * 4096, 4096, 0);
    assert.equal(overlay.find(5 + 2 ** 32, place), 'data');
    assert.equal(place[2], 4096);
    assert.equal(overlay.find(5 + 2 * 2 ** 32, place), 'absent');
  });

  test('takes a trim of 64 TiB in one step', () => {
    const overlay = new BlockOverlay();
    overlay.putJournalBlock(123, 1, 0, 4096, 0);
    overlay.trim(0, 2 ** 34);
    assert.equal(overlay.find(123, new Uint32Array(placeWords)), 'hole');
    assert.equal(sortedRows(overlay).length, 0);
  });

  test('names the leaves that hold rows, in order', () => {
    const overlay = new BlockOverlay();
    for (const block of [90_000, 3, 700, 701]) overlay.putJournalBlock(block, 1, 0, 4096, 0);
    assert.equal(overlay.nextLeaf(0), 0);
    assert.equal(overlay.nextLeaf(1), 2);
    assert.equal(overlay.nextLeaf(3), Math.floor(90_000 / 256));
    assert.equal(overlay.nextLeaf(352), Number.POSITIVE_INFINITY);
  });
});
