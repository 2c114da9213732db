/**
 * A registry in memory, for tests of what stands above it and for the simulator, where each host has
 * one with its own clock on a store that all share, reached by a way that may be bad.
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

export type Call = 'get' | 'range' | 'transact' | 'grant' | 'renew' | 'revoke' | 'watch' | 'event';

/** Has `act` happen at the store, when and if at all, and gives or loses the answer. */
export type Carry = <T>(call: Call, act: () => T, transaction?: Transaction) => Promise<T>;

const atOnce: Carry = async (_, act) => act();

export class MemoryRegistry implements Registry {
  readonly #clock: Clock;
  readonly #store: MemoryStore;
  readonly #carry: Carry;
  readonly #closing = new AbortController();
  readonly #tasks = new TaskGroup((error) => {
    throw error;
  });

  constructor(clock: Clock, store = new MemoryStore(clock), carry = atOnce) {
    this.#clock = clock;
    this.#store = store;
    this.#carry = carry;
  }

  get(key: string, options?: CallOptions): Promise<KeyValue | undefined> {
    return this.#call('get', () => this.#store.get(key), options);
  }

  range(range: KeyRange, options: CallOptions & { readonly limit?: number } = {}) {
    return this.#call('range', () => this.#store.range(range, options.limit), options);
  }

  transact(transaction: Transaction, options?: CallOptions): Promise<Outcome> {
    const act = () => this.#store.transact(transaction);
    return this.#call('transact', act, options, transaction);
  }

  async grantLease(ttlMs: number, options?: CallOptions): Promise<Lease> {
    const sentMs = this.#clock.monotonicMs();
    const id = await this.#call('grant', () => this.#store.grant(ttlMs), options);
    const calls = {
      renew: () => this.#call('renew', () => this.#store.renew(id)),
      revoke: () => this.#call('revoke', () => this.#store.endLease(id)),
    };
    const granted = { id, ttlMs, sentMs };
    return new KeptLease(granted, calls, this.#clock, this.#tasks, this.#closing.signal);
  }

  async *watch(
    range: KeyRange,
    fromRevision: number,
    options: CallOptions = {},
  ): AsyncGenerator<readonly WatchEvent[], never> {
    await this.#call('watch', () => this.#store.assertKept(fromRevision), options);
    for (let seen = fromRevision; ; ) {
      const { changed, revision } = this.#store;
      for (const events of this.#store.changesAfter(seen, range)) {
        await this.#call('event', () => undefined, options);
        yield events;
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

  async #call<T>(
    call: Call,
    act: () => T,
    { signal }: CallOptions = {},
    transaction?: Transaction,
  ): Promise<T> {
    this.#closing.signal.throwIfAborted();
    signal?.throwIfAborted();
    return untilAborted(this.#carry(call, act, transaction), signal, this.#closing.signal);
  }
}
