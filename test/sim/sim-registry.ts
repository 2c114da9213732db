/**
 * The registry as one process reaches it: over a network that delays, cuts, and loses answers before
 * and after the transaction has happened, or brings it late. The store itself is linearizable.
 */

import { StorageError } from '../../src/core/errors.ts';
import { TaskGroup } from '../../src/core/task-group.ts';
import type { CallOptions } from '../../src/ports/blob-store.ts';
import type { Checksum } from '../../src/ports/checksum.ts';
import type { Clock } from '../../src/ports/clock.ts';
import type {
  KeyRange,
  KeyValue,
  Lease,
  Outcome,
  RangeResult,
  Registry,
  Transaction,
  WatchEvent,
} from '../../src/ports/registry.ts';
import { KeptLease } from '../../src/registry/kept-lease.ts';
import type { MemoryStore } from '../../src/registry/memory-store.ts';
import { untilAborted } from '../../src/registry/until-aborted.ts';
import type { Coverage, ProtocolStep } from './protocol.ts';
import { stepOfTransaction } from './protocol.ts';
import type { RecordRules } from './record-rules.ts';
import type { SimProcess } from './sim-process.ts';

/** How long a call is waited for, as an etcd client does. */
const patienceMs = 2000;

export interface RegistryFaults {
  /** It has no leader, or all of it is down. */
  isAway: boolean;
  /** Hosts that it does not hear, and hosts that do not hear it. */
  readonly deafTo: Set<string>;
  readonly unheardBy: Set<string>;
  /** Of each call, from 0 to 1. */
  trouble: number;
  /** Watches that begin behind the latest revision learn that changes are forgotten. */
  forgets: boolean;
}

/** What all processes share. */
export interface RegistryAround {
  readonly registry: MemoryStore;
  readonly registryFaults: RegistryFaults;
  readonly coverage: Coverage;
  readonly checksum: Checksum;
  readonly rules: RecordRules;
  /** The object's record has changed, whether or not the host lives to learn it. */
  readonly recorded: (id: string) => void;
  readonly violated: (error: unknown) => void;
}

export class SimRegistry implements Registry {
  readonly #host: string;
  readonly #process: SimProcess;
  readonly #clock: Clock;
  readonly #store: MemoryStore;
  readonly #faults: RegistryFaults;
  readonly #around: RegistryAround;
  readonly #closing = new AbortController();
  readonly #tasks = new TaskGroup((error) => {
    throw error;
  });

  constructor(
    process: SimProcess,
    { host, clock }: { readonly host: string; readonly clock: Clock },
    around: RegistryAround,
  ) {
    this.#host = host;
    this.#process = process;
    this.#clock = clock;
    this.#store = around.registry;
    this.#faults = around.registryFaults;
    this.#around = around;
  }

  get(key: string, options?: CallOptions): Promise<KeyValue | undefined> {
    return this.#call('get', 'read', () => this.#store.get(key), options);
  }

  range(range: KeyRange, options: CallOptions & { limit?: number } = {}): Promise<RangeResult> {
    return this.#call('range', 'read', () => this.#store.range(range, options.limit), options);
  }

  transact(transaction: Transaction, options?: CallOptions): Promise<Outcome> {
    const { coverage, checksum, recorded, rules } = this.#around;
    const step = stepOfTransaction(this.#host, transaction, this.#store, checksum);
    const act = () => {
      const checked = rules.transaction(this.#host, transaction);
      const made = this.#store.transact(transaction);
      if (made.committed) this.#assert(checked);
      const object = transaction.writes.find(({ key }) => key.startsWith('o'))?.key.slice(1);
      if (made.committed && object) recorded(object);
      return made;
    };
    const outcome = this.#call('transact', 'write', act, options, step);
    const over = coverage.begin(step, this.#host);
    outcome.then(over, over);
    return outcome;
  }

  /** What it throws is no answer to anybody, but the end. */
  #assert(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.#around.violated(error);
    }
  }

  async grantLease(ttlMs: number, options?: CallOptions): Promise<Lease> {
    const sentMs = this.#clock.monotonicMs();
    const id = await this.#call('grant', 'write', () => this.#store.grant(ttlMs), options);
    const calls = {
      renew: () => this.#call('renew', 'write', () => this.#store.renew(id)),
      revoke: () => this.#call('revoke', 'write', () => this.#store.endLease(id)),
    };
    const granted = { id, ttlMs, sentMs };
    return new KeptLease(granted, calls, this.#clock, this.#tasks, this.#closing.signal);
  }

  async *watch(
    range: KeyRange,
    fromRevision: number,
    options: CallOptions = {},
  ): AsyncGenerator<readonly WatchEvent[], never> {
    await this.#call('watch', 'read', () => undefined, options);
    if (this.#faults.forgets && fromRevision < this.#store.revision)
      throw new StorageError('compacted', 'changes are forgotten');
    for (let seen = fromRevision; ; ) {
      const { changed, revision } = this.#store;
      for (const events of this.#store.changesAfter(seen, range)) {
        await this.#call('event', 'read', () => undefined, options);
        yield events;
      }
      seen = Math.max(seen, revision);
      if (this.#store.revision > seen) continue;
      await untilAborted(changed, this.#closing.signal, options.signal);
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(new StorageError('closed', 'the registry is closed'));
    await this.#tasks.drained();
  }

  async #call<T>(
    label: string,
    what: 'read' | 'write',
    act: () => T,
    { signal }: CallOptions = {},
    step?: ProtocolStep,
  ): Promise<T> {
    this.#closing.signal.throwIfAborted();
    signal?.throwIfAborted();
    this.#process.assertAlive();
    return untilAborted(this.#travel(label, what, act, step), signal, this.#closing.signal);
  }

  #travel<T>(
    label: string,
    what: 'read' | 'write',
    act: () => T,
    step: ProtocolStep | undefined,
  ): Promise<T> {
    const { coverage } = this.#around;
    const process = this.#process;
    const { random, scheduler } = process;
    const { isAway, deafTo, unheardBy, trouble } = this.#faults;
    const fate = random.fraction();
    const away = () => new StorageError('unavailable', 'the registry is away');
    const unknown = () =>
      what === 'read' ? away() : new StorageError('unknown_outcome', 'the answer was lost');
    const giveUp = (error: StorageError) =>
      process.answer(patienceMs, `${label} lost`, () => {
        throw error;
      });
    const isRefused = isAway || deafTo.has(this.#host) || fate < trouble * 0.3;
    if (isRefused) coverage.met(step, 'registry away');
    if (isAway || deafTo.has(this.#host)) return giveUp(fate < 0.5 ? away() : unknown());
    if (isRefused)
      return process.answer(fate, `${label} refused`, () => {
        throw away();
      });
    return new Promise((resolve, reject) => {
      const isLate = fate < trouble * 0.5;
      const isLost = isLate || fate < trouble || unheardBy.has(this.#host);
      const travelMs = isLate ? patienceMs * 2 * random.fraction() : 0.1 + fate * 0.5;
      if (isLost) coverage.met(step, 'registry lost');
      // It happens at the registry, whatever becomes of who asked.
      scheduler.after(travelMs, `registry ${label}`, () => {
        const settle = settledBy(act, resolve, reject);
        if (!isLost) process.later(0.1 + fate * 0.5, label, settle);
      });
      if (isLost) process.later(patienceMs, `${label} lost`, () => reject(unknown()));
    });
  }
}

function settledBy<T>(act: () => T, resolve: (value: T) => void, reject: (error: Error) => void) {
  try {
    const value = act();
    return () => resolve(value);
  } catch (error) {
    return () => reject(error as Error);
  }
}
