/** A vDisk and the clients that use it, from whichever host, one VM's at most times. */

import { basename, dirname } from 'node:path/posix';
import { isStorageError } from '../../src/core/errors.ts';
import type { Ino, ObjectId } from '../../src/core/units.ts';
import type { WharfFileSystem } from '../../src/frontend/filesystem.ts';
import { findPath } from '../../src/frontend/admin/vdisks.ts';
import type { RoutedObject } from '../../src/router/routed-object.ts';
import type { History, Span } from './history.ts';
import { differentUnit, unreadable, Violation } from './history.ts';
import type { Daemon, SimHost } from './sim-host.ts';
import { Holders } from './sim-holders.ts';
import { Rot } from './sim-rot.ts';
import { isRefusal, use } from './sim-user.ts';
import type { SimWorld } from './world.ts';
import { stamped, valuesOf } from './stamps.ts';

/** Requests of one disk that are under way at once. */
const depthMax = 8;
const closeChance = 0.1;

export interface KeptState {
  readonly name: string;
  readonly units: number;
  readonly began: number;
  ended: number;
  /** What it says of other disks at that moment. */
  span?: Span;
  /** As it was first read. */
  values: readonly number[] | undefined;
  /** The disk was recovered meanwhile, so nothing is known of what it must hold. */
  isAnyState: boolean;
}

export class SimDisk {
  readonly path: string;
  readonly number: number;
  /** From one unit to the next. */
  readonly strideBytes: number;
  readonly history: History;
  readonly snapshots: KeptState[] = [];
  /** Those that are being made, or came to nothing. */
  readonly #begun = new Set<KeptState>();
  /** What is under way, for who waits too long for it. */
  readonly underWay = new Map<number, string>();
  readonly id: ObjectId;
  readonly #world: SimWorld;
  /** At whose mounts it is open. */
  readonly #opened = new WeakMap<Daemon, Promise<Ino>>();
  /** As large as anybody has asked for, whether or not that came about. */
  unitsAsked = 0;
  /** The disk is looked through, or changes as a whole: no request begins. */
  #isHeld = false;
  isGone = false;
  readonly holders: Holders;
  readonly rot = new Rot();

  /** Somebody waits to look it through after what may have been lost. */
  #isLookDue = false;

  constructor(
    world: SimWorld,
    { id, path, number, strideBytes }: Pick<SimDisk, 'id' | 'path' | 'number' | 'strideBytes'>,
    history: History,
  ) {
    this.#world = world;
    this.id = id;
    this.path = path;
    this.number = number;
    this.strideBytes = strideBytes;
    this.history = history;
    this.holders = new Holders(world, id, history, () => this.#recover());
  }

  get #stamp() {
    return { disk: this.number, unitBytes: this.history.unitBytes };
  }

  get isBusy(): boolean {
    return this.#isHeld || this.history.isUncertain || this.underWay.size >= depthMax;
  }

  write(host: SimHost, first: number, count: number, isTrim: boolean): void {
    if (this.isBusy) return;
    const value = isTrim ? 0 : this.#world.nextValue();
    const { unitBytes } = this.history;
    const { strideBytes } = this;
    this.#run(
      host,
      `${isTrim ? 'trim' : 'write'} ${value} at ${first}+${count}`,
      async (daemon) => {
        const data = stamped(this.#stamp, first, count, value);
        const write = this.history.beginWrite(first, count, value);
        await this.#use(daemon, async (fileSystem, ino) => {
          const how = { mode: 'punch', keepSize: true } as const;
          const [offset, length] = [first * strideBytes, (count - 1) * strideBytes + unitBytes];
          if (isTrim) await fileSystem.allocate(ino, offset, length, how);
          else await fileSystem.write(ino, offset, data);
          this.#assertOwner(daemon, host);
          // Before it is closed, which may take long.
          this.#tell(host, `write ${value} is on ${this.#holders().join(' and ')}`);
          this.history.endWrite(write, first, count, daemon);
        });
        this.#world.counts.writes += 1;
      },
    );
  }

  read(host: SimHost, first: number, count: number): void {
    if (this.isBusy) return;
    this.#run(host, `read ${first}+${count}`, async (daemon) => {
      const read = this.history.beginRead(first, count);
      const values = await this.#use(daemon, async (fileSystem, ino) => {
        const found = await this.#readUnits(fileSystem, ino, first, count);
        this.#assertOwner(daemon, host);
        return found;
      });
      // Whose tenure it was decides what may be seen.
      this.#holders();
      this.history.endRead(read, values);
      this.#world.counts.reads += 1;
    });
  }

  flush(host: SimHost, how: 'flush' | 'sync'): void {
    if (this.isBusy) return;
    this.#run(host, how, async (daemon) => {
      const began = this.history.beginFlush();
      const { nowMs } = this.#world.scheduler;
      try {
        await this.#use(daemon, (fileSystem, ino) =>
          how === 'flush' ? fileSystem.flush(ino) : fileSystem.sync(ino),
        );
      } catch (error) {
        if (!isStorageError(error, 'failed')) throw error;
        this.#tell(host, `${how} failed`);
        this.#holders();
        this.history.failFlush(began, daemon, this.#isForSsd(error, nowMs));
        this.#world.counts.flushesFailed += 1;
        return;
      }
      this.#tell(host, `${how} done`);
      this.#holders();
      this.history.endFlush(began, daemon);
      this.#world.counts.flushes += 1;
    });
  }

  /** An administrator's request; what it is refused with is no finding. */
  administer(host: SimHost, what: string, act: (daemon: Daemon) => Promise<void>): void {
    if (this.isGone) return;
    this.#run(host, what, async (daemon) => {
      try {
        await act(daemon);
        this.#world.note(host.id, `${what} done`);
      } catch (error) {
        if (!isRefusal(error)) throw error;
        this.#world.note(host.id, `${what} refused: ${error.code} ${error.message}`);
      }
    });
  }

  /** All of it is read while nothing else is under way. */
  async lookThrough(pick: () => SimHost | undefined): Promise<void> {
    await this.held(async () => {
      this.#isLookDue = false;
      const values = await this.readAll(pick);
      this.#holders();
      this.history.lookedThrough(values);
      this.#world.counts.looked += 1;
    });
  }

  /** Nothing else of the disk is under way meanwhile. */
  async held(act: () => Promise<void>): Promise<void> {
    while (this.#isHeld) await this.#world.scheduler.sleep(50);
    this.#isHeld = true;
    while (this.underWay.size > 0) await this.#world.scheduler.sleep(20);
    await act();
    this.#isHeld = false;
  }

  async snapshot(daemon: Daemon, name: string): Promise<void> {
    const state = this.beginState(name);
    const query = new URLSearchParams({ path: this.path, name });
    await daemon.endpoints['POST /v1/vdisk/snapshot/create']?.(query);
    this.endState(state);
    this.#world.counts.snapshots += 1;
  }

  /** A snapshot is being made. */
  beginState(name: string): KeptState {
    const state = {
      ...{ name, units: this.history.unitCount, began: this.#world.scheduler.tick() },
      ...{ ended: Number.POSITIVE_INFINITY, values: undefined },
      isAnyState: this.history.isUncertain,
    };
    this.#begun.add(state);
    return state;
  }

  endState(state: KeptState): void {
    state.ended = this.#world.scheduler.tick();
    this.#begun.delete(state);
    this.snapshots.push(state);
  }

  /** Reads what a snapshot shows: one of the disk's states, and always the same one. */
  async checkSnapshot(daemon: Daemon, kept: KeptState): Promise<void> {
    const path = `${dirname(this.path)}/.snapshots/${kept.name}/${basename(this.path)}`;
    const values = await this.valuesAt(daemon, path, kept.units);
    if (!kept.values && !kept.isAnyState)
      kept.span = this.history.checkSnapshot(values, kept.began, kept.ended);
    const changed = kept.values ? differentUnit(kept.values, values) : -1;
    if (changed >= 0)
      throw new Violation(
        `snapshot ${kept.name} of ${this.path}, unit ${changed}: was ${kept.values?.[changed]}, ` +
          `is ${values[changed]}`,
      );
    kept.values = values;
    this.#world.counts.snapshotReads += 1;
  }

  /** What the disk loses with the power of that host. */
  cutPower(host: SimHost): void {
    this.history.cutPower(host.id, this.#holders());
    this.#recover();
  }

  /** Each tenure begins with what its owner has, although it may end before anybody uses it. */
  noteRecord(): void {
    this.#holders();
  }

  /** Where something may be lost, everything is looked at before anything else is done. */
  #recover(): void {
    if (!this.history.isUncertain) return;
    for (const kept of [...this.snapshots, ...this.#begun])
      if (!kept.values) kept.isAnyState = true;
    if (this.#isLookDue) return;
    this.#isLookDue = true;
    this.lookThrough(() => this.#world.anyHost()).catch((error: unknown) =>
      this.#world.fail(error, `${this.path} after a power cut`),
    );
  }

  /** Tries hosts until one has read it all. */
  async readAll(pick: () => SimHost | undefined): Promise<number[]> {
    for (;;) {
      const host = pick();
      const daemon = host?.daemon;
      if (daemon) {
        const { nowMs } = this.#world.scheduler;
        const { crashes } = this.history;
        const reading = this.valuesAt(daemon, this.path).catch((error: unknown) => {
          if (host.daemon === daemon && !this.#isForSsd(error, nowMs)) throw error;
        });
        const values = await Promise.race([reading, daemon.process.died]);
        // Each try to open what can't be opened begins a tenure, so that what it tells stays new.
        const isRefused = values?.every((value) => value === unreadable) === true;
        if (values && (isRefused || this.history.crashes === crashes)) return values;
      }
      await this.#world.scheduler.sleep(100);
    }
  }

  /** Of a file that is as this disk is. */
  valuesAt(daemon: Daemon, path: string, units = this.history.unitCount): Promise<number[]> {
    const reading = use(daemon, path, (fileSystem, ino) =>
      this.#readUnits(fileSystem, ino, 0, units),
    );
    return reading.catch((error: unknown) => this.#refused(error, 0, units));
  }

  async #readUnits(
    fileSystem: WharfFileSystem,
    ino: Ino,
    first: number,
    count: number,
  ): Promise<number[]> {
    const { unitBytes } = this.history;
    const atOnce = this.strideBytes === unitBytes && !this.rot.isAny ? count : 1;
    const values: number[] = [];
    for (let unit = first; unit < first + count; unit += atOnce) {
      const into = new Uint8Array(atOnce * unitBytes);
      try {
        const length = await fileSystem.read(ino, unit * this.strideBytes, into);
        if (length !== into.length && !this.history.mayBeShort)
          throw new Violation(`${this.path}: ${length} bytes read of ${into.length}`);
        values.push(...valuesOf(this.#stamp, unit, into));
      } catch (error) {
        values.push(...this.#refused(error, unit, atOnce));
      }
    }
    return values;
  }

  /** What is read where data are refused because they are damaged. */
  #refused(error: unknown, first: number, count: number): number[] {
    const { strideBytes, history } = this;
    const bytes = (count - 1) * strideBytes + history.unitBytes;
    if (!this.rot.explains(error, first * strideBytes, bytes)) throw error;
    return Array.from({ length: count }, () => unreadable);
  }

  /** It stays open, as a VM's disk does, and is closed now and then. */
  async #use<T>(
    daemon: Daemon,
    act: (fileSystem: WharfFileSystem, ino: Ino) => T | Promise<T>,
  ): Promise<T> {
    const { fileSystem } = daemon.stack;
    const opening = this.#opened.get(daemon) ?? this.#open(daemon);
    this.#opened.set(daemon, opening);
    opening.catch(() => this.#opened.delete(daemon));
    const ino = await opening;
    try {
      return await act(fileSystem, ino);
    } finally {
      if (this.#world.random.fraction() < closeChance && this.#opened.get(daemon) === opening) {
        this.#opened.delete(daemon);
        await fileSystem.release(ino);
      }
    }
  }

  async #open({ stack: { fileSystem } }: Daemon): Promise<Ino> {
    const { ino } = await findPath(fileSystem, this.path);
    await fileSystem.open(ino);
    return ino;
  }

  #run(host: SimHost, what: string, act: (daemon: Daemon) => Promise<void>): void {
    const { daemon } = host;
    if (!daemon || this.isGone) return;
    const request = this.#world.scheduler.tick();
    const { nowMs } = this.#world.scheduler;
    this.underWay.set(request, `${what} at ${host.id} since ${nowMs}`);
    const over = () => this.underWay.delete(request);
    // It comes through the kernel, so not while the daemon is stopped.
    const asked = daemon.process.answer(0.02, 'request', () => {});
    asked
      .then(() => act(daemon))
      .then(over, (error: unknown) => {
        over();
        // Of a daemon that is stopped nobody expects an answer.
        if (host.daemon === daemon && !this.#isForSsd(error, nowMs))
          this.#world.fail(error, `${this.path}: ${what} at ${host.id}`);
      });
    void daemon.process.died.then(over);
  }

  /** One SSD alone had the last changes and has failed since then, or what it has is damaged. */
  #isForSsd(error: unknown, sinceMs: number): boolean {
    if (this.rot.explains(error)) return true;
    return isStorageError(error, 'failed') && this.holders.haveFailed(sinceMs);
  }

  /** Who answers by himself is the owner at that very moment. */
  #assertOwner({ stack: { router } }: Daemon, { id }: SimHost): void {
    const opened = router.opened(this.id) as RoutedObject | undefined;
    const { record } = this.holders;
    if (!opened?.isHere() || opened.isHeld || !record) return;
    const { owner, epoch } = record;
    if (owner !== id)
      throw new Violation(`${id} answers although ${owner} owns it, in epoch ${epoch}`);
  }

  #tell(host: SimHost, what: string): void {
    if (this.#world.isVerbose) this.#world.note(host.id, `${this.path}: ${what}`);
  }

  /** Who has what is acknowledged now. */
  #holders(): string[] {
    return this.holders.look();
  }
}
