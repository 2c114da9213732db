/** The contract of `DataObject` (src/ports/data-object.ts), for every implementation. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../src/core/errors.ts';
import { seededRandom } from '../../src/platform/random.ts';
import type { DataObject } from '../../src/ports/data-object.ts';

export interface OpenedObject extends AsyncDisposable {
  readonly object: DataObject;
}

/** Writes a copy and scribbles over it as soon as the write has settled. */
async function write(object: DataObject, offset: number, data: Uint8Array): Promise<void> {
  const copy = data.slice();
  await object.write(offset, copy);
  copy.fill(0xee);
}

async function read(object: DataObject, offset: number, length: number): Promise<Uint8Array> {
  const into = new Uint8Array(length).fill(0xdd);
  const bytes = await object.read(offset, into);
  return into.subarray(0, bytes);
}

const filled = (length: number, value: number) => new Uint8Array(length).fill(value);

export function dataObjectSuite(
  name: string,
  { open, sizeMax }: { open: () => Promise<OpenedObject>; sizeMax: number },
): void {
  const withObject = (title: string, body: (object: DataObject) => Promise<void>) =>
    test(title, async () => {
      await using opened = await open();
      await body(opened.object);
    });

  describe(`${name} as a data object`, () => {
    withObject('is empty at first', async (object) => {
      assert.equal(object.size(), 0);
      assert.equal((await read(object, 0, 100)).length, 0);
      assert.equal(object.allocatedBytes(), 0);
    });

    withObject('reads back what was written, at any alignment', async (object) => {
      for (const [offset, length] of [
        [0, 4096],
        [1, 1],
        [4095, 2],
        [8192, 100],
        [10_000, 20_000],
        [12_288, 65_536],
        [3, 100_000],
      ] as const) {
        const data = seededRandom(offset + length).bytes(length);
        await write(object, offset, data);
        assert.deepEqual(await read(object, offset, length), data);
      }
    });

    withObject('keeps the bytes around a partial write', async (object) => {
      await write(object, 0, filled(12_288, 1));
      await write(object, 5000, filled(10, 2));
      const all = await read(object, 0, 12_288);
      assert.deepEqual(
        all.subarray(4990, 5020),
        Uint8Array.of(...filled(10, 1), ...filled(10, 2), ...filled(10, 1)),
      );
      assert.equal(all.filter((byte) => byte === 2).length, 10);
    });

    withObject('grows with a write behind its end, and shows zeroes between', async (object) => {
      await write(object, 100, filled(10, 7));
      await write(object, 300_000, filled(10, 7));
      assert.equal(object.size(), 300_010);
      assert.deepEqual(await read(object, 110, 299_890), new Uint8Array(299_890));
    });

    withObject('gives fewer bytes at its end only', async (object) => {
      await write(object, 0, filled(5000, 3));
      assert.equal((await read(object, 4990, 100)).length, 10);
      assert.equal((await read(object, 5000, 100)).length, 0);
      assert.equal((await read(object, 9_999_999, 100)).length, 0);
    });

    withObject('shows zeroes where it was cut and grew again', async (object) => {
      await write(object, 0, filled(20_000, 9));
      await object.resize(5001);
      assert.equal(object.size(), 5001);
      await object.resize(20_000);
      assert.deepEqual(await read(object, 0, 5001), filled(5001, 9));
      assert.deepEqual(await read(object, 5001, 14_999), new Uint8Array(14_999));
    });

    withObject('reads zeroes where it was trimmed, and nothing else changes', async (object) => {
      await write(object, 0, filled(40_000, 5));
      await object.trim(5000, 20_000);
      assert.equal(object.size(), 40_000);
      const all = await read(object, 0, 40_000);
      assert.equal(
        all.subarray(0, 5000).every((byte) => byte === 5),
        true,
      );
      assert.equal(
        all.subarray(5000, 25_000).every((byte) => byte === 0),
        true,
      );
      assert.equal(
        all.subarray(25_000).every((byte) => byte === 5),
        true,
      );
      await object.trim(30_000, 1e9);
      assert.equal(object.size(), 40_000);
      assert.deepEqual(await read(object, 30_000, 10_000), new Uint8Array(10_000));
    });

    withObject('never calls written bytes a hole', async (object) => {
      await object.resize(1_000_000);
      await write(object, 500_000, filled(10, 1));
      const data = await object.seek(0, 'data');
      assert.ok(data !== undefined && data <= 500_000);
      const hole = await object.seek(500_000, 'hole');
      assert.ok(hole !== undefined && hole >= 500_010);
      assert.equal(await object.seek(1_000_000, 'data'), undefined);
      assert.ok(Number(await object.seek(999_999, 'hole')) >= 999_999);
    });

    withObject('refuses a size beyond its bound with too_large', async (object) => {
      await assert.rejects(
        async () => object.resize(sizeMax + 1),
        (error) => isStorageError(error, 'too_large'),
      );
      await assert.rejects(
        async () => object.write(sizeMax, filled(1, 1)),
        (error) => isStorageError(error, 'too_large'),
      );
    });

    withObject('agrees with a plain array under random operations', async (object) => {
      const seed = Number(process.env['WHARF_SEED'] ?? Math.floor(Math.random() * 1e6));
      const random = seededRandom(seed);
      const below = (bound: number) => Math.floor(random.fraction() * bound);
      const model = new Uint8Array(400_000);
      let size = 0;
      for (let step = 0; step < 300; step += 1) {
        const offset = below(350_000);
        const length = 1 + below(random.fraction() < 0.5 ? 5000 : 50_000);
        const what = below(10);
        if (what < 5) {
          const data = random.bytes(length);
          await write(object, offset, data);
          model.set(data, offset);
          size = Math.max(size, offset + length);
        } else if (what < 6) {
          await object.trim(offset, length);
          model.fill(0, offset, Math.min(size, offset + length));
        } else if (what < 7) {
          await object.resize(offset);
          model.fill(0, Math.min(offset, size));
          size = offset;
        } else if (what < 8) await object.flush();
        else {
          const found = await read(object, offset, length);
          const expected = model.subarray(
            offset,
            Math.max(offset, Math.min(size, offset + length)),
          );
          assert.ok(Buffer.compare(found, expected) === 0, `seed ${seed} step ${step}`);
        }
        assert.equal(object.size(), size, `seed ${seed} step ${step}`);
      }
      const all = await read(object, 0, 400_000);
      assert.ok(Buffer.compare(all, model.subarray(0, size)) === 0, `seed ${seed}`);
    });

    withObject('lets no overlapping partial write undo another', async (object) => {
      await write(object, 0, filled(8192, 0));
      await Promise.all(
        Array.from({ length: 64 }, (_, index) =>
          write(object, index * 128, filled(128, index + 1)),
        ),
      );
      const all = await read(object, 0, 8192);
      for (let index = 0; index < 64; index += 1)
        assert.ok(all.subarray(index * 128, index * 128 + 128).every((byte) => byte === index + 1));
    });

    withObject('refuses everything once it is closed', async (object) => {
      await write(object, 0, filled(10, 1));
      await object.close();
      await object.close();
      const isClosed = (error: unknown) => isStorageError(error, 'closed');
      await assert.rejects(async () => object.read(0, new Uint8Array(1)), isClosed);
      await assert.rejects(async () => object.write(0, new Uint8Array(1)), isClosed);
      await assert.rejects(async () => object.flush(), isClosed);
      await assert.rejects(async () => object.sync(), isClosed);
      await assert.rejects(async () => object.resize(1), isClosed);
      await assert.rejects(async () => object.trim(0, 1), isClosed);
    });
  });
}
