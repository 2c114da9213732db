/**
 * What the memory registries of one test or simulation share: keys, leases, and the last changes for
 * watches. Time is the store's own clock, whatever clocks its users have.
 */

import { StorageError } from '../core/errors.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { LeaseId } from '../core/units.ts';
import { leaseId } from '../core/units.ts';
import type { Clock } from '../ports/clock.ts';
import type {
  Compare,
  KeyRange,
  KeyValue,
  Outcome,
  RangeResult,
  Transaction,
  WatchEvent,
  Write,
} from '../ports/registry.ts';
import { checkTransaction } from './transaction-check.ts';

const changesMax = 2048;

interface Kept {
  readonly entry: KeyValue;
  readonly lease: LeaseId | undefined;
}

interface LeaseRow {
  readonly ttlMs: number;
  expiresMs: number;
  readonly ended: AbortController;
}

const isIn = (key: string, { from, to }: KeyRange) => key >= from && key < to;

export class MemoryStore {
  readonly #clock: Clock;
  readonly #kept = new Map<string, Kept>();
  readonly #leases = new Map<LeaseId, LeaseRow>();
  #changes: (readonly WatchEvent[])[] = [];
  #revision = 0;
  /** Changes up to here are forgotten. */
  #compacted = 0;
  #leasesMade = 0;
  /** Ends leases when their time is over. */
  readonly #tasks = new TaskGroup((error) => {
    throw error;
  });
  #changed = Promise.withResolvers<void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get revision(): number {
    return this.#revision;
  }

  /** Resolves at the next change. */
  get changed(): Promise<void> {
    return this.#changed.promise;
  }

  get(key: string): KeyValue | undefined {
    const found = this.#kept.get(key)?.entry;
    return found && { ...found, value: found.value.slice() };
  }

  range(range: KeyRange, limit = Number.POSITIVE_INFINITY): RangeResult {
    const keys = [...this.#kept.keys()].filter((key) => isIn(key, range)).sort();
    const entries = keys.slice(0, limit).map((key) => this.get(key) as KeyValue);
    return { entries, revision: this.#revision };
  }

  transact(transaction: Transaction): Outcome {
    checkTransaction(transaction);
    const { compares, writes } = transaction;
    if (!compares.every((compare) => this.#holds(compare))) return { committed: false };
    for (const write of writes)
      if ('lease' in write && write.lease !== undefined && !this.#leases.has(write.lease))
        throw new StorageError('fenced', `lease ${write.lease} has ended`);
    this.#write(writes);
    return { committed: true, revision: this.#revision };
  }

  grant(ttlMs: number): LeaseId {
    this.#leasesMade += 1;
    const id = leaseId(String(this.#leasesMade));
    const expiresMs = this.#clock.monotonicMs() + ttlMs;
    const row: LeaseRow = { ttlMs, expiresMs, ended: new AbortController() };
    this.#leases.set(id, row);
    this.#tasks.run(async () => {
      const { signal } = row.ended;
      for (let leftMs = ttlMs; leftMs > 0; leftMs = row.expiresMs - this.#clock.monotonicMs()) {
        await this.#clock.sleep(leftMs, { signal }).catch(() => undefined);
        if (signal.aborted) return;
      }
      this.endLease(id);
    });
    return id;
  }

  renew(id: LeaseId): 'renewed' | 'lost' {
    const row = this.#leases.get(id);
    if (!row) return 'lost';
    row.expiresMs = this.#clock.monotonicMs() + row.ttlMs;
    return 'renewed';
  }

  /** None ends before a new leader, who comes after so long, has given it its whole time. */
  extendLeases(forMs: number): void {
    for (const row of this.#leases.values())
      row.expiresMs = this.#clock.monotonicMs() + forMs + row.ttlMs;
  }

  endLease(id: LeaseId): void {
    this.#leases.get(id)?.ended.abort();
    this.#leases.delete(id);
    const keys = [...this.#kept.values()].filter(({ lease }) => lease === id);
    this.#write(keys.map(({ entry }) => ({ key: entry.key, delete: true })));
  }

  /** Nobody waits for a lease to run out any more. */
  close(): void {
    for (const id of [...this.#leases.keys()]) this.endLease(id);
  }

  /** No change is remembered. */
  forget(): void {
    this.#changes = [];
    this.#compacted = this.#revision;
  }

  /** `compacted` where not all that has changed since is remembered. */
  assertKept(revision: number): void {
    if (revision < this.#compacted)
      throw new StorageError('compacted', `changes after revision ${revision} are forgotten`);
  }

  /** The changes of the range behind `revision`. `compacted`. */
  changesAfter(revision: number, range: KeyRange): readonly (readonly WatchEvent[])[] {
    this.assertKept(revision);
    return this.#changes
      .filter(([first]) => first !== undefined && first.revision > revision)
      .map((events) => events.filter(({ key }) => isIn(key, range)))
      .filter((events) => events.length > 0)
      .map((events) => events.map((event) => ({ ...event, value: event.value?.slice() })));
  }

  #holds(compare: Compare): boolean {
    const found = this.#kept.get(compare.key)?.entry;
    if (compare.is === 'at') return found?.revision === compare.revision;
    return (found === undefined) === (compare.is === 'absent');
  }

  #write(writes: readonly Write[]): void {
    const effective = writes.filter((write) => 'put' in write || this.#kept.has(write.key));
    if (effective.length === 0) return;
    this.#revision += 1;
    const revision = this.#revision;
    const events = effective.map((write): WatchEvent => {
      const { key } = write;
      if (!('put' in write)) {
        this.#kept.delete(key);
        return { key, revision, value: undefined };
      }
      // Not `put.slice()`, which shares the memory of a Buffer.
      const value = Uint8Array.from(write.put);
      this.#kept.set(key, { entry: { key, value, revision }, lease: write.lease });
      return { key, revision, value };
    });
    this.#changes.push(events);
    if (this.#changes.length >= 2 * changesMax) {
      this.#changes = this.#changes.slice(-changesMax);
      this.#compacted = (this.#changes[0]?.[0]?.revision ?? 1) - 1;
    }
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
