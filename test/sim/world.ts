/**
 * A vPool of three hosts, with all that they stand on, in simulated time: what is planned happens, and
 * what clients are told is held against what can be true.
 */

import { MemoryBackend } from '../../src/backend/memory-backend.ts';
import { describeError } from '../../src/core/errors.ts';
import type { ObjectId } from '../../src/core/units.ts';
import { fileName, KiB } from '../../src/core/units.ts';
import { rootIno } from '../../src/ports/file-system.ts';
import { loadNative } from '../../src/platform/native.ts';
import { nativeChecksum, tableChecksum } from '../../src/platform/checksum.ts';
import { seededRandom } from '../../src/platform/random.ts';
import { MemoryStore } from '../../src/registry/memory-store.ts';
import type { Random } from '../../src/ports/random.ts';
import { Violation, History } from './history.ts';
import type { Plan, Step } from './plan.ts';
import { hostNames } from './plan.ts';
import { Coverage } from './protocol.ts';
import { EventQueue } from './scheduler.ts';
import { SimDisk } from './sim-disk.ts';
import { SimFiles } from './sim-files.ts';
import { SimLocks } from './sim-locks.ts';
import { SimLog } from './sim-log.ts';
import { SimVm, vmFolder } from './sim-vm.ts';
import type { Daemon } from './sim-host.ts';
import { SimHost } from './sim-host.ts';
import { SimNetwork } from './sim-network.ts';
import { use } from './sim-user.ts';
import { RecordRules } from './record-rules.ts';
import type { RegistryFaults } from './sim-registry.ts';
import type { SharedStore, StoreFaults } from './sim-store.ts';
import { scrubbed } from './sim-scrub.ts';
import { takeStep } from './steps.ts';
import type { Tuning } from './tuning.ts';
import { journalMaxOf, tuningOf } from './tuning.ts';

const { native } = loadNative();
const checksum = native ? nativeChecksum(native) : tableChecksum();
/** Of a start, and of the time after the last fault until all is well. */
const patienceMs = 120_000;
const linesMax = 4000;
/** Of a host's SSD, for what is neither journal nor cache. */
const otherBytesMax = 256 * KiB;

export class SimWorld {
  readonly scheduler = new EventQueue();
  readonly tuning: Tuning;
  readonly checksum = checksum;
  readonly coverage = new Coverage();
  readonly random: Random;
  readonly network: SimNetwork;
  readonly registry: MemoryStore;
  readonly registryFaults: RegistryFaults;
  readonly store: SharedStore;
  readonly hosts: ReadonlyMap<string, SimHost>;
  readonly disks: SimDisk[] = [];
  readonly files: SimFiles;
  readonly log: SimLog;
  readonly locks: SimLocks;
  readonly vm: SimVm;
  readonly counts = {
    ...{ writes: 0, reads: 0, flushes: 0, looked: 0, snapshots: 0, snapshotReads: 0, clones: 0 },
    ...{ kills: 0, powerCuts: 0, filesPut: 0, filesRead: 0, rollBacks: 0, flushesFailed: 0 },
    ...{
      appends: 0,
      locks: 0,
      vmSnapshots: 0,
      grown: 0,
      drains: 0,
      ssdFailures: 0,
      lossesAccepted: 0,
      rotted: 0,
    },
  };
  /** What happened last, for people. */
  readonly lines: string[] = [];
  isVerbose = false;
  #values = 0;
  #names = 0;
  #failure: Error | undefined;
  #isOver = false;

  constructor(seed: number) {
    this.random = seededRandom(seed);
    this.tuning = tuningOf(this.random);
    const { scheduler } = this;
    this.network = new SimNetwork(scheduler, seededRandom(seed + 1), this.coverage);
    this.registry = new MemoryStore({
      monotonicMs: () => scheduler.nowMs,
      wallNs: () => 0n,
      sleep: (ms, { signal } = {}) =>
        new Promise((resolve, reject) => {
          signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
          scheduler.after(ms, 'lease', resolve);
        }),
    });
    this.registryFaults = {
      ...{ isAway: false, deafTo: new Set(), unheardBy: new Set(), trouble: 0, forgets: false },
      ...{ slowMs: 0, lateFrom: new Set() },
    };
    const faults: StoreFaults = {
      ...{
        isAway: false,
        isFull: false,
        deafTo: new Set(),
        trouble: 0,
        slowMs: 0,
        staleMs: 0,
        flips: 0,
      },
      tailMs: this.random.fraction() < 0.5 ? 0 : 1500 * this.random.fraction(),
      conditionalPut: this.random.fraction() < 0.7 ? 'honoured' : 'ignored',
    };
    this.store = {
      ...{
        backend: new MemoryBackend(),
        faults,
        putAtMs: new Map(),
        flipped: new Map(),
        coverage: this.coverage,
      },
      nowMs: () => scheduler.nowMs,
      violated: (what) => this.fail(new Violation(what), 'object store'),
    };
    const around = {
      ...{ scheduler, network: this.network, registry: this.registry, checksum },
      coverage: this.coverage,
      rules: new RecordRules(this.registry, checksum),
      recorded: (object: string) => this.disks.find(({ id }) => id === object)?.noteRecord(),
      violated: (error: unknown) => this.fail(error, 'registry'),
      ...{ registryFaults: this.registryFaults, store: this.store, tuning: this.tuning },
      note: (host: string, level: string, message: string, facts: object) => {
        if (level === 'error') this.#alarm(facts);
        if (level !== 'debug' || this.isVerbose)
          this.note(host, `${level}: ${message} ${JSON.stringify(facts)}`);
      },
    };
    this.hosts = new Map(
      hostNames.map((name, index) => [name, new SimHost(name, around, seed * 7 + index)]),
    );
    // A lease's margin is there for clocks that differ, even by as much as this.
    const clockSpread = this.random.fraction() < 0.3 ? 0.01 : 0.4;
    for (const host of this.hosts.values())
      host.clockFaults.rate = 1 + (this.random.fraction() - 0.5) * clockSpread;
    this.files = new SimFiles(this);
    this.log = new SimLog(this);
    this.locks = new SimLocks(this);
    this.vm = new SimVm(this);
  }

  /** Runs what is planned to its end, and to the end of its consequences. Throws what is wrong. */
  async run(plan: Plan): Promise<void> {
    const onRejection = (error: unknown) => this.fail(error, 'nobody waited for it');
    process.on('unhandledRejection', onRejection);
    try {
      this.#live(plan).catch((error: unknown) => this.fail(error, 'run'));
      await this.scheduler.run(() => this.#isOver || this.#failure !== undefined);
    } finally {
      process.off('unhandledRejection', onRejection);
    }
    if (this.#failure) throw this.#failure;
    if (!this.#isOver) throw new Violation('nothing happens any more');
  }

  fail(error: unknown, where: string): void {
    this.note('sim', `FAILURE ${where}: ${describeError(error)}`);
    if (this.#failure) return;
    this.#failure = error instanceof Error ? error : new Error(String(error));
    this.#failure.message = `${where}: ${this.#failure.message}`;
  }

  note(who: string, what: string): void {
    this.lines.push(`${this.scheduler.nowMs.toFixed(1)} ${who} ${what}`);
    if (this.lines.length > linesMax) this.lines.splice(0, linesMax / 2);
  }

  /** An administrator reads of it in the log. */
  #alarm({ object }: { readonly object?: string }): void {
    const disk = this.disks.find(({ id }) => id === object);
    if (disk) disk.rot.alarms += 1;
  }

  host(name: string): SimHost {
    return this.hosts.get(name) as SimHost;
  }

  anyHost(): SimHost | undefined {
    const up = [...this.hosts.values()].filter(({ daemon }) => daemon);
    return up[Math.floor(this.random.fraction() * up.length)];
  }

  nextValue(): number {
    this.#values += 1;
    return this.#values;
  }

  nextName(start: string): string {
    this.#names += 1;
    return `${start}${this.#names}`;
  }

  /** A disk that is there already, with what it holds. */
  async addDisk(
    daemon: Daemon,
    path: string,
    of: Pick<SimDisk, 'number' | 'strideBytes'> & {
      readonly unitBytes: number;
      readonly values: readonly number[];
    },
  ): Promise<SimDisk> {
    const id = await use(daemon, path, (fileSystem, ino) => fileSystem.objectOf(ino));
    const history = new History(this.scheduler, path, of.unitBytes, of.values);
    const disk = new SimDisk(this, { ...of, id: id as ObjectId, path }, history);
    this.disks.push(disk);
    return disk;
  }

  async #live(plan: Plan): Promise<void> {
    for (const host of this.hosts.values()) host.start();
    await this.#until('all hosts are up', () => this.#areUp());
    const { daemon } = this.host('a');
    const folder = { type: 'directory', mode: 0o700 } as const;
    const caller = { uid: 0, gid: 0 };
    await daemon?.stack.fileSystem.make(rootIno, fileName(vmFolder.slice(1)), folder, caller);
    for (const [index, { units, unitBytes, strideBytes }] of plan.disks.entries()) {
      const path = `${vmFolder}/disk${index}.raw`;
      const query = new URLSearchParams({ path, size: String(units * strideBytes) });
      await daemon?.endpoints['POST /v1/vdisk/create']?.(query);
      const values = Array.from({ length: units }, () => 0);
      const of = { number: index, unitBytes, strideBytes, values };
      await this.addDisk(daemon as Daemon, path, of);
    }
    const beganMs = this.scheduler.nowMs;
    for (const step of plan.steps)
      this.scheduler.at(beganMs + step.atMs, `step ${step.do}`, () => this.#take(step));
    await this.scheduler.sleep(plan.endMs + 1);
    await this.#settle();
    this.#isOver = true;
  }

  #take(step: Step): void {
    if (this.isVerbose) this.note('step', JSON.stringify(step));
    takeStep(this, step);
    for (const host of this.hosts.values()) this.#assertBounds(host);
  }

  /** A journal and a copy, or the tail of one that has been handed over, for each disk; and the cache. */
  #assertBounds({ id, disk }: SimHost): void {
    const { totalBytes, freeBytes } = disk.space('/');
    const usedBytes = totalBytes - freeBytes;
    const bytesMax = this.tuning.cacheBytes + this.disks.length * 2 * journalMaxOf(this.tuning);
    if (usedBytes > bytesMax + otherBytesMax)
      this.fail(new Violation(`host ${id} has ${usedBytes} bytes on its SSD`), 'bounds');
  }

  /** No faults any more: everything comes to an end, and is as it must be. */
  async #settle(): Promise<void> {
    this.note('sim', 'faults stop');
    this.coverage.disarm();
    for (const { disk } of this.hosts.values()) disk.faults.failingSyncs = 0;
    await this.#until('faults are over', () => this.#isCalm());
    for (const host of this.hosts.values()) {
      host.inDiskChange = undefined;
      if (host.hasFailedSsd) host.kill();
      host.start();
    }
    await this.#until('all hosts are up', () => this.#areUp());
    await this.#until('all requests are answered', () =>
      this.disks.every(({ underWay, history }) => underWay.size === 0 && !history.isUncertain),
    );
    for (const disk of this.disks.filter(({ isGone }) => !isGone))
      for (const host of this.hosts.values()) {
        await this.#within(
          `${disk.path} is read at ${host.id}`,
          disk.lookThrough(() => host),
        );
        const { daemon } = host;
        for (const kept of disk.snapshots)
          if (daemon)
            await this.#within(`snapshot ${kept.name} is read`, disk.checkSnapshot(daemon, kept));
      }
    this.vm.check();
    const { daemon: scrubbing } = this.host('a');
    const isRotten = (object?: string) =>
      this.disks.some(({ id, rot }) => id === object && rot.isAny);
    await this.#within('a scrub ends', scrubbed(this.scheduler, scrubbing as Daemon, isRotten));
    await this.#within('files are read', this.files.check());
    for (const { daemon } of this.hosts.values())
      if (daemon) await this.#within('the log is read', this.log.check(daemon));
  }

  #isCalm(): boolean {
    const { registryFaults, store, network } = this;
    const { faults } = store;
    const isCut = hostNames.some((from) => hostNames.some((to) => network.isCut(from, to)));
    return (
      !isCut &&
      ![registryFaults.isAway, registryFaults.forgets, faults.isAway, faults.isFull].includes(
        true,
      ) &&
      registryFaults.deafTo.size + registryFaults.unheardBy.size + faults.deafTo.size === 0 &&
      [...this.hosts.values()].every(
        ({ process, disk }) =>
          process?.isStopped !== true && disk.faults.freeBytes === Number.POSITIVE_INFINITY,
      )
    );
  }

  #areUp(): boolean {
    return [...this.hosts.values()].every(({ daemon }) => daemon);
  }

  async #within(what: string, work: Promise<unknown>): Promise<void> {
    let isDone = false;
    let failure: unknown;
    work.then(
      () => {
        isDone = true;
      },
      (error: unknown) => {
        failure = error;
        isDone = true;
      },
    );
    await this.#until(what, () => isDone);
    if (failure !== undefined) throw failure as Error;
  }

  async #until(what: string, isSo: () => boolean): Promise<void> {
    const untilMs = this.scheduler.nowMs + patienceMs;
    for (let pauseMs = 1; !isSo(); pauseMs = Math.min(pauseMs * 2, 100)) {
      if (this.scheduler.nowMs >= untilMs) throw new Violation(this.#overdue(what));
      await this.scheduler.sleep(pauseMs);
    }
  }

  #overdue(what: string): string {
    const waiting = this.disks.flatMap(({ path, underWay }) =>
      [...underWay.values()].map((request) => `${path}: ${request}`),
    );
    return `never comes: ${what}${waiting.length > 0 ? `; waiting: ${waiting.join('; ')}` : ''}`;
  }
}
