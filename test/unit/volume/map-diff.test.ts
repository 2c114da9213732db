/** What differs between two snapshots, found from their block maps, in volumes far larger than their data. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MiB, TiB } from '../../../src/core/units.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import type { Difference } from '../../../src/volume/map-diff.ts';
import { compareMaps } from '../../../src/volume/map-diff.ts';
import type { VolumeSettings } from '../../../src/volume/settings.ts';
import type { Volume } from '../../../src/volume/volume.ts';
import { differencesOf } from '../../support/differences.ts';
import { VolumeWorld } from '../../support/volume-world.ts';

const block = 4096;
const volumeBytes = 3 * TiB;
/** First blocks of a leaf, and last ones of pages of every level. */
const places = [0, 250, 256 ** 2 - 3, 256 ** 3 - 3, 256 ** 3 * 11, volumeBytes / block - 8];

/** No checkpoint comes unasked. */
const untouched = { checkpointDelayMs: 60_000, deltaBlocksMax: 10_000, tailSegmentsMax: 1000 };

/** What a volume should hold: the byte that fills each block, and its size in blocks. */
interface Model {
  readonly filled: Map<number, number>;
  blocks: number;
}

class Sparse {
  readonly world: VolumeWorld;
  readonly kept = new Map<string, Model>();
  readonly #random: () => number;
  volume: Volume;
  model: Model = { filled: new Map(), blocks: 0 };

  private constructor(world: VolumeWorld, volume: Volume, seed: number) {
    const source = seededRandom(seed);
    this.#random = () => source.fraction();
    this.world = world;
    this.volume = volume;
  }

  static async make(seed: number, settings: Partial<VolumeSettings> = {}): Promise<Sparse> {
    const world = new VolumeWorld(settings, seed);
    const sparse = new Sparse(world, await world.create(), seed);
    await sparse.resize(volumeBytes / block);
    return sparse;
  }

  async step(): Promise<void> {
    const what = this.#random();
    const at = (places[this.#below(places.length)] as number) + this.#below(8);
    if (what < 0.55) await this.write(at, 1 + this.#below(255));
    else if (what < 0.7) await this.trim(at, at + 1 + this.#below(20));
    else if (what < 0.74) await this.trim(at, at + this.#below(256 ** 3));
    else if (what < 0.78) await this.resize(Math.max(at, 1));
    else if (what < 0.8) await this.resize(volumeBytes / block);
    else if (what < 0.86) await this.volume.sync();
    else if (what < 0.9) await this.volume.care.compact();
    else if (what < 0.97) await this.snapshot(`s${this.kept.size}`);
    else await this.rollBack();
  }

  async write(at: number, value: number): Promise<void> {
    await this.volume.write(at * block, new Uint8Array(block).fill(value));
    this.model.filled.set(at, value);
    this.model.blocks = Math.max(this.model.blocks, at + 1);
  }

  async trim(from: number, to: number): Promise<void> {
    await this.volume.trim(from * block, (to - from) * block);
    this.#forget(from, to);
  }

  async resize(blocks: number): Promise<void> {
    await this.volume.resize(blocks * block);
    this.#forget(blocks, Number.POSITIVE_INFINITY);
    this.model.blocks = blocks;
  }

  async snapshot(name: string): Promise<void> {
    await this.volume.care.snapshot(name, 1n);
    this.kept.set(name, this.#copy());
  }

  async rollBack(): Promise<void> {
    const names = [...this.kept.keys()];
    const name = names[this.#below(names.length)];
    if (name === undefined) return;
    const before = `s${this.kept.size}`;
    this.volume = await this.world.rollBack(this.volume, name, before);
    this.kept.set(before, this.model);
    this.model = this.#copy(this.kept.get(name));
  }

  /** Gives how many blocks are listed, and how many of them were not changed. */
  check(found: readonly Difference[], from: string, to: string) {
    const [before, after] = [this.kept.get(from) as Model, this.kept.get(to) as Model];
    const listed = new Map<number, Difference['what']>();
    for (const { offset, length, what } of found) {
      assert.ok(offset + length <= after.blocks * block);
      for (let at = offset / block; at < (offset + length) / block; at += 1) {
        assert.ok(!listed.has(at));
        listed.set(at, what);
      }
    }
    let unchanged = 0;
    for (const [at, what] of listed) {
      assert.equal(what, after.filled.has(at) ? 'data' : 'zeroes', `block ${at}`);
      if (before.filled.get(at) === after.filled.get(at)) unchanged += 1;
    }
    for (const at of new Set([...before.filled.keys(), ...after.filled.keys()])) {
      const isChanged = before.filled.get(at) !== after.filled.get(at);
      if (isChanged && at < after.blocks) assert.ok(listed.has(at), `block ${at} is missing`);
    }
    return { blocks: listed.size, unchanged };
  }

  #copy({ filled, blocks } = this.model): Model {
    return { filled: new Map(filled), blocks };
  }

  #forget(from: number, to: number): void {
    for (const at of this.model.filled.keys())
      if (at >= from && at < to) this.model.filled.delete(at);
  }

  #below(bound: number): number {
    return Math.floor(this.#random() * bound);
  }
}

/** With the pages that were read for it. */
async function counted(world: VolumeWorld, from: string, to: string) {
  const view = async (name: string) => {
    const opened = await world.driver.view(world.id, await world.snapshots.get(world.id, name));
    const { tree } = opened.map;
    const load = tree.loadPage.bind(tree);
    tree.loadPage = (...page) => {
      loads += 1;
      return load(...page);
    };
    return opened;
  };
  let loads = 0;
  const found: Difference[] = [];
  const [before, after] = [await view(from), await view(to)];
  const deps = { checksum: world.checksum, yieldTurn: () => Promise.resolve() };
  for await (const { differences } of compareMaps(deps, before, after)) found.push(...differences);
  for (const opened of [before, after]) await opened.close();
  return { found, loads };
}

describe('what differs between two snapshots', () => {
  test('is never missing, in any page of the map, whichever comes first', async () => {
    let [listed, unchanged] = [0, 0];
    for (let seed = 1; seed <= 6; seed += 1) {
      const sparse = await Sparse.make(seed, { deltaBlocksMax: seed % 2 === 0 ? 8 : 64 });
      for (let step = 0; step < 200; step += 1) await sparse.step();
      const names = [...sparse.kept.keys()];
      for (const from of names)
        for (const to of names) {
          const found = await differencesOf(sparse.world, from, to);
          if (from === to) assert.deepEqual(found, []);
          const counts = sparse.check(found, from, to);
          listed += counts.blocks;
          unchanged += counts.unchanged;
        }
      await sparse.volume.close();
    }
    // The same again at another place, by a write or by compaction.
    assert.ok(listed > 500 && unchanged < listed / 4, `${unchanged} of ${listed}`);
  });

  test('is found without reading what is the same', async () => {
    const sparse = await Sparse.make(2, untouched);
    // 2,000 leaves in 8 pages above them, in one; of those 3 leaves are changed.
    const leafBlocks = 256;
    for (let leaf = 0; leaf < 2000; leaf += 1) await sparse.write(leaf * leafBlocks, 1);
    await sparse.volume.sync();
    await sparse.snapshot('a');
    for (const leaf of [5, 700, 701]) await sparse.write(leaf * leafBlocks + 7, 2);
    await sparse.volume.sync();
    await sparse.snapshot('b');
    const { found, loads } = await counted(sparse.world, 'a', 'b');
    assert.deepEqual(
      found.map(({ offset, length, what }) => [offset / MiB, length, what]),
      [5, 700, 701].map((leaf) => [leaf + 7 / leafBlocks, block, 'data']),
    );
    // Of each map: the root, the page below it, two pages above leaves, three leaves.
    assert.ok(loads <= 2 * 7, `${loads} pages`);
    await sparse.volume.close();
  });

  test('is not looked for in what both have trimmed as a whole', async () => {
    const sparse = await Sparse.make(4, untouched);
    for (let leaf = 0; leaf < 300; leaf += 1) await sparse.write(leaf * 256, 1);
    await sparse.volume.sync();
    await sparse.trim(0, 256 * 300);
    await sparse.snapshot('a');
    await sparse.write(256 * 7, 1);
    await sparse.snapshot('b');
    const { found, loads } = await counted(sparse.world, 'a', 'b');
    assert.deepEqual(
      found.map(({ offset, what }) => [offset / MiB, what]),
      [[7, 'data']],
    );
    assert.ok(loads <= 2 * 5, `${loads} pages`);
    await sparse.volume.close();
  });

  test('is refused, not guessed, where the map can not be read', async () => {
    const sparse = await Sparse.make(6);
    const { world } = sparse;
    await sparse.volume.close();
    world.isUncached = true;
    sparse.volume = await world.open();
    for (const [value, name] of [
      [1, 'a'],
      [2, 'b'],
    ] as const) {
      await sparse.write(0, value);
      await sparse.volume.sync();
      await sparse.snapshot(name);
    }
    await sparse.volume.close();
    const store = world.backend.bucket(world.bucket);
    const { blobs } = await store.list({ prefix: 'segment/' });
    await store.deleteMany(blobs.map(({ key }) => key));
    await assert.rejects(differencesOf(world, 'a', 'b'), { code: 'corrupt' });
  });
});
