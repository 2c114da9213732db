/**
 * What administrators and guests do with the disks of a vPool on two hosts, at random, against plain
 * bytes in memory: made, written, discarded, resized, renamed, kept, rolled back, cloned, flattened,
 * compacted, moved and removed at whichever host, while hosts die and start again and the backend
 * refuses and loses answers. Every disk reads as it should at both hosts, and when all of them are
 * removed, nothing is left.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { noFaults } from '../../src/backend/with-faults.ts';
import { isStorageError } from '../../src/core/errors.ts';
import type { ObjectId } from '../../src/core/units.ts';
import { KiB } from '../../src/core/units.ts';
import { findPath } from '../../src/frontend/admin/vdisks.ts';
import type { WharfFileSystem } from '../../src/frontend/filesystem.ts';
import { seededRandom } from '../../src/platform/random.ts';
import { rootIno } from '../../src/ports/file-system.ts';
import { ClusterFront } from '../support/cluster-front.ts';
import { ClusterWorld } from '../support/cluster-world.ts';

const bytesMax = 96 * KiB;
const block = 4096;
const disksMax = 6;
const crumbs = { segmentBytes: 16 * KiB, cutBytes: 16 * KiB, tailSegmentsMax: 3 };

interface Disk {
  path: string;
  bytes: Uint8Array;
  readonly snapshots: Map<string, Uint8Array>;
}

class Life {
  readonly world = new ClusterWorld({ leaseMs: 60_000, volumes: crumbs });
  readonly counts = { made: 0, kept: 0, rolledBack: 0, cloned: 0, moved: 0, removed: 0, killed: 0 };
  readonly #random: () => number;
  readonly #disks: Disk[] = [];
  #fronts: ClusterFront[] = [];
  #number = 0;

  constructor(seed: number) {
    const source = seededRandom(seed);
    this.#random = () => source.fraction();
    this.world.faults = {
      ...noFaults(),
      choose: () => {
        const fate = this.#random();
        return fate < 0.03 ? 'before' : fate < 0.06 ? 'after' : 'none';
      },
    };
  }

  async begin(): Promise<void> {
    this.#fronts = [
      await ClusterFront.open(this.world, 'a'),
      await ClusterFront.open(this.world, 'b'),
    ];
    await this.#make();
  }

  async step(): Promise<void> {
    const disk = this.#any(this.#disks);
    const front = this.#any(this.#fronts) as ClusterFront;
    if (!disk) return this.#make();
    const what = this.#random();
    if (what < 0.5) await this.#change(front, disk);
    else if (what < 0.6) await this.#keep(front, disk);
    else if (what < 0.65) await this.#giveUp(front, disk);
    else if (what < 0.7) await this.#rollBack(front, disk);
    else if (what < 0.78) await this.#clone(front, disk);
    else if (what < 0.81) await this.#flatten(front, disk);
    else if (what < 0.84) await this.#compact(front, disk);
    else if (what < 0.89) await this.#move(front, disk);
    else if (what < 0.92) await this.#rename(front, disk);
    else if (what < 0.95) await this.#remove(front, disk);
    else if (what < 0.97) await this.#make();
    else await this.#kill();
  }

  async check(what: string): Promise<void> {
    for (const { fileSystem, snapshots } of this.#fronts)
      for (const { path, bytes, snapshots: kept } of this.#disks) {
        const { ino, sizeBytes } = await findPath(fileSystem, path);
        const found = new Uint8Array(bytes.length);
        assert.equal(sizeBytes, bytes.length, `${what}: size of ${path}`);
        assert.equal(await fileSystem.read(ino, 0, found), found.length);
        assert.ok(Buffer.compare(found, bytes) === 0, `${what}: content of ${path}`);
        const names = (await snapshots.list(path)).map(({ name }) => name);
        assert.deepEqual(names.sort(), [...kept.keys()].sort(), `${what}: snapshots of ${path}`);
        for (const [name, then] of kept)
          assert.ok(
            Buffer.compare(await shown(fileSystem, name), then) === 0,
            `${what}: .snapshots/${name} of ${path}`,
          );
      }
  }

  /** What is removed leaves nothing, once there are no clones of it. */
  async end(what: string): Promise<void> {
    await this.check(what);
    for (let attempt = 0; this.#disks.length > 0; attempt += 1) {
      assert.ok(attempt < 1000, `${what}: some can't be removed`);
      await this.#remove(this.#any(this.#fronts) as ClusterFront, this.#disks[0] as Disk);
      this.#disks.push(...this.#disks.splice(0, 1));
      // What holds them goes in the background.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    for (const { fileSystem } of this.#fronts) {
      await assert.rejects(fileSystem.lookup(rootIno, '.snapshots'), { code: 'not_found' });
      await fileSystem.close();
    }
    for (const { host } of this.#fronts) await host.stop();
    // Those that waited for a clone to go are removed by whoever starts next.
    const last = await ClusterFront.open(this.world, 'a');
    await last.fileSystem.close();
    const { entries } = await last.host.registry.range({ from: '', to: '\uffff' });
    const left = entries.map(({ key }) => key).filter((key) => /^[cghkops]/.test(key));
    assert.deepEqual(
      left.filter((key) => !key.startsWith('h:')),
      [],
      what,
    );
    await last.host.stop();
    // Others are of processes that were killed.
    const damage = this.world.log.lines.filter(({ message }) =>
      /damage|missing|lost with/.test(message),
    );
    assert.deepEqual(damage, [], what);
  }

  async #make(): Promise<void> {
    if (this.#disks.length >= disksMax) return;
    const path = this.#newPath();
    const sizeBytes = (1 + this.#below(bytesMax / block)) * block;
    await (this.#any(this.#fronts) as ClusterFront).changes.create(path, sizeBytes);
    this.#disks.push({ path, bytes: new Uint8Array(sizeBytes), snapshots: new Map() });
    this.counts.made += 1;
  }

  async #change({ fileSystem, changes }: ClusterFront, disk: Disk): Promise<void> {
    const { ino } = await findPath(fileSystem, disk.path);
    const size = disk.bytes.length;
    const offset = this.#below(size);
    const length = Math.max(1, this.#below(size - offset));
    const how = this.#random();
    if (how < 0.75) {
      const data = new Uint8Array(length).fill(1 + this.#below(255));
      await fileSystem.write(ino, offset, data);
      disk.bytes.set(data, offset);
    } else if (how < 0.9) {
      await fileSystem.allocate(ino, offset, length, { mode: 'punch', keepSize: true });
      disk.bytes.fill(0, offset, offset + length);
    } else {
      const bytes = (1 + this.#below(bytesMax / block)) * block;
      await changes.resize(disk.path, bytes, { force: true });
      const next = new Uint8Array(bytes);
      next.set(disk.bytes.subarray(0, bytes));
      disk.bytes = next;
    }
    if (this.#random() < 0.2) await fileSystem.flush(ino);
  }

  async #keep({ snapshots }: ClusterFront, disk: Disk): Promise<void> {
    this.#number += 1;
    const { name } = await snapshots.create(disk.path, `s${this.#number}`);
    disk.snapshots.set(name, disk.bytes.slice());
    this.counts.kept += 1;
  }

  async #giveUp({ snapshots }: ClusterFront, disk: Disk): Promise<void> {
    const name = this.#any([...disk.snapshots.keys()]);
    if (name === undefined) return;
    if (await this.#isDone(snapshots.delete(disk.path, name))) disk.snapshots.delete(name);
  }

  async #rollBack({ snapshots }: ClusterFront, disk: Disk): Promise<void> {
    const name = this.#any([...disk.snapshots.keys()]);
    if (name === undefined) return;
    const before = await snapshots.rollBack(disk.path, name, { force: false });
    disk.snapshots.set(before, disk.bytes);
    disk.bytes = (disk.snapshots.get(name) as Uint8Array).slice();
    this.counts.rolledBack += 1;
  }

  async #clone({ snapshots }: ClusterFront, disk: Disk): Promise<void> {
    if (this.#disks.length >= disksMax) return;
    const name = this.#random() < 0.5 ? this.#any([...disk.snapshots.keys()]) : undefined;
    const path = this.#newPath();
    await snapshots.clone(disk.path, name, path);
    const bytes = name === undefined ? disk.bytes : (disk.snapshots.get(name) as Uint8Array);
    this.#disks.push({ path, bytes: bytes.slice(), snapshots: new Map() });
    this.counts.cloned += 1;
  }

  /** Refused where something else reads from its ancestors through it. */
  async #flatten({ snapshots }: ClusterFront, disk: Disk): Promise<void> {
    const flattening = (async () => {
      while (!(await snapshots.flatten(disk.path)).isDone);
    })();
    await this.#isDone(flattening);
  }

  async #compact({ host, fileSystem }: ClusterFront, disk: Disk): Promise<void> {
    const ino = (await findPath(fileSystem, disk.path)).ino;
    await fileSystem.open(ino);
    const id = (await fileSystem.objectOf(ino)) as ObjectId;
    await host.care.ask(id, { do: 'compact', how: 'run' });
    await fileSystem.release(ino);
  }

  async #move({ host, fileSystem }: ClusterFront, disk: Disk): Promise<void> {
    const ino = (await findPath(fileSystem, disk.path)).ino;
    const id = (await fileSystem.objectOf(ino)) as ObjectId;
    if (await this.#isDone(host.router.fetch(id))) this.counts.moved += 1;
  }

  async #rename({ changes }: ClusterFront, disk: Disk): Promise<void> {
    const path = this.#newPath();
    await changes.rename(disk.path, path, 'no-replace');
    disk.path = path;
  }

  /** With its snapshots, if they may go. */
  async #remove({ changes, snapshots }: ClusterFront, disk: Disk): Promise<void> {
    for (const name of [...disk.snapshots.keys()])
      if (await this.#isDone(snapshots.delete(disk.path, name))) disk.snapshots.delete(name);
    const isGone = await this.#isDone(changes.remove(disk.path));
    assert.equal(isGone, disk.snapshots.size === 0, 'what has snapshots is not removed');
    if (!isGone) return;
    this.#disks.splice(this.#disks.indexOf(disk), 1);
    this.counts.removed += 1;
  }

  /** A host dies and starts again, on its disk. */
  async #kill(): Promise<void> {
    const index = this.#below(2);
    const front = this.#fronts[index] as ClusterFront;
    await front.kill();
    this.#fronts[index] = await ClusterFront.open(this.world, front.host.id);
    this.counts.killed += 1;
  }

  /** False where it is refused because something else needs what it would take. */
  async #isDone(action: Promise<unknown>): Promise<boolean> {
    try {
      await action;
      return true;
    } catch (error) {
      if (isStorageError(error, 'busy')) return false;
      throw error;
    }
  }

  #newPath(): string {
    this.#number += 1;
    return `/disk${this.#number}.raw`;
  }

  #below(bound: number): number {
    return Math.floor(this.#random() * bound);
  }

  #any<T>(list: readonly T[]): T | undefined {
    return list[this.#below(list.length)];
  }
}

/** What the only file of a snapshot holds; each is of one disk. */
async function shown(fileSystem: WharfFileSystem, name: string): Promise<Uint8Array> {
  const { ino: folder } = await findPath(fileSystem, `/.snapshots/${name}`);
  const [, , entry, more] = await fileSystem.list(folder, 0n, 4);
  assert.ok(entry && !more, `.snapshots/${name} holds one file`);
  const { sizeBytes } = await fileSystem.attributes(entry.ino);
  const found = new Uint8Array(sizeBytes);
  assert.equal(await fileSystem.read(entry.ino, 0, found), sizeBytes);
  return found;
}

const first = Number(process.env['WHARF_SEED'] ?? 1);
const count = process.env['WHARF_SEED'] === undefined ? 5 : 1;

test(`${count} vPools live as they should`, async () => {
  const sums: Record<string, number> = {};
  for (let seed = first; seed < first + count; seed += 1) {
    const life = new Life(seed);
    await using _world = life.world;
    await life.begin();
    for (let step = 0; step < 100; step += 1) {
      await life.step();
      if (step % 20 === 19) await life.check(`seed ${seed} step ${step}`);
    }
    await life.end(`seed ${seed}`);
    for (const [what, number] of Object.entries(life.counts))
      sums[what] = (sums[what] ?? 0) + number;
  }
  for (const [what, number] of Object.entries(sums)) assert.ok(count === 1 || number > 0, what);
});
