/**
 * A disk that is written and read through several mounts at once, block by block, by a test that
 * knows what may be found: of a block that nobody writes just now, the version that was
 * acknowledged last, whichever mount that was at.
 */

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MountUser } from './mount-user.ts';
import { blockBytes, stamp, Versions, versionIn } from './versions.ts';

const shareOfWrites = 0.5;
const flushPauseMs = 20;
const checkedAtOnce = 256;
const callsAtOnce = 6;
/** Longer than anything here takes: a test that waits so long has failed. */
const patienceMs = 60_000;

export class StampedDisk {
  readonly #blocks: number;
  readonly #random: () => number;
  readonly #versions: Versions;
  /** In use, or written without an answer. */
  readonly #busy = new Set<number>();
  #version = 0;

  constructor(blocks: number, random: () => number) {
    this.#blocks = blocks;
    this.#random = random;
    this.#versions = new Versions(blocks);
  }

  get bytes(): number {
    return this.#blocks * blockBytes;
  }

  /** A read or a write somewhere. */
  async step(user: MountUser): Promise<void> {
    const block = Math.floor(this.#random() * this.#blocks);
    if (this.#busy.has(block)) return;
    this.#busy.add(block);
    if (this.#random() < shareOfWrites) await this.#write(user, block);
    else await this.#read(user, block);
    this.#busy.delete(block);
  }

  /** All of it, while nobody writes. */
  async check(user: MountUser): Promise<void> {
    for (let from = 0; from < this.#blocks; from += checkedAtOnce) {
      const count = Math.min(checkedAtOnce, this.#blocks - from);
      const bytes = await user.read(from * blockBytes, count * blockBytes);
      for (let index = 0; index < count; index += 1)
        this.#look(from + index, bytes.subarray(index * blockBytes, (index + 1) * blockBytes));
    }
    this.#busy.clear();
  }

  async #write(user: MountUser, block: number): Promise<void> {
    this.#version += 1;
    const version = this.#version;
    this.#versions.ask(block, version);
    await user.write(block * blockBytes, stamp(block, version));
    this.#versions.promise(block, version);
  }

  async #read(user: MountUser, block: number): Promise<void> {
    this.#look(block, await user.read(block * blockBytes, blockBytes));
  }

  #look(block: number, bytes: Buffer): void {
    assert.equal(bytes.length, blockBytes, `block ${block} is cut short`);
    this.#versions.check(block, versionIn(bytes, block), 'block');
  }
}

/**
 * Users who read and write over and over, each several at once, and flush beside that: a flush that
 * hangs does not keep the others from showing whether they do.
 */
export class Load {
  readonly #disk: StampedDisk;
  readonly #loops = new Map<MountUser, Promise<void>[]>();
  readonly #counts = new Map<MountUser, number>();
  #failure: Error | undefined;

  constructor(disk: StampedDisk) {
    this.#disk = disk;
  }

  start(user: MountUser): void {
    this.#loops.set(user, []);
    const step = async () => {
      await this.#disk.step(user);
      this.#counts.set(user, this.count(user) + 1);
    };
    const flush = async () => {
      await user.flush();
      await sleep(flushPauseMs);
    };
    const loops = Array.from({ length: callsAtOnce }, () => this.#repeat(user, step));
    this.#loops.set(user, [...loops, this.#repeat(user, flush)]);
  }

  /** Reads and writes that have returned. */
  count(user: MountUser): number {
    return this.#counts.get(user) ?? 0;
  }

  /** The user has made so many calls more. */
  async progress(user: MountUser, calls = 200): Promise<void> {
    const from = this.count(user);
    const deadline = performance.now() + patienceMs;
    while (this.count(user) < from + calls) {
      if (this.#failure) throw this.#failure;
      assert.ok(performance.now() < deadline, `${this.count(user) - from} calls, not ${calls}`);
      await sleep(10);
    }
  }

  /** The user's mount is about to end, and its calls to fail; resolves when they have. */
  async lose(user: MountUser): Promise<void> {
    const loops = this.#loops.get(user) ?? [];
    this.#loops.delete(user);
    await Promise.all(loops);
  }

  /** Waits for the calls under way. Rejects where a call has failed. */
  async stop(): Promise<void> {
    const loops = [...this.#loops.values()].flat();
    this.#loops.clear();
    await Promise.all(loops);
    if (this.#failure) throw this.#failure;
  }

  async #repeat(user: MountUser, call: () => Promise<void>): Promise<void> {
    while (this.#loops.has(user)) {
      try {
        await call();
      } catch (error) {
        const isLost = !this.#loops.has(user) && !(error instanceof assert.AssertionError);
        if (!isLost) this.#failure ??= error as Error;
        return;
      }
    }
  }
}
