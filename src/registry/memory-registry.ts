/**
 * A registry in memory, for tests of what stands above it and for the simulator, where each host has
 * one with its own clock on a store that all share.
 */

import { StorageError } from '../core/errors.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { CallOptions } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';
import type {
  KeyRange,
  KeyValue,
  Lease,
  Outcome,
  Registry,
  Transaction,
  WatchEvent,
} from '../ports/registry.ts';
import { KeptLease } from './kept-lease.ts';
import { MemoryStore } from './memory-store.ts';
import { untilAborted } from './until-aborted.ts';

export class MemoryRegistry implements Registry {
  readonly #clock: Clock;
  readonly #store: MemoryStore;
  readonly #closing = new AbortController();
  readonly #tasks = new TaskGroup((error) => {
    throw error;
  });

  constructor(clock: Clock, store = new MemoryStore(clock)) {
    this.#clock = clock;
    this.#store = store;
  }

  async get(key: string, options: CallOptions = {}): Promise<KeyValue | undefined> {
    this.#check(options);
    return this.#store.get(key);
  }

  async range(range: KeyRange, options: CallOptions & { readonly limit?: number } = {}) {
    this.#check(options);
    return this.#store.range(range, options.limit);
  }

  async transact(transaction: Transaction, options: CallOptions = {}): Promise<Outcome> {
    this.#check(options);
    return this.#store.transact(transaction);
  }

  async grantLease(ttlMs: number, options: CallOptions = {}): Promise<Lease> {
    this.#check(options);
    const sentMs = this.#clock.monotonicMs();
    const id = this.#store.grant(ttlMs);
    const calls = {
      renew: async () => this.#store.renew(id),
      revoke: async () => this.#store.endLease(id),
    };
    const granted = { id, ttlMs, sentMs };
    return new KeptLease(granted, calls, this.#clock, this.#tasks, this.#closing.signal);
  }

  async *watch(
    range: KeyRange,
    fromRevision: number,
    options: CallOptions = {},
  ): AsyncGenerator<readonly WatchEvent[], never> {
    for (let seen = fromRevision; ; ) {
      this.#check(options);
      const { changed, revision } = this.#store;
      for (const events of this.#store.changesAfter(seen, range)) {
        yield events;
        this.#check(options);
      }
      seen = Math.max(seen, revision);
      if (this.#store.revision <= seen)
        await untilAborted(changed, this.#closing.signal, options.signal);
    }
  }

  /** Resolves when nothing runs any more. */
  async close(): Promise<void> {
    this.#closing.abort(new StorageError('closed', 'the registry is closed'));
    await this.#tasks.drained();
  }

  #check({ signal }: CallOptions): void {
    this.#closing.signal.throwIfAborted();
    signal?.throwIfAborted();
  }
}
