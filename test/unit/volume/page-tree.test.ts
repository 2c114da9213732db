import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KiB, MiB, TiB } from '../../../src/core/units.ts';
import { pageFanout } from '../../../src/format/map-page.ts';
import { placeWords } from '../../../src/format/place.ts';
import { PageBudget } from '../../../src/volume/page-budget.ts';
import { PageTree } from '../../../src/volume/page-tree.ts';
import { VolumeWorld } from '../../support/volume-world.ts';

const filled = (value: number) => new Uint8Array(4096).fill(value);

describe('the block map of a sparse volume', () => {
  test('grows level by level, and opens in as many reads as the last block needs', async () => {
    const world = new VolumeWorld();
    let volume = await world.create();
    const offsets = [0, 3 * MiB, 700 * MiB, 100_000 * MiB, 20 * TiB, 64 * TiB - 4096];
    for (const [index, offset] of offsets.entries()) {
      await volume.write(offset, filled(index + 1));
      await volume.sync();
    }
    await volume.close();
    world.disk.removeFolder('/cache');
    volume = await world.open();
    assert.equal(volume.size(), 64 * TiB);
    const before = world.faults.counts.get;
    const into = new Uint8Array(4096);
    await volume.read(offsets[4] as number, into);
    assert.deepEqual(into, filled(5));
    assert.ok(world.faults.counts.get - before <= 6, 'a page for each level, and the block');
    for (const [index, offset] of offsets.entries()) {
      await volume.read(offset, into);
      assert.deepEqual(into, filled(index + 1));
    }
    assert.equal(await volume.seek(4096, 'data'), 3 * MiB);
    assert.equal(await volume.seek(800 * MiB, 'data'), 100_000 * MiB);
    assert.equal(await volume.seek(0, 'hole'), 4096);
    await volume.trim(0, 64 * TiB);
    await volume.sync();
    assert.equal(volume.allocatedBytes(), 0);
    assert.equal(await volume.seek(0, 'data'), undefined);
    await volume.close();
  });

  test('keeps within its budget of pages, whatever is read', async () => {
    const world = new VolumeWorld({ cutBytes: 256 * KiB, deltaBlocksMax: 100_000 });
    const volume = await world.create();
    const count = 400;
    for (let index = 0; index < count; index += 1)
      await volume.write(index * 5 * MiB, filled(index % 251));
    await volume.sync();
    const into = new Uint8Array(4096);
    for (let index = count - 1; index >= 0; index -= 1) {
      await volume.read(index * 5 * MiB, into);
      assert.equal(into[0], index % 251);
    }
    assert.ok(world.driver.mapPages <= 70, `${world.driver.mapPages} pages are in memory`);
    await volume.close();
  });
});

test('the pages of a tree that is closed make room, also those that nobody has stored', async () => {
  const pagesMin = 64;
  const budget = new PageBudget(0);
  for (let round = 0; round < 2 * pagesMin; round += 1) {
    const tree = new PageTree([], budget, { place: new Uint32Array(placeWords), level: 0 });
    const root = await tree.rootFor(pageFanout);
    assert.ok(root.dirty && tree.peek(0) === 'hole');
    tree.close();
  }
  assert.equal(budget.pageCount, pagesMin);
});
