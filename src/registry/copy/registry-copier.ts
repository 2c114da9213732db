/**
 * Keeps a copy of the registry in a bucket of the vPool, so that the buckets are enough (invariant
 * 11): all hosts have one of these, and one of them at a time does the work.
 *
 *   waiting    another host has the lock; looks again now and then
 *   copying    this host has it, for as long as its lease lasts (copy-tenure.ts)
 *   finishing  the host stops: what is not copied yet is, by whoever can have the lock
 */

import { describeError, isStorageError } from '../../core/errors.ts';
import { TaskGroup } from '../../core/task-group.ts';
import { within } from '../../core/within.ts';
import type { HostId } from '../../core/units.ts';
import type { Lease } from '../../ports/registry.ts';
import { encodeRecord } from '../record.ts';
import { listCopy } from './copy-bucket.ts';
import type { CopyRecord } from './copy-record.ts';
import { copierKey, copyKey, encodeCopyRecord, noCopy, readCopyRecord } from './copy-record.ts';
import type { CopyTenureDeps, CopyTurn } from './copy-tenure.ts';
import { CopyTenure } from './copy-tenure.ts';

const lockTtlMs = 10_000;
const lookAgainMs = 10_000;
const retryMs = 1000;
/** For what is written, and read before. */
const workMsMax = 10_000;
/** For what is left when the host stops; the next one goes on with it. */
const finishMsMax = 5000;

/** A change is in the copy after this time at most, also where the host that copies has just died. */
export function copyAgeMsMax(delayMs: number): number {
  return delayMs + lockTtlMs + lookAgainMs + workMsMax;
}

export interface RegistryCopierDeps extends CopyTenureDeps {
  readonly host: HostId;
}

export interface CopyStatus {
  /** Who wrote last. */
  readonly host: string;
  readonly ageMs: number;
  /** Whether something has changed since; undefined: another host knows. */
  readonly isBehind: boolean | undefined;
}

interface Taken extends Pick<CopyTurn, 'session' | 'record'> {
  readonly lease: Lease;
}

export class RegistryCopier {
  readonly #deps: RegistryCopierDeps;
  readonly #tasks: TaskGroup;
  readonly #stop = new AbortController();
  readonly #finishing = new AbortController();
  #record: CopyRecord = noCopy;
  #tenure: CopyTenure | undefined;

  constructor(deps: RegistryCopierDeps) {
    this.#deps = deps;
    this.#tasks = new TaskGroup((error) => {
      deps.log.error({ error: describeError(error) }, 'registry is not copied any more');
    });
  }

  start(): void {
    this.#tasks.run(() => this.#run());
  }

  /** Undefined before there is a copy. Of another host's work it is known with some delay. */
  status(): CopyStatus | undefined {
    const { base, host, madeMs } = this.#tenure?.record ?? this.#record;
    if (base === 0) return undefined;
    const nowMs = Number(this.#deps.clock.wallNs() / 1_000_000n);
    return { host, ageMs: Math.max(0, nowMs - madeMs), isBehind: this.#tenure?.isBehind };
  }

  /** What is not copied yet is copied, if that is done soon. */
  async close(): Promise<void> {
    this.#finishing.abort();
    await within(this.#deps.clock, finishMsMax, this.#tasks.drained());
    this.#stop.abort();
    await this.#tasks.drained();
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#deps;
    const wake = AbortSignal.any([this.#stop.signal, this.#finishing.signal]);
    for (let failures = 0; ; ) {
      const isLast = wake.aborted;
      let pauseMs = lookAgainMs;
      try {
        const taken = await this.#take();
        if (taken) return await this.#copy(taken);
        failures = 0;
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        pauseMs = retryMs;
        failures += 1;
        const facts = { error: describeError(error) };
        if (failures === 1) log.warn(facts, 'registry is not copied; trying again');
      }
      if (isLast) return;
      await clock.sleep(pauseMs, { signal: wake }).catch(() => {});
    }
  }

  /** Undefined where another host has the lock. */
  async #take(): Promise<Taken | undefined> {
    const { registry, store, host } = this.#deps;
    const { signal } = this.#stop;
    const { record, revision } = await readCopyRecord(registry, { signal });
    this.#record = record;
    if (await registry.get(copierKey, { signal })) return undefined;
    const lease = await registry.grantLease(lockTtlMs, { signal });
    try {
      const listed = (await listCopy(store, { signal })).map(({ name }) => name?.term ?? 0);
      const newest = Math.max(0, ...listed);
      const next = {
        ...asContinued(record, newest),
        host,
        term: Math.max(record.term, newest) + 1,
      };
      const outcome = await registry.transact(
        {
          compares: [
            { key: copierKey, is: 'absent' },
            revision === undefined
              ? { key: copyKey, is: 'absent' }
              : { key: copyKey, is: 'at', revision },
          ],
          writes: [
            { key: copierKey, put: encodeRecord({ host }), lease: lease.id },
            { key: copyKey, put: encodeCopyRecord(next) },
          ],
        },
        { signal },
      );
      if (outcome.committed) return { lease, session: outcome.revision, record: next };
    } catch (error) {
      await this.#release(lease);
      throw error;
    }
    await this.#release(lease);
    return undefined;
  }

  /** Until the host stops, or rejects. */
  async #copy({ lease, session, record }: Taken): Promise<void> {
    const signal = AbortSignal.any([lease.signal, this.#stop.signal]);
    const turn = { session, signal, finishing: this.#finishing.signal };
    try {
      for (let next = record; ; ) {
        const tenure = new CopyTenure(this.#deps, { ...turn, record: next });
        this.#tenure = tenure;
        try {
          return await tenure.serve();
        } catch (error) {
          if (!isStorageError(error, 'compacted') || signal.aborted) throw error;
          // Some changes were missed: what there is can't be continued.
          next = discontinued(tenure.record);
          await this.#deps.clock.sleep(retryMs, { signal });
        }
      }
    } finally {
      this.#record = this.#tenure?.record ?? this.#record;
      this.#tenure = undefined;
      await this.#release(lease);
    }
  }

  /** Or it runs out. */
  async #release(lease: Lease): Promise<void> {
    await lease.release({ signal: this.#stop.signal }).catch(() => {});
  }
}

/** A registry that has forgotten what is in the bucket has gone back in time. */
function asContinued(record: CopyRecord, newestTerm: number): CopyRecord {
  return newestTerm > record.term ? discontinued(record) : record;
}

function discontinued(record: CopyRecord): CopyRecord {
  return { ...record, base: 0, before: record.base === 0 ? record.before : record.base };
}
