/** Space on the backend: what is won back by rewriting mostly dead segments, and that it hurts nobody. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KiB } from '../../../src/core/units.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import { planCompaction } from '../../../src/volume/compaction-plan.ts';
import type { Volume } from '../../../src/volume/volume.ts';
import { VolumeWorld } from '../../support/volume-world.ts';

const blockBytes = 4096;
const blocks = 1024;
const soon = (ms = 5) => new Promise((resolve) => setTimeout(resolve, ms));

const filled = (value: number) => {
  const bytes = new Uint8Array(blockBytes).fill(value & 0xff);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
};

class Writer {
  readonly volume: Volume;
  readonly values = new Map<number, number>();
  readonly #random = seededRandom(3);
  #next = 1;

  constructor(volume: Volume) {
    this.volume = volume;
  }

  async write(count: number): Promise<void> {
    for (let index = 0; index < count; index += 1) {
      const block = Math.floor(this.#random.fraction() * blocks);
      await this.volume.write(block * blockBytes, filled(this.#next));
      this.values.set(block, this.#next);
      this.#next += 1;
    }
  }

  async check(volume: Volume): Promise<void> {
    const found = new Uint8Array(blockBytes);
    for (const [block, value] of this.values) {
      await volume.read(block * blockBytes, found);
      assert.deepEqual(found, filled(value), `block ${block}`);
    }
  }
}

async function storedBytes(world: VolumeWorld): Promise<number> {
  const { blobs } = await world.backend.bucket(world.bucket).list({ prefix: 'segment/' });
  return blobs.reduce((sum, { bytes }) => sum + bytes, 0);
}

describe('the plan of a compaction', () => {
  const named = (live: readonly number[]) =>
    live.map((bytes, sequence) => [{ epoch: 1, sequence }, bytes] as const);

  test('is to do nothing where little would be won', () => {
    assert.deepEqual(planCompaction(named([]), 100), []);
    assert.deepEqual(planCompaction(named(new Array(100).fill(90)), 100), []);
    assert.deepEqual(planCompaction(named([1, 1, 1]), 100), [], 'too few to matter');
  });

  test('is the emptiest first, and no more than one checkpoint should carry', () => {
    const victims = planCompaction(
      named([100, 10, 100, 20, 100, 100, 30, 100, 100, 100, 15, 100]),
      100,
    );
    assert.deepEqual(victims.map(({ sequence }) => sequence).slice(0, 4), [1, 10, 3, 6]);
    const many = planCompaction(named(new Array(1000).fill(50)), 100);
    assert.equal(many.length, 16);
  });

  test('leaves the dead to be deleted', () => {
    const victims = planCompaction(named([0, 0, ...new Array(20).fill(10)]), 100);
    assert.ok(victims.every(({ sequence }) => sequence >= 2));
  });
});

describe('a volume under random overwrites', () => {
  test('takes little more space than what lives in it, once it settles', async () => {
    const world = new VolumeWorld({ segmentBytes: 64 * KiB, cutBytes: 64 * KiB });
    const volume = await world.create();
    const writer = new Writer(volume);
    await writer.write(12 * blocks);
    await volume.care.compact();
    const live = writer.values.size * blockBytes;
    await soon(50);
    const stored = await storedBytes(world);
    assert.ok(stored <= 1.4 * live, `${stored} bytes are stored for ${live}`);
    const { rewrittenBytes, reclaimedBytes } = volume.status();
    assert.ok(rewrittenBytes > 0 && reclaimedBytes > 0);
    await writer.check(volume);
    await volume.close();
    await writer.check(await world.open());
  });

  test('is compacted as it is when that is ordered, however much is written meanwhile', async () => {
    const world = new VolumeWorld({ segmentBytes: 64 * KiB, cutBytes: 64 * KiB });
    const volume = await world.create();
    const writer = new Writer(volume);
    await writer.write(4 * blocks);
    let isDone = false;
    const compacted = volume.care.compact().then(() => {
      isDone = true;
    });
    for (let round = 0; !isDone; round += 1) {
      assert.ok(round < 100, 'there is always something to win');
      await writer.write(64);
      await soon(1);
    }
    await compacted;
    await writer.check(volume);
    await volume.close();
  });

  test('is compacted beside its writers, without being told', async () => {
    const world = new VolumeWorld({ segmentBytes: 64 * KiB, cutBytes: 64 * KiB });
    const volume = await world.create();
    const writer = new Writer(volume);
    for (let round = 0; round < 40; round += 1) {
      await writer.write(256);
      await soon(2);
    }
    await volume.sync();
    for (let attempt = 0; (await storedBytes(world)) > 1.6 * blocks * blockBytes; attempt += 1) {
      assert.ok(attempt < 400, `${await storedBytes(world)} bytes are left`);
      await soon(25);
    }
    await writer.check(volume);
    await world.kill(volume);
    await writer.check(await world.open());
  });
});

test('a dead segment is deleted once more, as its put may come when nobody waits for it', async () => {
  const world = new VolumeWorld();
  const volume = await world.create();
  const blobs = world.backend.blobs(world.bucket);
  await volume.write(0, filled(1));
  await volume.sync();
  const [key, body] = [...blobs].find(([name]) => name.startsWith('segment/')) as [
    string,
    Uint8Array,
  ];
  const isGone = async () => {
    for (let attempt = 0; blobs.has(key); attempt += 1) {
      assert.ok(attempt < 200, `${key} is left`);
      await soon();
    }
  };
  await volume.write(0, filled(2));
  await volume.sync();
  await isGone();
  await world.backend.bucket(world.bucket).put(key, body);
  await volume.care.act({ do: 'collect' });
  await isGone();
  await volume.close();
});
