/**
 * A run: rounds of faults under load, one after another, until the time is over. In a round the
 * steps of the plan are taken; then all is undone, the load stops, and everything is read back.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { seededRandom } from '../../src/platform/random.ts';
import { nowMs } from '../support/mount-user.ts';
import { Chronicle } from './chronicle.ts';
import { Cluster } from './cluster.ts';
import { DiskLoad } from './disk-load.ts';
import { DiskRecord, sectorBytes } from './disk-record.ts';
import { Errands } from './errands.ts';
import { faults, onLinks } from './faults.ts';
import { FileLoad } from './file-load.ts';
import type { Host } from './host.ts';
import { judgeLogs } from './logs.ts';
import type { Round, Step } from './plan.ts';
import { describeStep, diskCount, roundsOf } from './plan.ts';
import type { Outcome } from './outcome.ts';
import { Stalls } from './stalls.ts';
import { Verifier } from './verifier.ts';

const diskSectors = 8192;
const fileNames = ['one.cfg', 'two.cfg', 'three.cfg'] as const;
/** After the last fault of a round, still under load. */
const calmMs = 1500;
/** Until all of a round's steps are undone: restarts wait for each other, and for etcd. */
const stepsMsMax = 120_000;
/** For everything to go on, once all is mended. */
const settleMsMax = 30_000;
const readBackMsMax = 60_000;
/** The last round, and the scrub, after the time is over. */
const overtimeMs = 400_000;

export interface ChaosOptions {
  readonly seed: number;
  readonly forMs: number;
  readonly keep: 'always' | 'where a promise was broken';
  readonly print: (line: string) => void;
  /** Ends the run early, which then is no failure. */
  readonly signal: AbortSignal;
}

interface Loading {
  start(): void;
  stop(): Promise<void>;
}

interface World {
  readonly cluster: Cluster;
  readonly stalls: Stalls;
  readonly loads: readonly Loading[];
  readonly errands: Errands;
  readonly verifier: Verifier;
}

export async function chaos(options: ChaosOptions): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), `wharf-chaos-${options.seed}-`));
  const chronicle = new Chronicle(folder, options.print);
  const run = new Run(options, chronicle);
  try {
    await run.all();
  } finally {
    await chronicle.close();
    if (run.hasEnded && !run.isKept) rmSync(folder, { recursive: true });
  }
  return run.outcome();
}

/** What the run waited for did not come about, or nobody wants to know any more. */
class Over extends Error {}

class Run {
  readonly #options: ChaosOptions;
  readonly #chronicle: Chronicle;
  readonly #records = Array.from(
    { length: diskCount },
    (_, disk) => new DiskRecord(disk, diskSectors),
  );
  /** Aborted when nothing is begun or undone any more: all is about to be taken away. */
  readonly #ending = new AbortController();
  readonly #beganMs = nowMs();
  #resident: ReadonlyMap<string, number> = new Map();
  #rounds = 0;
  /** As it should: what is left behind then is no evidence. */
  hasEnded = false;

  constructor(options: ChaosOptions, chronicle: Chronicle) {
    this.#options = options;
    this.#chronicle = chronicle;
  }

  get isKept(): boolean {
    return this.#options.keep === 'always' || this.#chronicle.findingCount > 0;
  }

  async all(): Promise<void> {
    const { signal } = this.#options;
    using stalls = new Stalls(this.#chronicle);
    await using cluster = await Cluster.start(this.#chronicle, stalls);
    const world = this.#makeWorld(cluster, stalls);
    const end = () => this.#ending.abort();
    signal.addEventListener('abort', end, { once: true });
    if (signal.aborted) end();
    try {
      await this.#inTime('all of it', this.#options.forMs + overtimeMs, this.#run(world));
    } catch (error) {
      if (!(error instanceof Over)) throw error;
    } finally {
      end();
      signal.removeEventListener('abort', end);
      for (const load of world.loads) void load.stop();
    }
    this.hasEnded = true;
  }

  async #run(world: World): Promise<void> {
    const { seed, forMs } = this.#options;
    const first = world.cluster.hosts[0] as Host;
    for (const { disk } of this.#records) {
      const size = String(diskSectors * sectorBytes);
      await first.ask('POST', 'vdisk/create', { path: `/disk${disk}.raw`, size });
    }
    this.#chronicle.say(`seed ${seed}: ${world.cluster.hosts.length} hosts are up`);
    for (const round of roundsOf(seed)) {
      await this.#round(round, world);
      if (this.#chronicle.findingCount > 0) return;
      if (nowMs() - this.#beganMs > forMs) break;
    }
    await world.verifier.scrub();
    judgeLogs(this.#chronicle);
  }

  #makeWorld(cluster: Cluster, stalls: Stalls): World {
    const chronicle = this.#chronicle;
    // Streams of their own: what one does leaves the others as they are.
    const deps = (stream: number) => {
      const random = seededRandom(this.#options.seed + stream);
      return { cluster, chronicle, random: () => random.fraction() };
    };
    const disks = this.#records.map((record) => new DiskLoad(record, deps(1 + record.disk)));
    const files = fileNames.map((name, index) => new FileLoad(name, deps(100 + index)));
    const errands = new Errands(this.#records, deps(0));
    const { signal } = this.#ending;
    const verifier = new Verifier({ cluster, chronicle, disks, files, errands, signal });
    this.#resident = verifier.resident;
    return { cluster, stalls, errands, verifier, loads: [...disks, ...files] };
  }

  async #round(round: Round, world: World): Promise<void> {
    this.#rounds += 1;
    this.#chronicle.say(`round ${this.#rounds}: ${round.map(describeStep).join('; ')}`);
    for (const load of world.loads) load.start();
    const steps = Promise.all(round.map((step) => this.#take(step, world)));
    await this.#inTime('the end of the round', stepsMsMax, steps);
    await this.#sleep(calmMs);
    const still = () => world.stalls.describe().join('; ') || 'nothing hangs';
    const stopped = Promise.all(world.loads.map((load) => load.stop()));
    await this.#inTime('all I/O, when faults had stopped', settleMsMax, stopped, still);
    this.#chronicle.note('the load has stopped');
    await this.#inTime('what was read back', readBackMsMax, world.verifier.readBack(), still);
    this.#chronicle.note('all was read back');
  }

  async #take(step: Step, world: World): Promise<void> {
    await this.#sleep(step.atMs);
    const begin = faults[step.kind];
    if (!begin) return world.errands.run(step);
    if (onLinks.has(step.kind) && !world.cluster.networks) {
      this.#chronicle.count(`${step.kind} left out: no networks here`);
      return;
    }
    const end = this.#chronicle.begin(step);
    try {
      const undo = await begin(world.cluster, step);
      await this.#sleep(step.forMs);
      await undo();
      this.#chronicle.count(step.kind);
    } finally {
      end();
    }
  }

  /** Rejects where the run is over. */
  async #sleep(ms: number): Promise<void> {
    const { signal } = this.#ending;
    await sleep(ms, undefined, { signal }).catch(() => {});
    if (signal.aborted) throw new Over();
  }

  /** What does not come about in time is a broken promise, and the end of the run. */
  async #inTime<T>(
    what: string,
    ms: number,
    work: Promise<T>,
    more: () => string = () => '',
  ): Promise<T> {
    const late = new AbortController();
    const { signal } = this.#ending;
    const waiting = sleep(ms, undefined, { signal: AbortSignal.any([late.signal, signal]) }).then(
      () => {
        this.#chronicle.find(`${what} did not come in ${ms} ms: ${more()}`);
        throw new Over();
      },
      () => {
        throw new Over();
      },
    );
    waiting.catch(() => {});
    work.catch(() => {});
    try {
      return await Promise.race([work, waiting]);
    } finally {
      late.abort();
    }
  }

  outcome(): Outcome {
    const { counts, findings, findingCount, longest, folder } = this.#chronicle;
    const sum = (of: (record: DiskRecord) => number) =>
      this.#records.reduce((total, record) => total + of(record), 0);
    return {
      seed: this.#options.seed,
      isWhole: !this.#options.signal.aborted,
      seconds: Math.round((nowMs() - this.#beganMs) / 1000),
      rounds: this.#rounds,
      counts: Object.fromEntries([...counts].sort(([one], [other]) => (one < other ? -1 : 1))),
      writesAcknowledged: sum(({ acknowledged }) => acknowledged),
      writesFlushed: sum(({ flushed }) => flushed),
      longest,
      residentBytes: Object.fromEntries(this.#resident),
      findingCount,
      findings,
      ...(this.isKept && { evidence: folder }),
    };
  }
}
