/**
 * The life of volumes against plain bytes in memory: random writes, discards, sizes, snapshots,
 * rollbacks, clones of clones, flattening, compaction and deletion, with a backend that refuses and
 * loses answers and a host that dies. Everything reads as it should, every snapshot and every clone
 * too, and what is said to differ between two snapshots makes the one of the other.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KiB } from '../../src/core/units.ts';
import { seededRandom } from '../../src/platform/random.ts';
import { isForClone, nameForClone } from '../../src/registry/snapshot-records.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { checkDifferences, differencesOf } from '../support/differences.ts';
import { scrubVolume } from '../support/volume-scrub.ts';
import { VolumeWorld } from '../support/volume-world.ts';

const bytesMax = 256 * KiB;
const block = 4096;
const crumbs = { segmentBytes: 16 * KiB, cutBytes: 16 * KiB, tailSegmentsMax: 3 };
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A volume, and what it and its snapshots should read as. */
interface Disk {
  readonly world: VolumeWorld;
  readonly snapshots: Map<string, Uint8Array>;
  volume: Volume;
  bytes: Uint8Array;
}

class Life {
  readonly disks: Disk[] = [];
  readonly #random: () => number;
  readonly #seed: number;
  #number = 0;
  counts = { snapshots: 0, rollbacks: 0, clones: 0, flattened: 0, crashes: 0, differences: 0 };

  constructor(seed: number) {
    this.#seed = seed;
    const source = seededRandom(seed);
    this.#random = () => source.fraction();
  }

  async begin(): Promise<void> {
    const world = new VolumeWorld(this.#seed % 2 === 0 ? crumbs : {}, this.#seed * 1000);
    this.#unsettle(world);
    const volume = await world.create();
    this.disks.push({ world, volume, snapshots: new Map(), bytes: new Uint8Array(0) });
  }

  async step(): Promise<void> {
    const disk = this.#any(this.disks) as Disk;
    const what = this.#random();
    if (what < 0.6) await this.#change(disk);
    else if (what < 0.68) await disk.volume.sync();
    else if (what < 0.76) await this.#snapshot(disk);
    else if (what < 0.8) await this.#deleteSnapshot(disk);
    else if (what < 0.84) await this.#rollBack(disk);
    else if (what < 0.89) await this.#clone(disk);
    else if (what < 0.91) await this.#flatten(disk);
    else if (what < 0.95) await disk.volume.care.compact();
    else await this.#crash(disk);
  }

  async check(what: string): Promise<void> {
    for (const disk of this.disks) {
      assert.ok(Buffer.compare(await contentOf(disk.volume), disk.bytes) === 0, `${what}: content`);
      for (const [name, bytes] of disk.snapshots) {
        const found = await this.#read(disk, name);
        assert.ok(Buffer.compare(found, bytes) === 0, `${what}: snapshot ${name}`);
      }
      await this.#compareSnapshots(disk);
    }
  }

  /** Snapshots go, and what nobody reaches with them: the rest is as it was. */
  async end(what: string): Promise<void> {
    for (const disk of this.disks) {
      disk.world.faults.choose = () => 'none';
      for (const name of [...disk.snapshots.keys()]) await this.#tryDelete(disk, name);
      await disk.volume.sync();
      await disk.volume.care.act({ do: 'collect' });
    }
    await this.check(`${what} at the end`);
    for (const { volume } of this.disks) await volume.close();
    for (const { world, bytes } of this.disks) {
      await assertNothingLeaks(world, what);
      const volume = await world.open();
      assert.ok(Buffer.compare(await contentOf(volume), bytes) === 0, `${what}: after the scrub`);
      await volume.close();
      const errors = world.log.lines.filter(({ level }) => level === 'error');
      assert.deepEqual(errors, [], what);
    }
  }

  /** `unit`: a change that covers whole blocks happens at once. */
  async #change(disk: Disk, unit = this.#random() < 0.7 ? block : 1): Promise<void> {
    const offset = this.#below((bytesMax * 0.9) / unit) * unit;
    const length = Math.min(bytesMax - offset, (1 + this.#below(40_000 / unit)) * unit);
    const how = this.#random();
    if (how < 0.8) {
      const data = new Uint8Array(length).fill(1 + this.#below(255));
      await disk.volume.write(offset, data);
      resize(disk, Math.max(disk.bytes.length, offset + length));
      disk.bytes.set(data, offset);
    } else if (how < 0.95) {
      await disk.volume.trim(offset, length);
      disk.bytes.fill(0, offset, offset + length);
    } else {
      await disk.volume.resize(offset);
      resize(disk, offset);
    }
  }

  /** While writes go on: it holds those that were acknowledged before, and a prefix of the others. */
  async #snapshot(disk: Disk): Promise<void> {
    const name = this.#newName();
    const states = [disk.bytes.slice()];
    const made = disk.volume.care.snapshot(name, 1n);
    for (let count = this.#below(3); count > 0; count -= 1) {
      await this.#change(disk, block);
      states.push(disk.bytes.slice());
    }
    await made;
    const found = await this.#read(disk, name);
    assert.ok(
      states.some((state) => Buffer.compare(state, found) === 0),
      `${name} is no prefix`,
    );
    disk.snapshots.set(name, found);
    this.counts.snapshots += 1;
  }

  async #read({ world }: Disk, name: string): Promise<Uint8Array> {
    const record = await world.snapshots.get(world.id, name);
    const view = await world.driver.view(world.id, record);
    const found = new Uint8Array(view.sizeBytes);
    assert.equal(await view.read(0, found), found.length);
    await view.close();
    return found;
  }

  /** Neighbours, and others: back and forth in time. */
  async #compareSnapshots({ world, snapshots }: Disk): Promise<void> {
    const names = [...snapshots.keys()];
    for (const [index, name] of names.entries())
      for (const other of new Set([names[index + 1] ?? name, this.#any(names) as string])) {
        const found = await differencesOf(world, name, other);
        const [before, after] = [snapshots.get(name), snapshots.get(other)] as Uint8Array[];
        checkDifferences(world, found, before as Uint8Array, after as Uint8Array);
        this.counts.differences += found.length;
      }
  }

  async #deleteSnapshot(disk: Disk): Promise<void> {
    const name = this.#any([...disk.snapshots.keys()]);
    if (name !== undefined) await this.#tryDelete(disk, name);
    await disk.volume.care.act({ do: 'collect' });
  }

  async #tryDelete({ world, snapshots }: Disk, name: string): Promise<void> {
    const hasClones = (await world.snapshots.clones(world.id, name)).length > 0;
    const deleting = world.snapshots.delete(world.id, name);
    if (hasClones) return assert.rejects(deleting, { code: 'busy' });
    assert.ok(await deleting);
    snapshots.delete(name);
  }

  async #rollBack(disk: Disk): Promise<void> {
    const name = this.#any([...disk.snapshots.keys()]);
    if (name === undefined) return;
    const before = this.#newName();
    disk.volume = await disk.world.rollBack(disk.volume, name, before);
    disk.snapshots.set(before, disk.bytes);
    disk.bytes = (disk.snapshots.get(name) as Uint8Array).slice();
    this.counts.rollbacks += 1;
  }

  async #clone(disk: Disk): Promise<void> {
    if (this.disks.length === 5) return;
    this.#number += 1;
    const seed = this.#seed * 1000 + this.#number;
    const named = this.#random() < 0.5 ? this.#any([...disk.snapshots.keys()]) : undefined;
    const world = new VolumeWorld({}, seed);
    const name = named ?? nameForClone(world.id);
    const bytes = (named === undefined ? disk.bytes : disk.snapshots.get(name)) as Uint8Array;
    if (named === undefined) await disk.volume.care.snapshot(name, 3n);
    const clone = await disk.world.clone(name, seed);
    this.#unsettle(clone);
    const volume = await clone.open();
    this.disks.push({ world: clone, volume, snapshots: new Map(), bytes: bytes.slice() });
    this.counts.clones += 1;
  }

  /** It needs its parent no more: the snapshot that was there for it goes. */
  async #flatten(disk: Disk): Promise<void> {
    const { world, volume, snapshots } = disk;
    if (snapshots.size > 0 || (await world.snapshots.clones(world.id)).length > 0) return;
    for (let isDone = false; !isDone; ) {
      const { flattened } = await volume.care.act({ do: 'flatten' });
      isDone = flattened?.isDone === true;
      if (!isDone) await this.#change(disk);
    }
    const descent = await world.snapshots.detach(world.id);
    if (!descent) return;
    this.counts.flattened += 1;
    const { parent, snapshot } = descent;
    if (!isForClone(snapshot)) return;
    await world.snapshots.delete(parent, snapshot);
    const parentDisk = this.disks.find((other) => other.world.id === parent);
    await parentDisk?.volume.care.act({ do: 'collect' });
  }

  async #crash(disk: Disk): Promise<void> {
    const late = this.#random() < 0.5 ? disk.volume.sync().catch(() => {}) : undefined;
    await pause(this.#random() * 8);
    await disk.world.kill(disk.volume);
    await late;
    disk.volume = await disk.world.open();
    this.counts.crashes += 1;
  }

  #unsettle(world: VolumeWorld): void {
    world.faults.choose = () => {
      const fate = this.#random();
      return fate < 0.05 ? 'before' : fate < 0.1 ? 'after' : 'none';
    };
  }

  #newName(): string {
    this.#number += 1;
    return `s${this.#number}`;
  }

  #below(bound: number): number {
    return Math.floor(this.#random() * bound);
  }

  #any<T>(list: readonly T[]): T | undefined {
    return list[this.#below(list.length)];
  }
}

/** What crashes have left is seen, and without it there is exactly what is reached. */
async function assertNothingLeaks(world: VolumeWorld, what: string): Promise<void> {
  // It begins a tenure: those before it have ended.
  await (await world.open()).close();
  const { findings, orphans } = await scrubVolume(world);
  assert.deepEqual(findings, [], what);
  const store = world.backend.bucket(world.bucket);
  await store.deleteMany(orphans.map(({ key }) => key));
  const left = await scrubVolume(world);
  assert.deepEqual([left.findings, left.orphans], [[], []], what);
}

function resize(disk: Disk, size: number): void {
  const next = new Uint8Array(size);
  next.set(disk.bytes.subarray(0, size));
  disk.bytes = next;
}

async function contentOf(volume: Volume): Promise<Uint8Array> {
  const bytes = new Uint8Array(volume.size());
  assert.equal(await volume.read(0, bytes), bytes.length);
  return bytes;
}

const first = Number(process.env['WHARF_SEED'] ?? 1);
const count = process.env['WHARF_SEED'] === undefined ? 16 : 1;

test(`${count} families of volumes read as they should, whatever is done to them`, async () => {
  const sums = { snapshots: 0, rollbacks: 0, clones: 0, flattened: 0, crashes: 0, differences: 0 };
  for (let seed = first; seed < first + count; seed += 1) {
    const life = new Life(seed);
    await life.begin();
    for (let step = 0; step < 120; step += 1) {
      await life.step();
      if (step % 30 === 29) await life.check(`seed ${seed} step ${step}`);
    }
    await life.end(`seed ${seed}`);
    for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += life.counts[key];
  }
  for (const [what, number] of Object.entries(sums))
    assert.ok(count === 1 || number > 0, `no ${what}`);
});
