/**
 * The scrub of this host's vPool: begun, watched and stopped by an administrator. One goes on at a time
 * in the whole vPool: it holds a key under a lease, and all that it keeps is kept under that lease, so
 * when it ends, however it ends, it has left nothing behind.
 *
 *   none      there was none since the daemon began
 *   running   findings come as they are made
 *   done      all was looked at
 *   stopped   somebody stopped it; failed: it could not go on
 */

import { RateMeter } from '../backend/with-rate.ts';
import { describeError, StorageError } from '../core/errors.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { HostId } from '../core/units.ts';
import type { Lease } from '../ports/registry.ts';
import type { Log } from '../ports/log.ts';
import type { Finding } from '../ports/scrub.ts';
import { encodeRecord, RecordReader } from '../registry/record.ts';
import type { VpoolScrubDeps } from './scrub-vpool.ts';
import { VpoolScrub } from './scrub-vpool.ts';

/** Whoever runs it. */
const lockKey = 'z';
const leaseMs = 30_000;
/** More are counted, and not told one by one. */
const findingsMax = 10_000;

export interface ScrubDeps extends VpoolScrubDeps {
  readonly host: HostId;
  readonly log: Log;
}

export interface ScrubOptions {
  readonly isRepair: boolean;
  readonly bytesPerSecond: number;
}

export interface ScrubStatus {
  readonly state: 'none' | 'running' | 'done' | 'stopped' | 'failed';
  readonly isRepair: boolean;
  /** Read from the object store, and what there is to be read, as far as it is known. */
  readonly readBytes: number;
  readonly totalBytes: number | undefined;
  readonly bytesPerSecond: number;
  readonly tookMs: number;
  /** Of each kind, what is repaired not counted. */
  readonly damage: number;
  readonly waste: number;
  readonly foreign: number;
  readonly repaired: number;
  readonly why?: string;
}

export interface ScrubFindings extends ScrubStatus {
  /** From the one asked for on. */
  readonly findings: readonly Finding[];
}

const neverRun: ScrubStatus = {
  ...{ state: 'none', isRepair: false, readBytes: 0, totalBytes: undefined, bytesPerSecond: 0 },
  ...{ tookMs: 0, damage: 0, waste: 0, foreign: 0, repaired: 0 },
};

export class Scrub {
  readonly #deps: ScrubDeps;
  readonly #tasks: TaskGroup;
  #stop = new AbortController();
  #status: () => ScrubStatus = () => neverRun;
  #findings: Finding[] = [];
  #isRunning = false;

  constructor(deps: ScrubDeps) {
    this.#deps = deps;
    this.#tasks = new TaskGroup((error) => {
      deps.log.error({ error: describeError(error) }, 'scrub has failed');
    });
  }

  /** `busy` where one goes on already. */
  async start(options: ScrubOptions): Promise<void> {
    if (this.#isRunning)
      throw new StorageError('busy', `a scrub of the vPool goes on here already`);
    this.#isRunning = true;
    let lease: Lease;
    try {
      lease = await this.#lock();
    } catch (error) {
      this.#isRunning = false;
      throw error;
    }
    this.#stop = new AbortController();
    this.#tasks.run(() =>
      this.#run(options, lease).finally(() => {
        this.#isRunning = false;
      }),
    );
  }

  status(): ScrubStatus {
    return this.#status();
  }

  /** With the findings behind the first `from`. */
  report(from: number): ScrubFindings {
    return { ...this.#status(), findings: this.#findings.slice(from) };
  }

  /** Resolves when it has ended. */
  async stop(): Promise<void> {
    this.#stop.abort(new StorageError('closed', 'the scrub was stopped'));
    await this.#tasks.drained();
  }

  async #lock(): Promise<Lease> {
    const { registry, host } = this.#deps;
    const lease = await registry.grantLease(leaseMs);
    const { committed } = await registry.transact({
      compares: [{ key: lockKey, is: 'absent' }],
      writes: [{ key: lockKey, put: encodeRecord({ host }), lease: lease.id }],
    });
    if (committed) return lease;
    const other = await registry.get(lockKey);
    await lease.release();
    const who = other ? `host ${new RecordReader('scrub', other.value).text('host')}` : 'a host';
    throw new StorageError('busy', `a scrub of the vPool goes on already, at ${who}`);
  }

  async #run({ isRepair, bytesPerSecond }: ScrubOptions, lease: Lease): Promise<void> {
    const { clock, log } = this.#deps;
    const signal = AbortSignal.any([this.#stop.signal, lease.signal]);
    const meter = new RateMeter(clock, bytesPerSecond, signal);
    const beganMs = clock.monotonicMs();
    const counts = { damage: 0, waste: 0, foreign: 0, repaired: 0 };
    let totalBytes: number | undefined;
    let end: Pick<ScrubStatus, 'state' | 'why'> = { state: 'running' };
    let tookMs: number | undefined;
    this.#findings = [];
    this.#status = () => ({
      ...{ ...end, isRepair, bytesPerSecond, totalBytes, ...counts },
      ...{ readBytes: meter.bytes, tookMs: tookMs ?? Math.round(clock.monotonicMs() - beganMs) },
    });
    const found = (finding: Finding) => {
      counts[finding.isRepaired === true ? 'repaired' : finding.kind] += 1;
      if (this.#findings.length < findingsMax) this.#findings.push(finding);
      log[finding.kind === 'damage' ? 'error' : 'info']({ ...finding }, 'scrub found something');
    };
    const expects = (bytes: number) => {
      totalBytes = bytes;
    };
    const run = { isRepair, meter, lease: lease.id, signal, found, expects };
    try {
      log.info({ isRepair, bytesPerSecond }, 'scrub begins');
      await new VpoolScrub(this.#deps, run).run();
      end = { state: 'done' };
      log.info({ ...counts, readBytes: meter.bytes }, 'scrub is done');
    } catch (error) {
      const isStopped = this.#stop.signal.aborted;
      end = { state: isStopped ? 'stopped' : 'failed', why: describeError(error) };
      if (!isStopped) throw error;
    } finally {
      tookMs = Math.round(clock.monotonicMs() - beganMs);
      await lease.release();
    }
  }
}
