/**
 * The registry as one process reaches it: over a network that delays, cuts, and loses answers before
 * and after the transaction has happened, or brings it late. The store itself is linearizable.
 */

import { StorageError } from '../../src/core/errors.ts';
import type { Checksum } from '../../src/ports/checksum.ts';
import type { Clock } from '../../src/ports/clock.ts';
import type { Outcome, Registry, Transaction } from '../../src/ports/registry.ts';
import type { Call } from '../../src/registry/memory-registry.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import type { MemoryStore } from '../../src/registry/memory-store.ts';
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
  /** It forgets what has changed whenever a watch begins. */
  forgets: boolean;
  /** Hosts whose next transaction comes when they don't wait for it any more. */
  readonly lateFrom: Set<string>;
  /** Milliseconds that its answers, and what it tells of changes, may take longer. */
  slowMs: number;
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

const reads: ReadonlySet<Call> = new Set(['get', 'range', 'watch', 'event']);

export function simRegistry(
  process: SimProcess,
  { host, clock }: { readonly host: string; readonly clock: Clock },
  around: RegistryAround,
): Registry {
  const way = new Way(process, host, around);
  return new MemoryRegistry(clock, around.registry, (call, act, transaction) =>
    way.carry(call, act, transaction),
  );
}

/** How calls come to the registry, and what is looked at there. */
class Way {
  readonly #process: SimProcess;
  readonly #host: string;
  readonly #around: RegistryAround;

  constructor(process: SimProcess, host: string, around: RegistryAround) {
    this.#process = process;
    this.#host = host;
    this.#around = around;
  }

  async carry<T>(call: Call, act: () => T, transaction?: Transaction): Promise<T> {
    this.#process.assertAlive();
    const { registry, registryFaults, coverage, checksum } = this.#around;
    if (transaction) {
      const step = stepOfTransaction(this.#host, transaction, registry, checksum);
      const over = coverage.begin(step, this.#host);
      const made = this.#travel(call, () => this.#watched(act, transaction), step);
      made.then(over, over);
      return made;
    }
    if (call !== 'watch') return this.#travel(call, act);
    return this.#travel(call, () => {
      if (registryFaults.forgets) registry.forget();
      return act();
    });
  }

  #watched<T>(act: () => T, transaction: Transaction): T {
    const { recorded, rules } = this.#around;
    const check = rules.transaction(this.#host, transaction);
    const made = act();
    if (!(made as Outcome).committed) return made;
    this.#assert(check);
    const object = transaction.writes.find(({ key }) => key.startsWith('o'))?.key.slice(1);
    if (object) recorded(object);
    return made;
  }

  /** What it throws is no answer to anybody, but the end. */
  #assert(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.#around.violated(error);
    }
  }

  #travel<T>(label: Call, act: () => T, step?: ProtocolStep): Promise<T> {
    const { coverage, registryFaults } = this.#around;
    const process = this.#process;
    const { random, scheduler } = process;
    const { isAway, deafTo, unheardBy, trouble, slowMs } = registryFaults;
    const fate = random.fraction();
    const away = () => new StorageError('unavailable', 'the registry is away');
    const unknown = () =>
      reads.has(label) ? away() : new StorageError('unknown_outcome', 'the answer was lost');
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
      const isVeryLate = label === 'transact' && registryFaults.lateFrom.delete(this.#host);
      const isLate = isVeryLate || fate < trouble * 0.5;
      const backMs = 0.1 + fate * 0.5 + (slowMs > 0 ? random.fraction() ** 3 * slowMs : 0);
      const isLost = isLate || fate < trouble || unheardBy.has(this.#host) || backMs > patienceMs;
      const afterMs = isVeryLate ? patienceMs : 0;
      const travelMs = isLate ? afterMs + patienceMs * 2 * random.fraction() : 0.1 + fate * 0.5;
      if (isLost) coverage.met(step, 'registry lost');
      // It happens at the registry, whatever becomes of who asked.
      scheduler.after(travelMs, `registry ${label}`, () => {
        const settle = settledBy(act, resolve, reject);
        if (!isLost) process.later(backMs, label, settle);
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
