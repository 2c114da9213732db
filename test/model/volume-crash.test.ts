/**
 * Random work on a volume whose host dies at random moments, again and again, with a backend that
 * refuses and loses answers: what is found after each crash is the volume after some prefix of its
 * acknowledged changes, and that prefix holds all that were flushed (invariants 3 and 4).
 */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { KiB } from '../../src/core/units.ts';
import { seededRandom } from '../../src/platform/random.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { VolumeWorld } from '../support/volume-world.ts';

const bytesMax = 192 * KiB;
const digest = (bytes: Uint8Array) => createHash('sha1').update(bytes).digest('hex');

/** The volume as it should be, and every state that a crash may bring back. */
class Model {
  bytes = new Uint8Array(0);
  /** States since the last flush, oldest first; the first one is flushed. */
  #states = [digest(this.bytes)];

  change(size: number, edit: (bytes: Uint8Array) => void): void {
    const next = new Uint8Array(size);
    next.set(this.bytes.subarray(0, size));
    edit(next);
    this.bytes = next;
    this.#states.push(digest(next));
  }

  flushed(): void {
    this.#states = [digest(this.bytes)];
  }

  allows(found: Uint8Array): boolean {
    return this.#states.includes(digest(found));
  }

  adopt(found: Uint8Array): void {
    this.bytes = found.slice();
    this.#states = [digest(found)];
  }
}

async function contentOf(volume: Volume): Promise<Uint8Array> {
  const bytes = new Uint8Array(volume.size());
  assert.equal(await volume.read(0, bytes), bytes.length);
  return bytes;
}

async function work(volume: Volume, model: Model, random: () => number): Promise<void> {
  const below = (bound: number) => Math.floor(random() * bound);
  const what = random();
  const isAligned = random() < 0.6;
  const unit = isAligned ? 4096 : 1;
  const offset = below((bytesMax * 0.8) / unit) * unit;
  const length = Math.min(bytesMax - offset, (1 + below(40_000 / unit)) * unit);
  if (what < 0.6) {
    const data = new Uint8Array(length).fill(below(256));
    await volume.write(offset, data);
    model.change(Math.max(model.bytes.length, offset + length), (bytes) => bytes.set(data, offset));
  } else if (what < 0.7) {
    // A trim of whole blocks is one change; one that covers blocks in part is several.
    const from = offset - (offset % 4096);
    await volume.trim(from, length - (length % 4096));
    model.change(model.bytes.length, (bytes) =>
      bytes.fill(0, from, from + length - (length % 4096)),
    );
  } else if (what < 0.75) {
    await volume.resize(offset);
    model.change(offset, () => {});
  } else if (what < 0.9) {
    await volume.flush();
    model.flushed();
  } else if (what < 0.95) {
    await volume.sync();
    model.flushed();
  } else await new Promise((resolve) => setTimeout(resolve, below(12)));
}

/** Many small segments, so that space is won back all the while. */
const crumbs = { segmentBytes: 16 * KiB, cutBytes: 16 * KiB, tailSegmentsMax: 2 };

/**
 * A write that covers blocks in part may be cut between its blocks; let each run be one change.
 * Gives the bytes that were moved to win space back.
 */
async function life(seed: number, lives: number): Promise<number> {
  const source = seededRandom(seed);
  const random = () => source.fraction();
  const world = new VolumeWorld(seed % 2 === 0 ? crumbs : {}, seed);
  let rewrittenBytes = 0;
  const model = new Model();
  let volume = await world.create();
  for (let round = 0; round < lives; round += 1) {
    world.faults.choose = () => {
      const fate = random();
      return fate < 0.1 ? 'before' : fate < 0.2 ? 'after' : 'none';
    };
    const steps = Math.floor(random() * 40);
    for (let step = 0; step < steps; step += 1) await work(volume, model, random);
    // Something may be on its way when it happens.
    const late = random() < 0.5 ? volume.sync().catch(() => {}) : undefined;
    if (random() < 0.5) await new Promise((resolve) => setTimeout(resolve, random() * 8));
    rewrittenBytes += volume.status().rewrittenBytes;
    const isPower = random() < 0.6;
    if (isPower) await world.cutPower(volume, Math.floor(random() * 1e9));
    else await world.kill(volume);
    await late;
    volume = await world.open();
    const found = await contentOf(volume);
    const what = `seed ${seed} round ${round} ${isPower ? 'power cut' : 'kill'}`;
    if (isPower)
      assert.ok(model.allows(found), `${what}: not a prefix that holds what was flushed`);
    else assert.equal(digest(found), digest(model.bytes), `${what}: acknowledged changes are lost`);
    model.adopt(found);
  }
  world.faults.choose = () => 'none';
  await volume.sync();
  await volume.close();
  volume = await world.open();
  assert.equal(digest(await contentOf(volume)), digest(model.bytes), `seed ${seed}: after a sync`);
  await volume.close();
  const errors = world.log.lines.filter((line) => line.level === 'error');
  assert.deepEqual(errors, [], `seed ${seed}`);
  return rewrittenBytes;
}

const first = Number(process.env['WHARF_SEED'] ?? 1);
const count = process.env['WHARF_SEED'] === undefined ? 20 : 1;

test(`a volume survives ${count * 12} crashes with all that was flushed`, async () => {
  let rewrittenBytes = 0;
  for (let seed = first; seed < first + count; seed += 1) rewrittenBytes += await life(seed, 12);
  assert.ok(count === 1 || rewrittenBytes > 0, 'nothing was compacted meanwhile');
});
