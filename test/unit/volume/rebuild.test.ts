/** What a volume's bucket alone tells of it, and which of its segments count. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KiB } from '../../../src/core/units.ts';
import { decodeHead } from '../../../src/format/head.ts';
import { decodeSegmentHead, encodeSegmentHead } from '../../../src/format/segment.ts';
import { MemoryDisk } from '../../../src/platform/memory-disk.ts';
import type { Volume } from '../../../src/volume/volume.ts';
import { rebuildVolume } from '../../support/rebuilt-volume.ts';
import { VolumeWorld } from '../../support/volume-world.ts';

const never = 3_600_000;
/** Each change is a cut soon; a checkpoint is made when it is asked for. */
const settings = {
  ...{ destageDelayMs: 1, checkpointDelayMs: never, tailSegmentsMax: 4000, deltaBlocksMax: 65_536 },
};
const blockBytes = 4 * KiB;
/** Of a segment's payload, by the world's settings. */
const segmentBlocks = 16;

/** Writes a block's number `value`, once or several times, and waits until it is destaged. */
async function write(volume: Volume, value: number, block = value - 1, count = 1): Promise<void> {
  await volume.write(block * blockBytes, new Uint8Array(count * blockBytes).fill(value));
  while (volume.status().notDestagedBytes > 0) await new Promise((resolve) => setTimeout(resolve));
}

const valuesOf = (content: Uint8Array) =>
  Array.from({ length: content.length / blockBytes }, (_, index) => content[index * blockBytes]);

const blobsOf = (world: VolumeWorld) => world.backend.blobs(world.bucket);
const keysOf = (world: VolumeWorld, prefix: string) =>
  [...blobsOf(world).keys()].filter((key) => key.startsWith(prefix)).sort();

async function expect(world: VolumeWorld, values: number[], faults = 0): Promise<void> {
  const rebuilt = await rebuildVolume(world);
  assert.deepEqual(valuesOf(rebuilt.content), values);
  assert.equal(rebuilt.faults.length, faults, rebuilt.faults.join('\n'));
}

/** Its owner is gone with its SSD, and somebody else serves what is committed. */
async function openElsewhere(world: VolumeWorld): Promise<Volume> {
  world.disk = new MemoryDisk();
  assert.ok(await world.records.acceptLoss(await world.records.get(world.id)));
  return world.open();
}

/** The owner does not know that it has been overtaken: what it puts is never committed. */
async function writeInVain(world: VolumeWorld, volume: Volume, value: number): Promise<void> {
  const before = keysOf(world, 'segment/').length;
  await world.records.claim(world.id, (await world.records.get(world.id)).owner);
  await volume.write((value - 1) * blockBytes, new Uint8Array(blockBytes).fill(value));
  while (volume.status().state !== 'failed') await new Promise((resolve) => setTimeout(resolve));
  assert.ok(keysOf(world, 'segment/').length > before);
  await volume.abandon();
}

describe('a volume whose registry is lost', () => {
  test('is empty where its bucket is', async () => {
    const world = new VolumeWorld(settings);
    const volume = await world.create();
    await world.kill(volume);
    const { isEmpty, content } = await rebuildVolume(world);
    assert.deepEqual([isEmpty, content.length], [true, 0]);
  });

  test('is what its cuts say before its first checkpoint', async () => {
    const world = new VolumeWorld(settings);
    const volume = await world.create();
    for (const value of [1, 2, 3]) await write(volume, value);
    await write(volume, 9, 1, 1);
    await world.kill(volume);
    await expect(world, [1, 9, 3]);
  });

  test('is what the newest copy of its head and the cuts behind it say', async () => {
    const world = new VolumeWorld(settings);
    const volume = await world.create();
    for (const value of [1, 2]) await write(volume, value);
    await volume.sync();
    for (const value of [3, 4]) await write(volume, value);
    await volume.trim(0, blockBytes);
    await write(volume, 5);
    await world.kill(volume);
    await expect(world, [0, 2, 3, 4, 5]);
    assert.equal(keysOf(world, 'head/').length, 1);
  });

  test('is not what an older copy of its head says that was left', async () => {
    const world = new VolumeWorld(settings);
    const volume = await world.create();
    await write(volume, 1);
    await volume.sync();
    const [key = ''] = keysOf(world, 'head/');
    const older = blobsOf(world).get(key) as Uint8Array;
    await write(volume, 2, 0);
    await volume.sync();
    await volume.close();
    blobsOf(world).set(key, older);
    await expect(world, [2]);
  });

  test('has the copy that was made last, whichever tenure has committed the head', async () => {
    const world = new VolumeWorld(settings);
    let volume = await world.create();
    await write(volume, 1);
    await volume.sync();
    await write(volume, 2);
    const names = new Set<string>();
    for (let tenure = 1; tenure <= 3; tenure += 1) {
      await volume.close();
      volume = await world.open();
      await volume.care.act({ do: 'flatten' });
      const [key = '', ...others] = keysOf(world, 'head/');
      assert.deepEqual(others, []);
      const committed = await world.records.findHead(world.id, 'volume');
      const [copied, now] = [blobsOf(world).get(key), committed?.head].map(
        (head) => decodeHead(head as Uint8Array, world.checksum).journalSequence,
      );
      assert.equal(copied, now);
      names.add(key);
    }
    assert.equal(names.size, 3, 'a name is never used twice');
    await volume.close();
  });

  test('goes on over tenures, also where one begins with a checkpoint', async () => {
    const world = new VolumeWorld(settings);
    let volume = await world.create();
    for (const value of [1, 2, 3]) {
      await write(volume, value);
      if (value !== 2) await volume.sync();
      await volume.close();
      volume = await world.open();
    }
    await write(volume, 4);
    await world.kill(volume);
    await expect(world, [1, 2, 3, 4]);
  });

  test('ends with its last whole cut', async () => {
    const world = new VolumeWorld(settings);
    const volume = await world.create();
    await write(volume, 1);
    const count = 2 * segmentBlocks;
    await write(volume, 2, 1, count + 1);
    const last = keysOf(world, 'segment/').at(-1) as string;
    await write(volume, 3, 0, 1);
    await world.kill(volume);
    await expect(world, [3, ...Array<number>(count + 1).fill(2)]);
    blobsOf(world).delete(last);
    // What is behind it is there, and can't be used.
    await expect(world, [1], 1);
  });

  test('has nothing of an owner that was overtaken, however late it comes', async () => {
    const world = new VolumeWorld(settings);
    const old = await world.create();
    await write(old, 1);
    await writeInVain(world, old, 2);
    // Before anything of the next tenure is there, it is the volume after a prefix of its writes.
    await expect(world, [1, 2]);
    const volume = await openElsewhere(world);
    await write(volume, 7, 0, segmentBlocks + 1);
    await write(volume, 8, 0);
    await world.kill(volume);
    await expect(world, [8, ...Array<number>(segmentBlocks).fill(7)]);
    // What is left of the next tenure's cut is enough to know that the old one's never counted.
    const [, first] = keysOf(world, 'segment/0000000').filter((key) => !key.includes('/00000002/'));
    blobsOf(world).delete(first as string);
    await expect(world, [1], 1);
  });

  test('can be rebuilt again before its next checkpoint', async () => {
    const world = new VolumeWorld(settings);
    const volume = await world.create();
    await write(volume, 1);
    await volume.sync();
    await write(volume, 2);
    await world.kill(volume);
    const again = await openElsewhere(world);
    await write(again, 3);
    await world.kill(again);
    await expect(world, [1, 2, 3]);
  });

  test('is read also where its segments name no record that they follow', async () => {
    const world = new VolumeWorld(settings);
    const volume = await world.create();
    await write(volume, 1);
    await volume.sync();
    for (const value of [2, 3]) await write(volume, value);
    await world.kill(volume);
    for (const key of keysOf(world, 'segment/')) {
      const blob = Uint8Array.from(blobsOf(world).get(key) ?? []);
      const { followsSequence, ...header } = decodeSegmentHead(blob, world.checksum);
      if (header.kind === 'data') assert.notEqual(followsSequence, undefined);
      encodeSegmentHead(blob, header, world.checksum);
      blobsOf(world).set(key, blob);
    }
    await expect(world, [1, 2, 3]);
  });

  test('is told to be damaged where that is so', async () => {
    const world = new VolumeWorld(settings);
    const volume = await world.create();
    await write(volume, 1);
    await volume.sync();
    await write(volume, 2);
    await world.kill(volume);
    const other = new VolumeWorld(settings, 2);
    const stranger = await other.create();
    await write(stranger, 6);
    await other.kill(stranger);
    const [, last = ''] = [keysOf(world, 'segment/'), keysOf(world, 'segment/').at(-1)];
    const whole = new Map(blobsOf(world));
    // Another volume's in the place of its own.
    const [foreign] = keysOf(other, 'segment/');
    blobsOf(world).set(last, blobsOf(other).get(foreign as string) as Uint8Array);
    await expect(world, [1], 1);
    blobsOf(world).set(last, whole.get(last) as Uint8Array);
    blobsOf(world).set('notes.txt', new Uint8Array(1));
    await expect(world, [1, 2], 1);
    blobsOf(world).delete('notes.txt');
    const [head = ''] = keysOf(world, 'head/');
    const damaged = Uint8Array.from(whole.get(head) ?? []);
    damaged[20] = 77;
    blobsOf(world).set(head, damaged);
    const { faults } = await rebuildVolume(world);
    assert.match(faults.join('\n'), /head\/.*wrong checksum/);
  });
});
