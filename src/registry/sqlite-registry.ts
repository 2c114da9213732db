/**
 * The registry of one machine: a SQLite file that several processes share. Transactions that are
 * asked for in one turn of the loop share one SQLite commit, each with an outcome of its own, so
 * that many small changes cost one fsync.
 *
 * Leases count on the machine's boot-time clock, which is the same for all its processes. A lease
 * that has run out is ended by whoever comes by: each commit, a read of its keys, a watch. Watches
 * look for commits of other processes every few milliseconds, and wake at once for those of their
 * own.
 */

import type { DatabaseSync } from 'node:sqlite';
import type { ErrorCode } from '../core/errors.ts';
import { StorageError } from '../core/errors.ts';
import { TaskGroup } from '../core/task-group.ts';
import { leaseId } from '../core/units.ts';
import type { CallOptions } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';
import type {
  KeyRange,
  KeyValue,
  Lease,
  Outcome,
  RangeResult,
  Registry,
  Transaction,
  WatchEvent,
} from '../ports/registry.ts';
import { KeptLease } from './kept-lease.ts';
import { openFile, translate } from './sqlite-file.ts';
import { SqliteTables } from './sqlite-tables.ts';
import { checkTransaction } from './transaction-check.ts';
import { untilAborted } from './until-aborted.ts';

const pollMs = 15;
const revisionsPerRead = 256;

/** A step of the next commit. */
interface Pending {
  /** May throw before it writes; then it alone is refused. */
  readonly run: () => unknown;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

export interface SqliteSettings {
  readonly path: string;
  /** Names the run of the kernel that the clock counts from. */
  readonly bootId: string;
}

export class SqliteRegistry implements Registry {
  readonly #database: DatabaseSync;
  readonly #tables: SqliteTables;
  readonly #clock: Clock;
  readonly #closing = new AbortController();
  readonly #tasks = new TaskGroup((error) => {
    throw error;
  });
  #pending: Pending[] = [];
  #watches = 0;
  #isPolling = false;
  #changed = Promise.withResolvers<void>();

  private constructor(database: DatabaseSync, clock: Clock) {
    this.#database = database;
    this.#tables = new SqliteTables(database);
    this.#clock = clock;
  }

  /** `corrupt` on a file that is something else, `unsupported` on one of a newer version. */
  static open({ path, bootId }: SqliteSettings, clock: Clock): SqliteRegistry {
    return new SqliteRegistry(openFile(path, bootId), clock);
  }

  async get(key: string, options: CallOptions = {}): Promise<KeyValue | undefined> {
    this.#check(options);
    for (;;) {
      const found = this.#attempt(() => this.#tables.get(key, this.#clock.monotonicMs()));
      if (found !== 'expired') return found;
      await this.#endExpiredLeases();
    }
  }

  async range(
    range: KeyRange,
    options: CallOptions & { readonly limit?: number } = {},
  ): Promise<RangeResult> {
    this.#check(options);
    for (;;) {
      const { entries, revision } = this.#read(() => {
        const { revision } = this.#tables.counters();
        const nowMs = this.#clock.monotonicMs();
        return { entries: this.#tables.range(range, options.limit ?? -1, nowMs), revision };
      });
      if (entries !== 'expired') return { entries, revision };
      await this.#endExpiredLeases();
    }
  }

  async transact(transaction: Transaction, options: CallOptions = {}): Promise<Outcome> {
    this.#check(options);
    checkTransaction(transaction);
    return this.#commit(() => this.#tables.apply(transaction));
  }

  async grantLease(ttlMs: number, options: CallOptions = {}): Promise<Lease> {
    this.#check(options);
    const now = () => this.#clock.monotonicMs();
    const sentMs = now();
    const id = leaseId(await this.#commit(() => this.#tables.grant(ttlMs, now())));
    const calls = {
      renew: () => this.#commit(() => this.#tables.renew(id, now())),
      revoke: () => this.#commit(() => this.#tables.endLease(id)),
    };
    const granted = { id, ttlMs, sentMs };
    return new KeptLease(granted, calls, this.#clock, this.#tasks, this.#closing.signal);
  }

  async *watch(
    range: KeyRange,
    fromRevision: number,
    options: CallOptions = {},
  ): AsyncGenerator<readonly WatchEvent[], never> {
    this.#watches += 1;
    this.#poll();
    try {
      for (let seen = fromRevision; ; ) {
        this.#check(options);
        const changed = this.#changed.promise;
        const { events, until, isBehind } = this.#read(() => this.#changesBehind(seen, range));
        for (const transaction of events) {
          yield transaction;
          this.#check(options);
        }
        seen = until;
        if (!isBehind) await untilAborted(changed, this.#closing.signal, options.signal);
      }
    } finally {
      this.#watches -= 1;
    }
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return this.#tasks.drained();
    this.#commitPending();
    this.#closing.abort(new StorageError('closed', 'the registry is closed'));
    await this.#tasks.drained();
    this.#database.close();
  }

  /** Some revisions at a time; `compacted` where they are forgotten. */
  #changesBehind(seen: number, range: KeyRange) {
    const { revision, compacted } = this.#tables.counters();
    if (seen < compacted)
      throw new StorageError('compacted', `changes after revision ${seen} are forgotten`);
    const until = Math.max(seen, Math.min(revision, seen + revisionsPerRead));
    return { events: this.#tables.changes(seen, until, range), until, isBehind: until < revision };
  }

  /** Looks for commits of others, as long as anybody watches. */
  #poll(): void {
    if (this.#isPolling) return;
    this.#isPolling = true;
    this.#tasks.run(async () => {
      let version: unknown;
      while (this.#watches > 0 && !this.#closing.signal.aborted) {
        try {
          const found = this.#tables.dataVersion();
          if (found !== version) this.#wake();
          version = found;
          if (this.#tables.hasExpiredLeases(this.#clock.monotonicMs()))
            await this.#endExpiredLeases();
        } catch {
          // The watches read by themselves, and tell what is wrong.
          this.#wake();
        }
        await this.#clock.sleep(pollMs, { signal: this.#closing.signal }).catch(() => undefined);
      }
      this.#isPolling = false;
    });
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** Every commit does that first. */
  #endExpiredLeases(): Promise<void> {
    return this.#commit(() => undefined);
  }

  /** `unavailable`, or `unknown_outcome` where it may have happened. */
  #commit<T>(run: () => T): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#pending.push({ run, resolve: resolve as (result: unknown) => void, reject });
    if (this.#pending.length === 1) setImmediate(() => this.#commitPending());
    return promise;
  }

  /** All that is waiting, in one SQLite transaction. */
  #commitPending(): void {
    const batch = this.#pending;
    this.#pending = [];
    if (batch.length === 0) return;
    let otherwise: ErrorCode = 'unavailable';
    try {
      this.#closing.signal.throwIfAborted();
      this.#database.exec('BEGIN IMMEDIATE');
      this.#tables.endExpiredLeases(this.#clock.monotonicMs());
      const answers = batch.map((step) => answerOf(step));
      this.#tables.compact();
      otherwise = 'unknown_outcome';
      this.#database.exec('COMMIT');
      for (const answer of answers) answer();
      this.#wake();
    } catch (error) {
      this.#rollBack();
      for (const { reject } of batch) reject(translate(error, otherwise));
    }
  }

  #rollBack(): void {
    try {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
    } catch {
      // SQLite has rolled back by itself; whoever waits is told of the first error.
    }
  }

  /** All of one moment. */
  #read<T>(action: () => T): T {
    try {
      this.#database.exec('BEGIN');
      const result = this.#attempt(action);
      this.#database.exec('COMMIT');
      return result;
    } catch (error) {
      this.#rollBack();
      throw translate(error);
    }
  }

  #attempt<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw translate(error);
    }
  }

  #check({ signal }: CallOptions): void {
    this.#closing.signal.throwIfAborted();
    signal?.throwIfAborted();
  }
}

/** Runs a step; what it answers is told when all is committed. */
function answerOf({ run, resolve, reject }: Pending): () => void {
  try {
    const result = run();
    return () => resolve(result);
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    return () => reject(error);
  }
}
