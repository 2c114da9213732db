/**
 * Random work on a volume whose host dies again and again, at times with its SSD, with a backend that
 * refuses and loses answers. Whenever it has died, the bucket alone gives the volume after some prefix
 * of its changes, and that prefix holds all that were brought to the backend.
 */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { KiB } from '../../src/core/units.ts';
import { MemoryDisk } from '../../src/platform/memory-disk.ts';
import { seededRandom } from '../../src/platform/random.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { rebuildVolume } from '../support/rebuilt-volume.ts';
import { VolumeWorld } from '../support/volume-world.ts';

const blockBytes = 4 * KiB;
const blocks = 64;
const digest = (bytes: Uint8Array) => createHash('sha1').update(bytes).digest('hex');

/** The volume, and every state that may be found. */
class Model {
  bytes = new Uint8Array(0);
  #states = [digest(this.bytes)];

  change(size: number, edit: (bytes: Uint8Array) => void): void {
    const next = new Uint8Array(size);
    next.set(this.bytes.subarray(0, size));
    edit(next);
    this.bytes = next;
    this.#states.push(digest(next));
  }

  /** Nothing older may be found any more. */
  settle(found: Uint8Array = this.bytes): void {
    this.bytes = Uint8Array.from(found);
    this.#states = [digest(found)];
  }

  allows(found: Uint8Array): boolean {
    return this.#states.includes(digest(found));
  }
}

async function work(volume: Volume, model: Model, below: (bound: number) => number) {
  const fate = below(20);
  const block = below(blocks);
  const count = 1 + below(Math.min(24, blocks - block));
  const [from, to] = [block * blockBytes, (block + count) * blockBytes];
  if (fate < 13) {
    const data = new Uint8Array(to - from).fill(1 + below(255));
    await volume.write(from, data);
    model.change(Math.max(model.bytes.length, to), (bytes) => bytes.set(data, from));
  } else if (fate < 15) {
    await volume.trim(from, to - from);
    model.change(model.bytes.length, (bytes) => bytes.fill(0, from, to));
  } else if (fate < 16) {
    await volume.resize(from);
    model.change(from, () => {});
  } else if (fate < 17) {
    await volume.sync();
    model.settle();
  } else await new Promise((resolve) => setTimeout(resolve, below(15)));
}

async function contentOf(volume: Volume): Promise<Uint8Array> {
  const bytes = new Uint8Array(volume.size());
  await volume.read(0, bytes);
  return bytes;
}

async function life(seed: number): Promise<void> {
  const random = seededRandom(seed);
  const below = (bound: number) => Math.floor(random.fraction() * bound);
  // Cuts of several segments, many of them between two checkpoints.
  const small = { segmentBytes: 16 * KiB, cutBytes: 96 * KiB, destageDelayMs: 3 };
  const world = new VolumeWorld({ ...small, tailSegmentsMax: 4 + below(40) }, seed);
  world.faults.choose = () => (below(10) === 0 ? 'before' : below(10) === 0 ? 'after' : 'none');
  const model = new Model();
  let volume = await world.create();
  for (let round = 0; round < 12; round += 1) {
    for (let step = below(40); step > 0; step -= 1) await work(volume, model, below);
    await world.kill(volume);
    const { content } = await rebuildVolume(world);
    assert.ok(model.allows(content), `seed ${seed} round ${round}: no prefix of its changes`);
    const isSsdLost = below(3) === 0;
    if (isSsdLost) {
      world.disk = new MemoryDisk();
      await world.records.acceptLoss(await world.records.get(world.id));
    }
    volume = await world.open();
    if (!isSsdLost) continue;
    model.settle(await contentOf(volume));
    // What the lost tenure has left behind has a successor from here on.
    await work(volume, model, () => 0);
    await volume.sync();
    model.settle();
  }
  await volume.close();
}

const first = Number(process.env['WHARF_SEED'] ?? 1);
const count = process.env['WHARF_SEED'] === undefined ? 6 : 1;

test('a volume is rebuilt from its bucket alone', async () => {
  for (let seed = first; seed < first + count; seed += 1) await life(seed);
});
