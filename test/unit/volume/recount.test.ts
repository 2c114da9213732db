/** A table of live bytes that counts wrong: it is seen, and counted anew while the volume is in use. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KiB } from '../../../src/core/units.ts';
import { encodeHead } from '../../../src/format/head.ts';
import { placeLength, placeWord, placeWords } from '../../../src/format/place.ts';
import { segmentKey } from '../../../src/format/segment-key.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import type { Volume } from '../../../src/volume/volume.ts';
import { headOf, scrubVolume } from '../../support/volume-scrub.ts';
import { VolumeWorld } from '../../support/volume-world.ts';

const blockBytes = 4096;
const crumbs = { segmentBytes: 16 * KiB, cutBytes: 16 * KiB, deltaBlocksMax: 16 };

/** A volume at rest whose table says `change` of what lives in its first segments. */
async function withWrongTable(change: (live: number) => number): Promise<VolumeWorld> {
  const world = new VolumeWorld(crumbs);
  const volume = await world.create();
  for (let block = 0; block < 64; block += 1)
    await volume.write(block * blockBytes, new Uint8Array(blockBytes).fill(block + 1));
  await volume.sync();
  await volume.close();
  const head = await headOf(world);
  const { usage } = head;
  assert.equal(usage.length, placeWords);
  const key = segmentKey(usage[0] as number, usage[1] as number);
  const blob = world.backend.blobs(world.bucket).get(key) as Uint8Array;
  const from = usage[placeWord.offset] as number;
  const piece = blob.subarray(from, from + placeLength(usage, 0));
  const words = new DataView(piece.buffer, piece.byteOffset, piece.length);
  for (let at = 16, count = 0; count < 3; at += 12) {
    const live = words.getUint32(at, true);
    if (live === 0) continue;
    words.setUint32(at, change(live), true);
    count += 1;
  }
  usage[placeWord.checksum] = world.checksum.crc32c(piece);
  const { epoch } = await world.records.get(world.id);
  const heads = world.records.heads('volume');
  await heads.commitHead(world.id, world.tenure.epoch, encodeHead(head, world.checksum));
  assert.equal(epoch, world.tenure.epoch);
  return world;
}

/** Random blocks, destaged and checkpointed again and again; gives what is there then. */
async function rewrite(volume: Volume): Promise<Map<number, number>> {
  const random = seededRandom(5);
  const values = new Map<number, number>();
  for (let value = 1; value <= 150; value += 1) {
    const block = Math.floor(random.fraction() * 64);
    await volume.write(block * blockBytes, new Uint8Array(blockBytes).fill(value));
    values.set(block, value);
    if (value % 30 === 0) await volume.sync();
  }
  return values;
}

describe('a table of live bytes', () => {
  test('is right after whatever was written', async () => {
    const world = await withWrongTable((live) => live);
    const { findings, orphans, isTableWrong } = await scrubVolume(world);
    assert.deepEqual([findings, orphans, isTableWrong], [[], [], false]);
  });

  for (const [name, change, what] of [
    ['too few', (live: number) => live - 1000, /counts 3000 bytes too few: what lives may be/],
    ['none', () => 0, /counts \d+ bytes too few/],
    ['too many', (live: number) => live + 7, /counts 21 bytes too many/],
  ] as const)
    test(`that counts ${name} is seen, and counted anew beside writers`, async () => {
      const world = await withWrongTable(change);
      const { findings, isTableWrong } = await scrubVolume(world);
      assert.match(findings[0]?.what ?? '', what);
      assert.equal(isTableWrong, true);
      const volume = await world.open();
      // Map and table are in memory: from now on the count alone asks the backend.
      await volume.read(0, new Uint8Array(64 * blockBytes));
      await volume.care.act({ do: 'compact', how: 'plan' });
      const gate = Promise.withResolvers<void>();
      world.faults.delay = (operation) => (operation === 'get' ? gate.promise : Promise.resolve());
      const counting = volume.care.act({ do: 'recount' });
      const values = await rewrite(volume);
      gate.resolve();
      await counting;
      await volume.sync();
      await volume.close();
      assert.deepEqual((await scrubVolume(world)).findings, []);
      const again = await world.open();
      const found = new Uint8Array(blockBytes);
      for (const [block, value] of values) {
        await again.read(block * blockBytes, found);
        assert.equal(found[0], value);
      }
      await again.close();
      assert.deepEqual(
        world.log.lines.filter(({ level }) => level === 'error'),
        [],
      );
    });

  test('is not counted anew while a page can not be read, and nothing is deleted then', async () => {
    const world = await withWrongTable((live) => live - 1000);
    const { root } = await headOf(world);
    const blobs = world.backend.blobs(world.bucket);
    const key = segmentKey(root[0] as number, root[1] as number);
    const before = blobs.get(key) as Uint8Array;
    blobs.set(key, before.slice(0, 100));
    const volume = await world.open();
    await assert.rejects(volume.care.act({ do: 'recount' }), { code: 'corrupt' });
    blobs.set(key, before);
    const keys = [...blobs.keys()].filter((name) => name.startsWith('segment/'));
    await volume.write(0, new Uint8Array(32 * blockBytes));
    await volume.sync();
    for (const name of keys) assert.ok(blobs.has(name), name);
    await volume.care.act({ do: 'recount' });
    await volume.close();
    assert.deepEqual((await scrubVolume(world)).findings, []);
  });
});
