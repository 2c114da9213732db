import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KiB, MiB } from '../../../src/core/units.ts';
import { VolumeWorld } from '../../support/volume-world.ts';

const blockBytes = 4 * KiB;
const blocks = 512;
/** So far apart is each block on a page of the map of its own. */
const pageBytes = MiB;

/** Turns that a volume leaves to others while it brings all to the backend. */
async function turnsLeft(strideBytes: number): Promise<number> {
  const world = new VolumeWorld({
    ...{ cutBytes: 16 * MiB, destageDelayMs: 3_600_000, deltaBlocksMax: 8 * blocks },
    ...{ mapBytesMax: 64 * MiB, segmentBytes: 4 * MiB, uploadBytesMax: 16 * MiB },
    journal: { fileBytes: 8 * MiB, bytesMax: 16 * MiB },
  });
  const volume = await world.create();
  for (let block = 0; block < blocks; block += 1)
    await volume.write(block * strideBytes, new Uint8Array(blockBytes).fill(1));
  let turns = 0;
  const sleep = world.clock.sleep.bind(world.clock);
  world.clock.sleep = (ms, options) => {
    if (ms === 0) turns += 1;
    return sleep(ms, options);
  };
  // On a machine where nothing takes long.
  world.clock.monotonicMs = () => 0;
  await volume.sync();
  await volume.close();
  return turns;
}

test('a checkpoint of many pages leaves turns to others', async () => {
  const [dense, sparse] = [await turnsLeft(blockBytes), await turnsLeft(pageBytes)];
  assert.ok(sparse >= dense + 8, `${sparse} turns, and ${dense} where the pages are few`);
});
