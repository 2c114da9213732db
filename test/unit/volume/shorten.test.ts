/** What is left in the journal of a volume that is about to change hands. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import { MiB } from '../../../src/core/units.ts';
import type { Volume } from '../../../src/volume/volume.ts';
import { VolumeWorld } from '../../support/volume-world.ts';

/** Destages nothing by itself. */
async function idleVolume(): Promise<{ world: VolumeWorld; volume: Volume }> {
  const world = new VolumeWorld({
    ...{ cutBytes: 64 * MiB, destageDelayMs: 3_600_000, segmentBytes: MiB },
    ...{ uploadBytesMax: 64 * MiB, deltaBlocksMax: 32_768 },
    journal: { fileBytes: 4 * MiB, bytesMax: 64 * MiB },
  });
  return { world, volume: await world.create() };
}

async function write(volume: Volume, bytes: number): Promise<void> {
  for (let at = 0; at < bytes; at += MiB) await volume.write(at, new Uint8Array(MiB).fill(1));
}

/** A writer who is as fast as the backend: as much as got there was written again meanwhile. */
function keepWriting(volume: Volume, bytes: number): () => number {
  let rounds = 0;
  const sync = volume.sync.bind(volume);
  volume.sync = async () => {
    await sync();
    rounds += 1;
    await write(volume, bytes);
  };
  return () => rounds;
}

describe('the journal of a volume that is about to change hands', () => {
  test('is brought to the backend but for a little', async () => {
    const { world, volume } = await idleVolume();
    await write(volume, 3 * MiB);
    await world.driver.shorten(world.id);
    assert.equal(volume.status().notDestagedBytes, 0);
    await volume.close();
  });

  test('is left as it is where little is in it', async () => {
    const { world, volume } = await idleVolume();
    await write(volume, MiB);
    await world.driver.shorten(world.id);
    assert.equal(volume.status().notDestagedBytes, MiB);
    await volume.close();
  });

  test('is as short as it gets while it is written', async () => {
    const { world, volume } = await idleVolume();
    await write(volume, 4 * MiB);
    const rounds = keepWriting(volume, 4 * MiB);
    await world.driver.shorten(world.id);
    assert.equal(volume.status().notDestagedBytes, 4 * MiB);
    assert.equal(rounds(), 1);
    await volume.close();
  });

  test('is not sent where writers keep it long', async () => {
    const { world, volume } = await idleVolume();
    const status = { ...volume.status(), notDestagedBytes: 17 * MiB };
    volume.status = () => status;
    await assert.rejects(world.driver.shorten(world.id), (error) => isStorageError(error, 'busy'));
    await volume.close();
  });
});
