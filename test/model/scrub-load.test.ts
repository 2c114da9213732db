/**
 * A scrub beside whatever is done to a vPool on two hosts: disks and files are written, kept, cloned,
 * flattened, compacted, rolled back, moved, renamed and removed at random, and it finds nothing. After
 * hosts have died in the middle of all that it finds what crashes leave, and nothing else.
 */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../src/core/errors.ts';
import type { ObjectId } from '../../src/core/units.ts';
import { KiB, MiB } from '../../src/core/units.ts';
import { walkVdisks } from '../../src/frontend/admin/vdisks.ts';
import { seededRandom } from '../../src/platform/random.ts';
import type { Finding } from '../../src/ports/scrub.ts';
import { rootIno } from '../../src/ports/file-system.ts';
import type { WorldHost } from '../support/cluster-world.ts';
import type { ClusterFront } from '../support/cluster-front.ts';
import { ScrubWorld } from '../support/scrub-world.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));
const caller = { uid: 0, gid: 0 };

class Load {
  readonly world: ScrubWorld;
  readonly #random: () => number;
  readonly #isToDie: boolean;
  #disks: string[] = ['/d0.raw'];
  #number = 1;
  done = 0;

  constructor(world: ScrubWorld, seed: number, isToDie = false) {
    this.#isToDie = isToDie;
    const source = seededRandom(seed);
    this.world = world;
    this.#random = () => source.fraction();
  }

  /** One thing after another until it is told to stop. What is refused, is refused. */
  async run(isEnough: () => boolean): Promise<void> {
    while (!isEnough()) {
      try {
        await this.#step();
        this.done += 1;
      } catch (error) {
        if (!isStorageError(error)) throw error;
      }
      await turn();
    }
  }

  async #step(): Promise<void> {
    const host = this.#any(this.world.hosts);
    const path = this.#any(this.#disks);
    const what = this.#random();
    const { snapshots } = host;
    const names = () => snapshots.list(path).then((list) => list.map(({ name }) => name));
    if (what < 0.4) return this.#write(host, path);
    if (what < 0.5) return this.#writeFile(host);
    if (what < 0.55) return host.sync(path);
    if (what < 0.63) return void (await snapshots.create(path, this.#name('s')));
    if (what < 0.7) return snapshots.delete(path, this.#any(await names()) ?? 'none');
    if (what < 0.73) {
      const name = this.#any(await names()) ?? 'none';
      return void (await snapshots.rollBack(path, name, { force: true }));
    }
    if (what < 0.8) return this.#clone(host, path);
    if (what < 0.83) return this.#flatten(host, path);
    const id = await host.idOf(path);
    if (what < 0.86) return void (await host.host.care.ask(id, { do: 'compact', how: 'run' }));
    if (what < 0.92) return host.host.router.fetch(id);
    if (what < 0.95) return this.#rename(host, path);
    if (this.#disks.length === 1) return;
    for (const name of await names()) await snapshots.delete(path, name);
    await host.remove(path);
    this.#disks = this.#disks.filter((other) => other !== path);
  }

  async #write(host: ClusterFront, path: string): Promise<void> {
    const offset = Math.floor(this.#random() * 40) * 4096;
    const length = 1 + Math.floor(this.#random() * 40_000);
    await host.write(path, offset, new Uint8Array(length).fill(this.#random() * 255));
  }

  /** Folders come and go as well. */
  async #writeFile(host: ClusterFront): Promise<void> {
    const { fileSystem } = host;
    const path = `/note${Math.floor(this.#random() * 4)}`;
    const fate = this.#random();
    const folder = `dir${Math.floor(this.#random() * 3)}`;
    if (fate < 0.3) return host.remove(path);
    if (fate < 0.5)
      return void (await fileSystem.make(
        rootIno,
        folder,
        { type: 'directory', mode: 0o700 },
        caller,
      ));
    if (fate < 0.6) return fileSystem.removeDirectory(rootIno, folder);
    await host.write(path, 0, new Uint8Array(1 + this.#random() * 1.5 * MiB).fill(7));
    // A file that is written back later would be so by a host that has died.
    if (fate < 0.8 || this.#isToDie) await host.sync(path);
  }

  async #clone(host: ClusterFront, path: string): Promise<void> {
    if (this.#disks.length > 5) return;
    const names = await host.snapshots.list(path);
    const of = this.#random() < 0.5 ? undefined : this.#any(names)?.name;
    const made = `/${this.#name('c')}.raw`;
    await host.snapshots.clone(path, of, made);
    this.#disks.push(made);
  }

  async #flatten(host: ClusterFront, path: string): Promise<void> {
    while (!(await host.snapshots.flatten(path)).isDone) await turn();
  }

  async #rename(host: ClusterFront, path: string): Promise<void> {
    const renamed = `/${this.#name('r')}.raw`;
    await host.changes.rename(path, renamed, 'no-replace');
    this.#disks = this.#disks.map((other) => (other === path ? renamed : other));
  }

  #name(letter: string): string {
    this.#number += 1;
    return `${letter}${this.#number}`;
  }

  #any<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)] as T;
  }
}

async function begin(): Promise<ScrubWorld> {
  const world = await ScrubWorld.open('a', 'b');
  await world.host.write('/d0.raw', 0, new Uint8Array(160 * KiB).fill(1));
  await world.host.sync('/d0.raw');
  return world;
}

const tell = (findings: readonly Finding[]) => JSON.stringify(findings, undefined, 1);
const first = Number(process.env['WHARF_SEED'] ?? 1);
const count = process.env['WHARF_SEED'] === undefined ? 3 : 1;
const scrubsEach = 3;
/** Bytes a second: much happens while a volume is looked through. */
const slow = 2 * MiB;

describe('a scrub', () => {
  for (let seed = first; seed < first + count; seed += 1)
    test(`finds nothing beside all that is done to a vPool (seed ${seed})`, async () => {
      await using world = await begin();
      const load = new Load(world, seed);
      let isEnough = false;
      const running = load.run(() => isEnough);
      try {
        for (let scrubs = 0; scrubs < scrubsEach || load.done < 150; scrubs += 1) {
          const scrubber = world.scrubber(world.hosts[scrubs % 2], undefined, 150);
          const { state, why, findings } = await world.scrub('look', scrubber, slow);
          assert.equal(`${state}: ${tell(findings)} ${why ?? ''}`, 'done: [] ');
        }
      } finally {
        isEnough = true;
        await running;
      }
      assert.deepEqual(await world.found(), []);
    });

  for (let seed = first; seed < first + count; seed += 1)
    test(`finds what crashes leave, and with it gone there is nothing too many (seed ${seed})`, async () => {
      await using world = await begin();
      const random = seededRandom(seed + 100);
      world.world.faults.choose = () => {
        const fate = random.fraction();
        return fate < 0.05 ? 'before' : fate < 0.1 ? 'after' : 'none';
      };
      for (let round = 0; round < 6; round += 1) {
        const load = new Load(world, seed * 10 + round, true);
        const end = 10 + Math.floor(random.fraction() * 40);
        const running = load.run(() => load.done >= end);
        while (load.done < end) await turn();
        await running;
        await world.restart(round % 2);
      }
      world.world.faults.choose = () => 'none';
      await restUnder(world);
      const findings = await world.found('repair');
      assert.ok(
        findings.every(({ kind, isRepaired }) => kind === 'waste' && isRepaired === true),
        tell(findings),
      );
      assert.deepEqual(await world.found(), []);
      for (const { host } of world.hosts)
        for (const { id } of host.volumes.statuses()) await assertNothingElse(world, host, id);
    });
});

/** Every tenure that was begun has ended, and what it wrote is on the backend. */
async function restUnder(world: ScrubWorld): Promise<void> {
  for (const index of world.hosts.keys()) await world.restart(index);
  for await (const { path } of walkVdisks(world.host.fileSystem)) {
    await world.host.write(path, 0, new Uint8Array(4096).fill(9));
    await world.host.sync(path);
  }
}

/**
 * The bucket holds no segments but those that the owner's table has. (It may have some more: one that
 * died shortly before a crash counts as reached by a snapshot of that time, and may be deleted.)
 */
async function assertNothingElse(world: ScrubWorld, host: WorldHost, id: ObjectId): Promise<void> {
  const stored = () =>
    [...world.bucketOf(id).keys()].filter((key) => key.startsWith('segment/')).length;
  await host.care.ask(id, { do: 'collect' });
  let segments = 0;
  for (let attempt = 0; attempt < 100 && segments < stored(); attempt += 1) {
    await world.world.clock.sleep(10);
    segments = (await host.care.ask(id, { do: 'compact', how: 'plan' })).compaction?.segments ?? 0;
  }
  assert.ok(stored() <= segments, `${stored()} segments, ${segments} in the table`);
}
