/**
 * kill -9 of the daemon at any moment, over and over: under load, while it starts, while it
 * recovers from the kill before. The test keeps its own record of what was asked for, what was
 * acknowledged and what was flushed, and looks at everything after each start:
 *
 *   blocks of a volume   what was acknowledged is there, because a process that dies takes no page
 *                        cache with it, and no block is older or newer than it may be
 *   small files          each is a whole version, not older than the last that was flushed
 *   names                those that were acknowledged are there, those taken away are not
 */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { seededRandom } from '../../src/platform/random.ts';
import type { SettingsInput } from '../../src/daemon/settings.ts';
import { Daemon } from '../support/daemon.ts';
import { cannotMount } from '../support/playground.ts';
import { cannotRing, RingSwitch } from '../support/ring-switch.ts';
import { blockBytes, stamp, Versions, versionIn } from '../support/versions.ts';

const rounds = Number(process.env['WHARF_KILLS'] ?? 200);
const blocks = 4096;
const files = 8;
const fileBytes = 2 * blockBytes;
const namesKept = 5;
const direct = 0o40000;
/** Small, so that every kill meets cuts, segments, commits and checkpoints on their way. */
const settings = {
  files: { writeBackDelay: '20ms' },
  volumes: {
    ...{ journalFile: '4MiB', journalMax: '16MiB', segment: '256KiB', cut: '512KiB' },
    ...{ destageDelay: '50ms', checkpointDelay: '100ms', tailSegments: 8, deltaBlocks: 1024 },
  },
};

const list = (names: ReadonlySet<string>) => [...names].join(' ');

class World {
  readonly #daemon: Daemon;
  readonly #random: () => number;
  readonly #blocks = new Versions(blocks);
  readonly #files = new Versions(files);
  /** As they were and as they will be, where a change is under way. */
  #names: { readonly before: ReadonlySet<string>; readonly after: ReadonlySet<string> };
  #version = 0;
  #isAlive = false;

  constructor(daemon: Daemon, random: () => number) {
    this.#daemon = daemon;
    this.#random = random;
    this.#names = { before: new Set(), after: new Set() };
  }

  async check(): Promise<void> {
    const { mount } = this.#daemon;
    const volume = await fs.readFile(join(mount, 'disk.raw'));
    for (let block = 0; block < blocks; block += 1) {
      const bytes = volume.subarray(block * blockBytes, (block + 1) * blockBytes);
      this.#blocks.check(block, versionIn(bytes, block), 'block');
    }
    for (let index = 0; index < files; index += 1) {
      const bytes = await fs.readFile(join(mount, `file${index}`)).catch(() => Buffer.alloc(0));
      this.#files.check(index, versionIn(bytes, index), 'file');
    }
    const found = new Set((await fs.readdir(mount)).filter((name) => name.startsWith('name')));
    const { before, after } = this.#names;
    const isOne = [before, after].some((names) => names.symmetricDifference(found).size === 0);
    assert.ok(isOne, `names ${list(found)}, not ${list(before)} nor ${list(after)}`);
    this.#names = { before: found, after: found };
  }

  /** Until the daemon is killed. */
  async load(): Promise<void> {
    this.#isAlive = true;
    const { mount } = this.#daemon;
    const flags = fs.constants.O_RDWR | fs.constants.O_CREAT | direct;
    const volume = await fs.open(join(mount, 'disk.raw'), flags);
    const busy = new Set<number>();
    const writeBlocks = () => this.#repeat(() => this.#writeBlock(volume, busy));
    const writers = Array.from({ length: 6 }, writeBlocks);
    const named = this.#repeat(() => this.#changeNames());
    const filed = this.#repeat(() => this.#writeFile());
    await Promise.all([...writers, named, filed]);
    await volume.close().catch(() => {});
  }

  async kill(): Promise<void> {
    this.#isAlive = false;
    await this.#daemon.end('SIGKILL');
  }

  /** An error is the end where the daemon is dead, and a failure of the test where it lives. */
  async #repeat(action: () => Promise<void>): Promise<void> {
    while (this.#isAlive) {
      try {
        await action();
      } catch (error) {
        if (this.#isAlive) throw error;
      }
    }
  }

  #next(): number {
    this.#version += 1;
    return this.#version;
  }

  async #writeBlock(volume: fs.FileHandle, busy: Set<number>): Promise<void> {
    const block = Math.floor(this.#random() * blocks);
    if (busy.has(block)) return;
    busy.add(block);
    const version = this.#next();
    this.#blocks.ask(block, version);
    await volume.write(stamp(block, version), 0, blockBytes, block * blockBytes);
    this.#blocks.promise(block, version);
    if (this.#random() < 0.02) await volume.datasync();
    busy.delete(block);
  }

  async #writeFile(): Promise<void> {
    const index = Math.floor(this.#random() * files);
    const version = this.#next();
    const flags = fs.constants.O_RDWR | fs.constants.O_CREAT;
    const file = await fs.open(join(this.#daemon.mount, `file${index}`), flags);
    try {
      this.#files.ask(index, version);
      await file.write(stamp(index, version, fileBytes), 0, fileBytes, 0);
      if (this.#random() < 0.5) return;
      await file.sync();
      this.#files.promise(index, version);
    } finally {
      await file.close().catch(() => {});
    }
  }

  /** Makes a name, gives an old one to another, or takes it away. */
  async #changeNames(): Promise<void> {
    const { mount } = this.#daemon;
    const name = `name${this.#next()}`;
    const before = this.#names.after;
    const [oldest] = before;
    const after = new Set(before);
    if (before.size >= namesKept) after.delete(oldest as string);
    const isTaken = before.size >= namesKept && this.#random() < 0.5;
    if (!isTaken) after.add(name);
    this.#names = { before, after };
    if (isTaken) await fs.unlink(join(mount, oldest as string));
    else if (before.size < namesKept) await fs.writeFile(join(mount, name), '');
    else await fs.rename(join(mount, oldest as string), join(mount, name));
    this.#names = { before: after, after };
  }
}

test(`all that was promised survives ${rounds} kills`, { skip: cannotMount }, (t) =>
  survive(rounds, settings, t),
);

/** Asked for alone: a kernel that keeps a request of a dead ring for ever takes its machine along. */
const ringRounds = Number(process.env['WHARF_RING_KILLS'] ?? 0);

test(`and ${ringRounds} over io_uring, where requests under way end with it`, {
  skip: cannotRing || (ringRounds === 0 && 'WHARF_RING_KILLS says how many'),
}, async (t) => {
  await using _ = await RingSwitch.turn('on');
  await survive(ringRounds, { ...settings, fuse: { transport: 'ring' } }, t);
});

async function survive(
  kills: number,
  given: Partial<SettingsInput>,
  t: TestContext,
): Promise<void> {
  const seed = Number(process.env['WHARF_SEED'] ?? Math.floor(Math.random() * 1e9));
  t.diagnostic(`seed ${seed}`);
  const random = seededRandom(seed);
  const fraction = () => random.fraction();
  await using daemon = new Daemon(given);
  await daemon.start();
  const disk = await fs.open(join(daemon.mount, 'disk.raw'), 'w');
  await disk.truncate(blocks * blockBytes);
  await disk.close();
  const world = new World(daemon, fraction);
  for (let round = 0; round < kills; round += 1) {
    const load = world.load();
    await sleep(50 + fraction() * 200);
    await world.kill();
    await load;
    // Now and then the next one does not live to serve.
    while (fraction() < 0.15) {
      daemon.spawn();
      await sleep(150 + fraction() * 300);
      await world.kill();
    }
    await daemon.start();
    await world.check();
  }
}
