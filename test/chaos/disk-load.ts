/**
 * The guest of one disk, and those who read it: one writer at a time, which moves between the hosts
 * as live migrations do, and readers at all of them.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Chronicle } from './chronicle.ts';
import type { Cluster } from './cluster.ts';
import type { DiskRecord } from './disk-record.ts';
import { sectorBytes, sectorsPerBlock } from './disk-record.ts';
import type { Host } from './host.ts';

const writersAtOnce = 3;
const writePauseMs = 50;
const readPauseMs = 150;
const downPauseMs = 100;
const shareOfFlushes = 0.05;
const shareOfAligned = 0.6;
const blocksMax = 4;
/** Some are large, so that a store that is away fills journals. */
const shareOfLarge = 0.05;
const largeBlocksMax = 64;
/** Writes at a host before the writer moves on. */
const stayMin = 50;
const stayMax = 400;

export interface LoadDeps {
  readonly cluster: Cluster;
  readonly chronicle: Chronicle;
  /** From 0 to 1. */
  readonly random: () => number;
}

export class DiskLoad {
  readonly record: DiskRecord;
  readonly #deps: LoadDeps;
  #host: Host | undefined;
  #stay = 0;
  #underWay = 0;
  #isOn = false;
  #loops: Promise<void>[] = [];

  constructor(record: DiskRecord, deps: LoadDeps) {
    this.record = record;
    this.#deps = deps;
  }

  get path(): string {
    return `disk${this.record.disk}.raw`;
  }

  start(): void {
    this.#isOn = true;
    const writers = Array.from({ length: writersAtOnce }, () =>
      this.#repeat(writePauseMs, () => this.#write()),
    );
    const readers = this.#deps.cluster.hosts.map((host) =>
      this.#repeat(readPauseMs, () => this.#read(host)),
    );
    this.#loops = [...writers, ...readers];
  }

  /** Resolves when the calls under way have returned. */
  async stop(): Promise<void> {
    this.#isOn = false;
    await Promise.all(this.#loops);
  }

  async #repeat(pauseMs: number, call: () => Promise<void>): Promise<void> {
    while (this.#isOn) {
      await sleep(pauseMs * 2 * this.#deps.random());
      try {
        await call();
      } catch (error) {
        this.#deps.chronicle.lost(error);
        await sleep(downPauseMs);
      }
    }
  }

  #pick(): Host | undefined {
    const { cluster, random } = this.#deps;
    const up = cluster.hosts.filter(({ isUp }) => isUp);
    return up[Math.floor(random() * up.length)];
  }

  /** Moves when nothing is under way any more: no two hosts write at once. */
  #hostOfWriter(): Host | undefined {
    if (this.#stay > 0 && this.#host?.isUp === true) return this.#host;
    if (this.#underWay > 0) return undefined;
    this.#host = this.#pick();
    if (!this.#host) return undefined;
    this.#stay = Math.round(stayMin + this.#deps.random() * (stayMax - stayMin));
    this.#deps.chronicle.note(`disk ${this.record.disk} is written at ${this.#host.name}`);
    return this.#host;
  }

  async #write(): Promise<void> {
    const host = this.#hostOfWriter();
    if (!host) return;
    this.#stay -= 1;
    this.#underWay += 1;
    try {
      if (this.#deps.random() < shareOfFlushes) await this.#flush(host);
      else await this.#writeSomewhere(host);
    } finally {
      this.#underWay -= 1;
    }
  }

  async #writeSomewhere(host: Host): Promise<void> {
    const { record } = this;
    const [first, count] = this.#range();
    if (!record.take(first, count)) return;
    const write = record.ask(first, count);
    const name = `disk ${record.disk} at ${host.name}: ${write.version} ${first}+${count}`;
    this.#deps.chronicle.io(`${name} asked`);
    try {
      const bytes = record.bytesOf(write);
      await host.call(this.path, { what: 'write', offset: first * sectorBytes, bytes });
      record.acknowledge(write);
      this.#deps.chronicle.io(`${name} acknowledged`);
    } catch (error) {
      record.noteUnknown(write);
      this.#deps.chronicle.io(`${name} unknown`);
      throw error;
    } finally {
      record.release(first, count);
    }
  }

  async #flush(host: Host): Promise<void> {
    const { record } = this;
    const begun = record.beginFlush();
    await host.call(this.path, { what: 'flush' });
    record.endFlush(begun);
    const { acknowledged } = begun;
    this.#deps.chronicle.io(`disk ${record.disk} at ${host.name}: flushed ${acknowledged}`);
    this.#deps.chronicle.count('flushes');
  }

  async #read(host: Host): Promise<void> {
    if (!host.isUp) return;
    const [from] = this.#range();
    const first = Math.floor(from / sectorsPerBlock) * sectorsPerBlock;
    const count = sectorsPerBlock;
    if (!this.record.take(first, count)) return;
    try {
      await this.readAndLook(host, first, count);
    } finally {
      this.record.release(first, count);
    }
  }

  /** Of a range that nobody writes. */
  async readAndLook(host: Host, first: number, count: number): Promise<Buffer> {
    const [offset, length] = [first * sectorBytes, count * sectorBytes];
    const bytes = await host.call(this.path, { what: 'read', offset, length });
    const wrong =
      bytes.length === length ? this.record.look(first, bytes) : [`${bytes.length} bytes`];
    this.#deps.chronicle.findWrong(wrong, `read at ${host.name}`);
    this.#deps.chronicle.count('bytes verified', bytes.length);
    return bytes;
  }

  /** Whole blocks, or sectors wherever they lie. */
  #range(): readonly [first: number, count: number] {
    const { random } = this.#deps;
    const below = (max: number) => Math.floor(random() * max);
    const isAligned = random() < shareOfAligned;
    const unit = isAligned ? sectorsPerBlock : 1;
    const blocks = random() < shareOfLarge ? largeBlocksMax : blocksMax;
    const count = unit * (1 + below((blocks * sectorsPerBlock) / unit));
    return [unit * below((this.record.sectors - count) / unit + 1), count];
  }
}
