import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KiB, MiB } from '../../../src/core/units.ts';
import type { DataObject } from '../../../src/ports/data-object.ts';
import { tenureOf } from '../../support/tenure.ts';
import { host, VolumeWorld } from '../../support/volume-world.ts';

const segmentBytes = 64 * KiB;
/** So far apart is each block on a page of the map of its own. */
const pageBytes = MiB;
/** More than stay in memory. */
const pages = 200;
const filled = (value: number) => new Uint8Array(4 * KiB).fill(value);

async function writeAll(object: DataObject, value: number): Promise<void> {
  for (let page = 0; page < pages; page += 1) await object.write(page * pageBytes, filled(value));
}

test('a volume let go amid a checkpoint gives back the memory for what it was writing', {
  timeout: 30_000,
}, async () => {
  const world = new VolumeWorld({
    cutBytes: segmentBytes,
    segmentBytes,
    uploadBytesMax: segmentBytes,
  });
  world.isUncached = true;
  const volume = await world.create();
  await writeAll(volume, 1);
  await volume.sync();
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const { promise: waits, resolve: noteWait } = Promise.withResolvers<void>();
  let loads = 0;
  // The page before it has begun a segment.
  world.faults.delay = async (operation) => {
    if (operation !== 'get' || (loads += 1) < 2) return;
    noteWait();
    await held;
  };
  for (const page of [0, 1]) await volume.write(page * pageBytes, filled(2));
  const synced = volume.sync().catch(() => {});
  await waits;
  world.tenure.end();
  const abandoned = volume.abandon();
  release();
  await Promise.all([abandoned, synced]);
  const { epoch, tail } = await world.records.claim(world.id, host);
  const again = await world.driver.open(tenureOf(world.id, epoch, tail));
  await writeAll(again, 3);
  await again.sync();
  const found = new Uint8Array(4 * KiB);
  await again.read(0, found);
  assert.deepEqual(found, filled(3));
  await again.close();
});
