/**
 * A simulated machine: its SSD and clocks outlive the daemon, which is the real one from the registry
 * client up to the admin API, on simulated ports.
 */

import { stackOn } from '../../src/backend/open-backend.ts';
import { RetryMonitor } from '../../src/backend/with-retry.ts';
import { describeError } from '../../src/core/errors.ts';
import type { HostId } from '../../src/core/units.ts';
import { hostId, KiB, MiB } from '../../src/core/units.ts';
import { daemonEndpoints } from '../../src/daemon/endpoints.ts';
import type { HostPorts } from '../../src/daemon/host-ports.ts';
import type { Settings } from '../../src/daemon/settings.ts';
import { parseSettings } from '../../src/daemon/settings.ts';
import type { Stack } from '../../src/daemon/stack.ts';
import { openStack } from '../../src/daemon/stack.ts';
import type { Endpoints } from '../../src/frontend/admin/server.ts';
import { MemoryDisk } from '../../src/platform/memory-disk.ts';
import { seededRandom } from '../../src/platform/random.ts';
import type { Checksum } from '../../src/ports/checksum.ts';
import type { Log } from '../../src/ports/log.ts';
import type { MemoryStore } from '../../src/registry/memory-store.ts';
import type { Coverage } from './protocol.ts';
import type { Scheduler } from './scheduler.ts';
import type { ClockFaults } from './sim-clock.ts';
import { SimClock } from './sim-clock.ts';
import type { SimNetwork } from './sim-network.ts';
import { SimProcess } from './sim-process.ts';
import type { RecordRules } from './record-rules.ts';
import type { RegistryAround, RegistryFaults } from './sim-registry.ts';
import { simRegistry } from './sim-registry.ts';
import type { SharedStore } from './sim-store.ts';
import { simStore } from './sim-store.ts';
import type { Tuning } from './tuning.ts';

export const vpoolName = 'sim';
const restartMs = 1000;

/** What all machines share. */
export interface Surroundings {
  readonly scheduler: Scheduler;
  readonly network: SimNetwork;
  readonly registry: MemoryStore;
  readonly registryFaults: RegistryFaults;
  readonly store: SharedStore;
  readonly checksum: Checksum;
  readonly coverage: Coverage;
  readonly rules: RecordRules;
  readonly recorded: RegistryAround['recorded'];
  readonly violated: (error: unknown) => void;
  readonly tuning: Tuning;
  readonly note: (host: string, level: string, message: string, facts: object) => void;
}

/** A daemon that serves. */
export interface Daemon {
  readonly process: SimProcess;
  readonly stack: Stack;
  readonly endpoints: Endpoints;
}

export class SimHost {
  readonly id: HostId;
  readonly clockFaults: ClockFaults = { rate: 1, wallOffsetMs: 0 };
  disk = new MemoryDisk();
  /** Undefined while it starts, and while it is down. */
  daemon: Daemon | undefined;
  process: SimProcess | undefined;
  /** Counts down with each change on the disk; in the last of them, something happens. */
  inDiskChange: { left: number; readonly act: () => void } | undefined;
  readonly #around: Surroundings;
  readonly #seed: number;
  #instances = 0;
  #wantsToRun = false;
  #offUntilMs = 0;
  #boots = 1;
  #failedIn: SimProcess | undefined;
  #failedUntilMs = Number.NEGATIVE_INFINITY;

  constructor(name: string, around: Surroundings, seed: number) {
    this.id = hostId(name);
    this.#around = around;
    this.#seed = seed;
  }

  get isUp(): boolean {
    return this.process?.isAlive === true;
  }

  /** Its daemon, which may be starting or stopping, says that its SSD has failed. */
  get hasFailedSsd(): boolean {
    return this.isUp && this.#failedIn === this.process;
  }

  /** Whether it has said so at any moment since then. */
  hadFailedSsd(sinceMs: number): boolean {
    return this.hasFailedSsd || this.#failedUntilMs >= sinceMs;
  }

  /** Starts the daemon; one that gives up is started again after a while, as systemd does it. */
  start(): void {
    if (this.isUp || this.#around.scheduler.nowMs < this.#offUntilMs) return;
    this.#wantsToRun = true;
    this.#instances += 1;
    const { scheduler } = this.#around;
    const random = seededRandom(this.#seed * 1000 + this.#instances);
    const process = new SimProcess(`${this.id}${this.#instances}`, scheduler, random);
    this.process = process;
    this.#wire(process);
    const settings = settingsOf(this.id, this.#around.tuning);
    void openStack(this.#ports(process), settings, new AbortController().signal).then(
      (stack) => {
        if (!process.isAlive) return;
        const endpoints = daemonEndpoints(settings, stack, {
          ...{ startedMs: 0, transport: 'simulated', requestCounts: () => ({}) },
          loopDelay: { percentileMs: () => 0, takeMaxMs: () => 0, close: () => {} },
          tellKernel: async () => {},
        });
        this.daemon = { process, stack, endpoints };
      },
      (error: unknown) => {
        if (!process.isAlive) return;
        this.#around.note(this.id, 'error', 'could not start', { error: describeError(error) });
        this.#end(process);
        scheduler.after(restartMs, `${this.id} restarts`, () => {
          if (this.#wantsToRun) this.start();
        });
      },
    );
  }

  /** The process is killed: what it has written is there. */
  kill(): void {
    this.#wantsToRun = false;
    this.#around.coverage.strike(this.id, 'kill');
    if (this.process) this.#end(this.process);
  }

  /** The power goes: of what was not synced some is there, some is not, some is torn. */
  cutPower(forMs: number): void {
    this.#wantsToRun = false;
    this.#offUntilMs = this.#around.scheduler.nowMs + forMs;
    this.#boots += 1;
    this.#around.coverage.strike(this.id, 'power');
    this.#around.network.losePower(this.id);
    const random = this.process?.random ?? seededRandom(this.#seed);
    if (this.process) this.#end(this.process);
    this.disk = this.disk.crash(random);
  }

  /** As by SIGTERM: drained, flushed, its lease given back. */
  async stop(): Promise<void> {
    const { daemon } = this;
    this.#wantsToRun = false;
    if (!daemon) return this.kill();
    this.daemon = undefined;
    await Promise.race([daemon.stack[Symbol.asyncDispose](), daemon.process.died]);
    this.#end(daemon.process);
  }

  #end(process: SimProcess): void {
    if (!process.isAlive) return;
    if (this.hasFailedSsd) this.#failedUntilMs = this.#around.scheduler.nowMs;
    process.die();
    this.daemon = undefined;
    // The stretch of code in which it dies goes on to its end, on a disk that nobody sees.
    this.disk = this.disk.reopened();
  }

  #wire(process: SimProcess): void {
    const { disk } = this;
    const { random } = process;
    disk.faults.slowReads = random.fraction() < 0.5;
    disk.faults.pause = (operation) => this.#pause(process, operation);
    disk.faults.fails = (operation) => {
      if (!process.isAlive) return true;
      if (operation === 'read') return false;
      const due = this.inDiskChange;
      if (!due) return false;
      due.left -= 1;
      if (due.left > 0) return false;
      this.inDiskChange = undefined;
      due.act();
      return !process.isAlive;
    };
  }

  async #pause(process: SimProcess, operation: 'sync' | 'read'): Promise<void> {
    const { coverage, tuning } = this.#around;
    const isSync = operation === 'sync';
    const over = coverage.begin(isSync ? 'fdatasync' : 'read SSD', this.id);
    const ms = isSync ? 0.2 + process.random.fraction() * tuning.syncMs : 0.05;
    await process.answer(ms, operation, () => {});
    over();
  }

  #ports(process: SimProcess): HostPorts {
    const { network, store, checksum, note, tuning } = this.#around;
    const clock = new SimClock(process, this.clockFaults);
    const { random } = process;
    const log = logOf((level, message, facts) => {
      if (message === 'SSD has failed') this.#failedIn = process;
      note(this.id, level, message, facts);
    });
    return {
      ...{ clock, random, checksum, log, disk: this.disk },
      process: {
        ...{ pid: this.#instances, uid: 0, gid: 0, since: 'the beginning' },
        bootId: `boot ${this.#boots}`,
      },
      openRegistry: async () => simRegistry(process, { host: this.id, clock }, this.#around),
      openBackend: async (bucketPrefix) => ({
        ...stackOn(
          simStore(process, this.id, store),
          { layout: 'buckets', bucketPrefix, requestsMax: tuning.requestsMax },
          { clock, random, log, monitor: new RetryMonitor(clock, log) },
        ),
        isReadOnly: false,
      }),
      listen: async ({ host, instance }, handler) => {
        const { rules, violated } = this.#around;
        return network.listen(process, host, instance, rules.answering(host, handler, violated));
      },
    };
  }
}

function logOf(note: (level: string, message: string, facts: object) => void): Log {
  const at = (level: string) => (facts: object, message: string) => note(level, message, facts);
  const log: Log = {
    ...{ debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') },
    child: (bindings) =>
      logOf((level, message, facts) => note(level, message, { ...bindings, ...facts })),
  };
  return log;
}

/** As an administrator could have written them, but for sizes: small ones meet more edges. */
function settingsOf(host: string, tuning: Tuning): Settings {
  const written = parseSettings({
    ...{ host, vpool: vpoolName, mount: '/mnt', data: '/data' },
    registry: { sqlite: '/registry' },
    backend: { kind: 'dir', path: '/store' },
    peers: { key: '5a'.repeat(32) },
    replica: { mode: tuning.replica },
    handover: { ...tuning.handover, window: '1s', coolDown: '2s' },
    registryCopy: { delay: '5s' },
    files: { volumeNames: ['*.raw'] },
  });
  return {
    ...written,
    volumes: { ...written.volumes, ...tuning.volumes },
    cache: { size: tuning.cacheBytes, fetchMax: MiB },
    files: { ...written.files, dirtyMax: 4 * MiB, cacheMax: 256 * KiB },
  };
}
