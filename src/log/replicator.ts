/**
 * Decides where the changes of a volume must be before they are acknowledged, and keeps the
 * registry's word about it true. The registry names a copy only while every acknowledgement waits
 * for it, and says that there is none before the first acknowledgement without (invariant 5).
 *
 *   recorded   needed    an acknowledgement waits for
 *   backend    -         the record: it becomes one of the others with the first change
 *   owner      -         the local journal alone
 *   owner      a copy    that copy: it has nearly caught up and is about to be recorded
 *   copy       a copy    that copy; when it is lost, for the record to say `owner`
 *
 * Once there is a change, a task joins a host, catches up, and starts over when that one is lost.
 */

import { describeError, isStorageError, StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { HostId } from '../core/units.ts';
import { within } from '../core/within.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Tail, Tenure } from '../ports/tenure.ts';
import type { HostRecord } from '../registry/host-records.ts';
import type { Journal } from './journal.ts';
import type { ReplicaHosts } from './replica-hosts.ts';
import { ReplicaSession } from './replica-session.ts';

/** `async`: a flush waits for the copy; `sync`: every write does. */
export type ReplicaMode = 'none' | 'async' | 'sync';

/** How long the first change waits for a copy before it does without. */
const firstJoinMsMax = 1000;
/** Rounds of catching up beside the writers, before they wait for the copy. */
const catchUpRounds = 3;
const firstPauseMs = 250;
const pauseMsMax = 10_000;
/** How often it is looked whether the host of a copy that is not used is still there. */
const watchMs = 3000;

export interface ReplicatorDeps {
  readonly tenure: Tenure;
  readonly mode: ReplicaMode;
  readonly journal: Journal;
  readonly hosts: ReplicaHosts;
  /** Records where the changes of the tenure are; `fenced` once a later one has begun. */
  readonly record: (tail: Tail) => Promise<void>;
  readonly committedSequence: () => number;
  readonly clock: Clock;
  readonly log: Log;
  /** Ends all waiting with its reason. */
  readonly signal: AbortSignal;
  readonly onFailure: (error: unknown) => void;
}

export interface ReplicaStatus {
  /** The host whose copy is complete. */
  readonly replica?: HostId;
  /** Why there is none though there should be. */
  readonly degraded?: string | undefined;
}

interface Waiter {
  readonly isDue: () => boolean;
  readonly done: () => void;
  readonly failed: (reason: Error) => void;
}

export class Replicator {
  readonly #deps: ReplicatorDeps;
  readonly #tasks: TaskGroup;
  /** Sequence of the last record that was there at first. */
  readonly #openedAt: number;
  /** What the registry says; while it may be either of two, the one that waits for more. */
  #recorded: Tail;
  #lastRecord: Promise<void> = Promise.resolve();
  #needed: ReplicaSession | undefined;
  #joining: ReplicaSession | undefined;
  #attempts = 0;
  /** The host that has refused a copy, or lost one, last. */
  #avoided: HostId | undefined;
  #state: 'unchanged' | 'changing' | 'leaving' = 'unchanged';
  #why: string | undefined;
  #waiters: Waiter[] = [];

  constructor(deps: ReplicatorDeps) {
    const { tenure, journal, signal, onFailure } = deps;
    this.#deps = deps;
    this.#openedAt = journal.lastSequence;
    // A copy that this host has made its journal is this SSD's alone.
    this.#recorded = tenure.tail === 'backend' ? 'backend' : 'owner';
    this.#tasks = new TaskGroup((error) => {
      if (!signal.aborted) onFailure(error);
    });
    signal.addEventListener('abort', () => this.#abort(), { once: true });
  }

  get status(): ReplicaStatus {
    const { mode } = this.#deps;
    if (typeof this.#recorded === 'object') return { replica: this.#recorded.host };
    const isWithout = mode !== 'none' && this.#recorded === 'owner' && this.#why !== undefined;
    return isWithout ? { degraded: this.#why } : {};
  }

  /**
   * All that was acknowledged is on the backend, or in a copy: others can go on without this SSD. So it
   * is until the registry says that there is no copy.
   */
  get isElsewhere(): boolean {
    return this.#recorded !== 'owner';
  }

  /** There are changes, or will be at once. Idempotent. */
  start(): void {
    if (this.#state !== 'unchanged') return;
    this.#state = 'changing';
    this.#tasks.run(() => this.#keep());
  }

  /** Changes up to `sequence`, which it gives, may be acknowledged, though not as durable. */
  written(sequence: number): Eventually<number> {
    // A change that changes nothing: there is nothing that could be lost.
    if (sequence === 0 || (this.#state === 'unchanged' && sequence === this.#openedAt))
      return sequence;
    this.start();
    this.#needed?.note();
    this.#joining?.note();
    if (this.#has(sequence, 'appended')) return sequence;
    return this.#until(() => this.#has(sequence, 'appended'), sequence);
  }

  /** They may be acknowledged as durable once it resolves and the local journal is synced. */
  async durable(sequence: number): Promise<void> {
    const isSent = () => this.#recorded !== 'backend' && (this.#needed?.appended ?? -1) >= sequence;
    for (;;) {
      await this.#until(() => this.#has(sequence, 'durable') || isSent());
      if (this.#has(sequence, 'durable')) return;
      const needed = this.#needed as ReplicaSession;
      await needed.sync().catch(() => this.#until(() => this.#needed !== needed));
    }
  }

  /** Records that were committed to the backend are trimmed. */
  trimmed(): void {
    this.#needed?.note();
    this.#joining?.note();
    this.#wake();
  }

  /** All changes are on the backend, and no others come. */
  async leave(): Promise<void> {
    this.#state = 'leaving';
    await this.#lastRecord.catch(() => {});
    if (this.#recorded !== 'backend') await this.#record('backend');
    await this.#needed?.discard();
  }

  /**
   * The journal has failed. What is recorded stays, so that whoever it names can go on, and a copy
   * gets what nobody has flushed yet. Rejects where it is lost.
   */
  async handOff(): Promise<void> {
    const { journal } = this.#deps;
    this.#state = 'leaving';
    await this.#lastRecord;
    if (typeof this.#recorded !== 'object' || !this.#needed) return;
    await this.#reached(this.#needed, journal.lastSequence);
    await this.#needed.sync();
  }

  /** The signal has been aborted. */
  drained(): Promise<void> {
    return this.#tasks.drained();
  }

  async #keep(): Promise<void> {
    const { mode, clock, signal, log } = this.#deps;
    if (mode === 'none') return this.#goAlone();
    for (let pauseMs = firstPauseMs; this.#state === 'changing' && !signal.aborted; ) {
      const joined = await this.#join();
      if (joined) {
        this.#why = await this.#watch(joined);
        pauseMs = firstPauseMs;
        const { host } = joined.copy;
        this.#avoided = host;
        if (!signal.aborted) log.warn({ replica: host, why: this.#why }, 'replica is lost');
      }
      await this.#goAlone();
      await clock.sleep(pauseMs, { signal }).catch(() => {});
      pauseMs = Math.min(2 * pauseMs, pauseMsMax);
    }
  }

  /** Gives the session once it is recorded; undefined where there is none. */
  async #join(): Promise<ReplicaSession | undefined> {
    const { clock } = this.#deps;
    const attempt = this.#tryJoin();
    if (this.#recorded === 'backend') {
      // The first change is held only for so long. One that waits for the copy already goes on.
      const isLate = (await within(clock, firstJoinMsMax, attempt)) === 'late';
      if (isLate && !this.#needed) await this.#record('owner');
    }
    return attempt;
  }

  async #tryJoin(): Promise<ReplicaSession | undefined> {
    const { hosts, tenure, journal, log } = this.#deps;
    let host: HostRecord | undefined;
    try {
      host = await hosts.choose(tenure.objectId, this.#avoided);
      this.#why = 'no other host is up';
      if (!host) return undefined;
      const session = await this.#begin(host);
      for (let round = 0; round < catchUpRounds; round += 1)
        await this.#reached(session, journal.lastSequence);
      this.#needed = session;
      this.#wake();
      await this.#reached(session, journal.lastSequence);
      await session.sync();
      await this.#record(session.copy);
      log.info({ replica: host.id }, 'replica is complete');
      return session;
    } catch (error) {
      this.#joining?.end(error);
      if (isStorageError(error, 'fenced')) throw error;
      this.#avoided = host?.id;
      this.#why = describeError(error);
      log.debug({ why: this.#why }, 'replica did not come about');
      return undefined;
    } finally {
      this.#joining = undefined;
    }
  }

  async #begin(host: HostRecord): Promise<ReplicaSession> {
    const { hosts, tenure, journal, committedSequence, signal } = this.#deps;
    this.#attempts += 1;
    const session = await ReplicaSession.begin(
      {
        ...{ hosts, journal, committedSequence, id: tenure.objectId, epoch: tenure.epoch },
        onProgress: () => this.#wake(),
      },
      host,
      this.#attempts,
    );
    this.#joining = session;
    if (signal.aborted) session.end(signal.reason);
    return session;
  }

  /** Waits until the copy has a sequence; rejects where it is lost. */
  async #reached(session: ReplicaSession, sequence: number): Promise<void> {
    session.note();
    await this.#until(() => session.isOver || session.appended >= sequence);
    if (session.isOver) await session.lost;
  }

  /** Gives the reason for which a copy is lost, which its host may not live to tell. */
  async #watch(session: ReplicaSession): Promise<string> {
    const { clock } = this.#deps;
    const lost = session.lost.catch(describeError);
    while ((await within(clock, watchMs, lost)) === 'late')
      if (!(await session.isHostUp()))
        session.end(new StorageError('unavailable', `host ${session.copy.host} is gone`));
    return lost;
  }

  /** From now on the local journal alone counts; recorded first. */
  async #goAlone(): Promise<void> {
    if (this.#deps.signal.aborted || this.#state === 'leaving') return;
    if (this.#recorded !== 'owner') await this.#record('owner');
    this.#needed = undefined;
    this.#wake();
  }

  /** One after another, so that the last one stays. */
  #record(tail: Tail): Promise<void> {
    const { record } = this.#deps;
    if (this.#state === 'leaving' && tail !== 'backend')
      return Promise.reject(new StorageError('closed', 'the volume is being closed'));
    const before = this.#lastRecord.catch(() => {});
    this.#lastRecord = before.then(async () => {
      if (typeof tail === 'object' && this.#recorded === 'owner') this.#recorded = tail;
      await record(tail);
      this.#recorded = tail;
      this.#wake();
    });
    return this.#lastRecord;
  }

  #has(sequence: number, what: 'appended' | 'durable'): boolean {
    const { committedSequence, mode } = this.#deps;
    if (this.#recorded === 'backend') return sequence <= committedSequence();
    const needed = this.#needed;
    if (!needed || (what === 'appended' && mode === 'async')) return true;
    return needed[what] >= sequence;
  }

  async #until(isDue: () => boolean, result = 0): Promise<number> {
    if (isDue()) return result;
    const { signal } = this.#deps;
    signal.throwIfAborted();
    await new Promise<void>((done, failed) => {
      this.#waiters.push({ isDue, done, failed });
    });
    return result;
  }

  #wake(): void {
    this.#deps.journal.limitPromise(this.#needed?.durable ?? Number.MAX_SAFE_INTEGER);
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters)
      if (waiter.isDue()) waiter.done();
      else this.#waiters.push(waiter);
  }

  #abort(): void {
    const reason = this.#deps.signal.reason as Error;
    this.#joining?.end(reason);
    this.#needed?.end(reason);
    for (const { failed } of this.#waiters.splice(0)) failed(reason);
  }
}
