/** A disk that is removed while clones read from it: what they read stays, and all else goes. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { noFaults } from '../../../src/backend/with-faults.ts';
import type { ObjectId } from '../../../src/core/units.ts';
import { KiB } from '../../../src/core/units.ts';
import type { ClusterFront } from '../../support/cluster-front.ts';
import { ScrubWorld } from '../../support/scrub-world.ts';

const sharedBytes = 64 * KiB;
const ownBytes = 512 * KiB;
const filled = (bytes: number, value: number) => new Uint8Array(bytes).fill(value);

/** `/d.raw`, of which `/c.raw` is a clone, has been written over since, and much more behind it. */
async function begin(...hosts: readonly string[]) {
  const world = await ScrubWorld.open(...hosts);
  const { host } = world;
  await host.write('/d.raw', 0, filled(sharedBytes, 1));
  await host.snapshots.clone('/d.raw', undefined, '/c.raw');
  for (let at = 0; at < ownBytes; at += 128 * KiB)
    await host.write('/d.raw', at, filled(128 * KiB, 2));
  await host.sync('/d.raw');
  const id = await host.idOf('/d.raw');
  assert.ok(bytesOf(world, id) > ownBytes);
  return { world, id };
}

function bytesOf(world: ScrubWorld, id: ObjectId): number {
  return [...world.bucketOf(id).values()].reduce((sum, { length }) => sum + length, 0);
}

/** What the clone needs, some pages of the map, the table of live bytes and a head. */
async function hasShrunk(world: ScrubWorld, id: ObjectId): Promise<void> {
  while (bytesOf(world, id) > sharedBytes + 64 * KiB) await world.world.clock.sleep(1);
}

async function assertWhole(host: ClusterFront, path: string): Promise<void> {
  const ino = await host.inoOf(path);
  const found = new Uint8Array(sharedBytes);
  await host.fileSystem.open(ino);
  assert.equal(await host.fileSystem.read(ino, 0, found), sharedBytes);
  await host.fileSystem.release(ino);
  assert.ok(found.every((byte) => byte === 1));
}

describe('a disk that is removed while clones read from it', { timeout: 60_000 }, () => {
  test('keeps what they read, until the last one goes', async () => {
    const { world, id } = await begin('a', 'b');
    await using _ = world;
    const [, b] = world.hosts as [ClusterFront, ClusterFront];
    await b.snapshots.clone('/c.raw', undefined, '/of-c.raw');
    // Its owner is the other host.
    await b.remove('/d.raw');
    await hasShrunk(world, id);
    for (const path of ['/c.raw', '/of-c.raw']) await assertWhole(b, path);
    await world.restart(0);
    await assertWhole(world.host, '/c.raw');
    assert.deepEqual(await world.found('repair'), []);
    await world.host.remove('/c.raw');
    await assertWhole(b, '/of-c.raw');
    await b.remove('/of-c.raw');
    const { backend, clock } = world.world;
    while ((await backend.listBuckets({ prefix: 'volume-' })).length > 0) await clock.sleep(1);
  });

  test('is so after a crash at any step as well', async () => {
    for (let dying = 1, isOver = false; !isOver; dying += 1) {
      const { world, id } = await begin();
      await using _ = world;
      const { faults } = world.world;
      let steps = 0;
      const reached = Promise.withResolvers<void>();
      faults.choose = () => {
        steps += 1;
        if (steps < dying) return 'none';
        reached.resolve();
        return steps === dying && dying % 2 === 0 ? 'after' : 'before';
      };
      await world.host.remove('/d.raw');
      await Promise.race([reached.promise, hasShrunk(world, id)]);
      isOver = steps < dying;
      world.world.faults = noFaults();
      await world.restart(0);
      await assertWhole(world.host, '/c.raw');
      await hasShrunk(world, id);
      await assertWhole(world.host, '/c.raw');
      await world.found('repair');
      assert.deepEqual(await world.found(), [], `step ${dying}`);
      await assertWhole(world.host, '/c.raw');
      // What the dead process still tries ends with the test.
      faults.choose = () => 'none';
    }
  });
});
