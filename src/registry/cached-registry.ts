/**
 * Reads of some keys from memory, kept right by watches. Every change stays a transaction that
 * compares revisions, so a value that is out of date costs an attempt: what was compared in vain is
 * forgotten, and read anew.
 *
 *   bypassed   all reads go to the registry; nothing is kept
 *   live       watches tell of all changes since the cache was empty, and the host's lease is
 *              fresh, which says that the registry was heard of lately
 *
 * A watch that breaks, or a lease that is not fresh for a moment, empties the cache, even where the
 * watch would go on: how long the news have been late is not known.
 */

import { describeError, isStorageError, StorageError } from '../core/errors.ts';
import { LRUCache } from '../core/lru-cache.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { CallOptions } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
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
import { prefixRange } from '../ports/registry.ts';
import { KeyCache } from './key-cache.ts';

const pauseMs = 50;
/** Own changes whose echo has not come yet. */
const echoesMax = 10_000;

/** A change that another process made. */
export interface ForeignChange {
  readonly key: string;
  /** Undefined: deleted. */
  readonly value: Uint8Array | undefined;
  /** What was known of it before. */
  readonly before: Uint8Array | undefined;
}

export interface CacheDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** The host's lease is fresh until then, on the clock's monotonic time. */
  readonly freshUntilMs: () => number;
}

export interface CacheLayout {
  /** What is watched. */
  readonly prefixes: readonly string[];
  /** The keys that are read together with this one, as a prefix; undefined: not kept. */
  readonly groupOf: (key: string) => string | undefined;
  readonly groupsMax: number;
}

/** A transaction that is under way, and changes of its keys that may be its own. */
interface Flight {
  readonly keys: ReadonlySet<string>;
  readonly held: Map<string, Told>;
}

interface Told extends ForeignChange {
  readonly revision: number;
}

type RangeOptions = CallOptions & { readonly limit?: number };

export class CachedRegistry implements Registry {
  /** The same, but its reads are of now. They fill the cache. */
  readonly fresh: Registry;
  readonly #inner: Registry;
  readonly #deps: CacheDeps;
  readonly #layout: CacheLayout;
  readonly #cache: KeyCache;
  readonly #closing = new AbortController();
  readonly #tasks: TaskGroup;
  readonly #flights = new Set<Flight>();
  readonly #echoes = new LRUCache<string, true>({ max: echoesMax });
  readonly #listeners: ((change: ForeignChange) => void)[] = [];
  /** Of the watches that stand; aborted when they are not trusted any more. */
  #live: AbortController | undefined;
  #trustedUntilMs = 0;
  /** The watches tell what came behind this revision. */
  #liveSince = 0;

  constructor(inner: Registry, deps: CacheDeps, layout: CacheLayout) {
    this.#inner = inner;
    this.#deps = deps;
    this.#layout = layout;
    this.#cache = new KeyCache(layout.groupOf, layout.groupsMax);
    this.#tasks = new TaskGroup((error) => {
      deps.log.error({ error: describeError(error) }, 'names are no longer kept in memory');
    });
    this.#tasks.run(() => this.#keepWatching());
    this.fresh = {
      get: (key, options) => this.#readKey(key, options),
      range: (range, options) => this.#readRange(range, options),
      transact: (transaction, options) => this.transact(transaction, options),
      grantLease: (ttlMs, options) => inner.grantLease(ttlMs, options),
      watch: (range, from, options) => inner.watch(range, from, options),
      close: () => this.close(),
    };
  }

  /** Told of every change that others make while it is live, except of what it never knew. */
  onForeignChange(listener: (change: ForeignChange) => void): void {
    this.#listeners.push(listener);
  }

  /** Whether reads are answered from memory, and changes of others told. */
  isLive(): boolean {
    if (!this.#live) return false;
    const nowMs = this.#deps.clock.monotonicMs();
    if (nowMs >= this.#trustedUntilMs) {
      this.#bypass(new StorageError('unavailable', 'the lease was not fresh'));
      return false;
    }
    this.#trustedUntilMs = Math.max(this.#trustedUntilMs, this.#deps.freshUntilMs());
    return true;
  }

  get groupCount(): number {
    return this.#cache.size;
  }

  async get(key: string, options?: CallOptions): Promise<KeyValue | undefined> {
    const known = this.isLive() && this.#layout.groupOf(key) === key && this.#cache.find(key);
    return known ? known[0] : this.#readKey(key, options);
  }

  async range(range: KeyRange, options: RangeOptions = {}): Promise<RangeResult> {
    const entries = this.#isGroup(range, options) && this.isLive() && this.#cache.find(range.from);
    // The revision of nothing in particular: whoever watches from a range asks for more than a group.
    if (entries) return { entries, revision: Math.max(0, ...entries.map((one) => one.revision)) };
    return this.#readRange(range, options);
  }

  async transact(transaction: Transaction, options?: CallOptions): Promise<Outcome> {
    const written = transaction.writes.map(({ key }) => key).filter(this.#isKept);
    const flight: Flight = { keys: new Set(written), held: new Map() };
    this.#flights.add(flight);
    let outcome: Outcome;
    try {
      outcome = await this.#inner.transact(transaction, options);
    } catch (error) {
      for (const key of written) this.#cache.forget(key);
      this.#land(flight);
      throw error;
    }
    if (outcome.committed) this.#takeOwn(transaction, outcome.revision, flight);
    else for (const { key } of transaction.compares) this.#cache.forget(key);
    this.#land(flight);
    return outcome;
  }

  grantLease(ttlMs: number, options?: CallOptions): Promise<Lease> {
    return this.#inner.grantLease(ttlMs, options);
  }

  watch(
    range: KeyRange,
    fromRevision: number,
    options?: CallOptions,
  ): AsyncIterable<readonly WatchEvent[]> {
    return this.#inner.watch(range, fromRevision, options);
  }

  /** Ends its own watches; the registry below stays open. */
  async close(): Promise<void> {
    this.#closing.abort(new StorageError('closed', 'the cache is closed'));
    this.#bypass(this.#closing.signal.reason);
    await this.#tasks.drained();
  }

  readonly #isKept = (key: string) => this.#layout.groupOf(key) !== undefined;

  #isGroup({ from }: KeyRange, { limit }: RangeOptions): boolean {
    return limit === undefined && this.#layout.groupOf(from) === from;
  }

  async #readKey(key: string, options?: CallOptions): Promise<KeyValue | undefined> {
    if (this.#layout.groupOf(key) !== key || !this.isLive()) return this.#inner.get(key, options);
    // As a range, which tells its revision also where there is nothing.
    const { entries } = await this.#readGroup({ from: key, to: `${key}\0` }, options);
    return entries[0];
  }

  async #readRange(range: KeyRange, options: RangeOptions = {}): Promise<RangeResult> {
    if (!this.isLive()) return this.#inner.range(range, options);
    if (this.#isGroup(range, options)) return this.#readGroup(range, options);
    const result = await this.#inner.range(range, options);
    if (this.isLive()) this.#cache.note(result.entries);
    return result;
  }

  async #readGroup(range: KeyRange, options?: CallOptions): Promise<RangeResult> {
    const reading = this.#cache.beginRead(range.from);
    let result: RangeResult | undefined;
    try {
      result = await this.#inner.range(range, options);
      return result;
    } finally {
      this.#cache.endRead(reading, result);
    }
  }

  #takeOwn({ writes }: Transaction, revision: number, { held }: Flight): void {
    if (!this.isLive() || revision <= this.#liveSince) return;
    for (const write of writes) {
      const { key } = write;
      if (!this.#isKept(key)) continue;
      // Not the caller's memory, which it may use again.
      const value = 'put' in write ? Uint8Array.from(write.put) : undefined;
      this.#cache.apply({ key, revision, value }, 'own');
      if (held.get(key)?.revision === revision) held.delete(key);
      else this.#echoes.set(echoOf(key, revision), true);
    }
  }

  /** What was held back for a transaction, and was not its own, is told now. */
  #land(flight: Flight): void {
    this.#flights.delete(flight);
    for (const change of flight.held.values()) this.#judge(change);
  }

  /** Own changes are told to nobody; a change that may be one's own waits until that is known. */
  #judge(change: Told): void {
    if (this.#echoes.delete(echoOf(change.key, change.revision))) return;
    for (const { keys, held } of this.#flights)
      if (keys.has(change.key)) {
        const earlier = held.get(change.key);
        held.set(change.key, earlier ? { ...change, before: earlier.before } : change);
        return;
      }
    for (const listener of this.#listeners) listener(change);
  }

  async #keepWatching(): Promise<void> {
    const { clock, log } = this.#deps;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        await this.#watchOnce();
      } catch (error) {
        this.#bypass(error);
        if (signal.aborted) return;
        if (!isStorageError(error, 'unavailable') && !isStorageError(error, 'compacted'))
          log.warn({ error: describeError(error) }, 'watch of names broke');
      }
      await clock.sleep(pauseMs, { signal }).catch(() => {});
    }
  }

  /** Goes live, and stays so until a watch breaks or the lease was not fresh for a moment. */
  async #watchOnce(): Promise<void> {
    const { clock, freshUntilMs } = this.#deps;
    const { signal: closing } = this.#closing;
    if (freshUntilMs() <= clock.monotonicMs()) return;
    const [prefix = ''] = this.#layout.prefixes;
    const look = { limit: 1, signal: closing };
    const { revision } = await this.#inner.range(prefixRange(prefix), look);
    const live = new AbortController();
    const signal = AbortSignal.any([live.signal, closing]);
    this.#trustedUntilMs = freshUntilMs();
    this.#liveSince = revision;
    this.#live = live;
    const watches = this.#layout.prefixes.map((watched) =>
      this.#follow(prefixRange(watched), revision, signal),
    );
    await Promise.all([...watches, this.#keepTrust(signal)]).finally(() => live.abort());
  }

  async #follow(range: KeyRange, revision: number, signal: AbortSignal): Promise<void> {
    for await (const events of this.#inner.watch(range, revision, { signal }))
      for (const change of events) {
        if (signal.aborted) return;
        if (!this.#isKept(change.key)) continue;
        const before = this.#cache.lastValue(change.key);
        this.#cache.apply(change, 'watched');
        this.#judge({ ...change, before });
      }
  }

  /** Looks often enough to see every moment at which the lease was not fresh. */
  async #keepTrust(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    while (this.isLive())
      await clock.sleep(Math.max(1, (this.#trustedUntilMs - clock.monotonicMs()) / 2), { signal });
  }

  #bypass(why: unknown): void {
    if (!this.#live) return;
    this.#live.abort(why);
    this.#live = undefined;
    this.#cache.clear();
    this.#echoes.clear();
    for (const { held } of this.#flights) held.clear();
  }
}

const echoOf = (key: string, revision: number) => `${revision} ${key}`;
