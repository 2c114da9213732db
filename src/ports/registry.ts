/**
 * The strongly consistent store of namespace, objects, owners and hosts. Linearizable.
 * Implementations: etcd (many hosts), SQLite (several processes of one machine), memory; the
 * decorator `withRetry` waits for one in trouble. The contract is test/conformance/registry.ts.
 *
 * Keys are byte strings held in latin1 strings (one character a byte) and compare bytewise, as
 * such strings do in JavaScript. Values are bytes. Each transaction that changes something has a
 * revision, larger than that of the one before it; one that changes nothing has the revision of the
 * moment.
 *
 * Every call has a deadline inside, and rejects with the reason of its signal once that has fired;
 * what was sent may still take effect then.
 *
 * Errors: `unavailable` (it surely did not happen), `unknown_outcome` (a transaction whose answer
 * was lost: it may have happened, or may yet), `no_space`, `too_large`, `invalid`, `fenced` (a write
 * names a lease that has ended, or another process has taken this one's place), `compacted` (a
 * watch), `closed`.
 */

import type { LeaseId } from '../core/units.ts';
import type { CallOptions } from './blob-store.ts';

export interface KeyValue {
  readonly key: string;
  readonly value: Uint8Array;
  /** Revision of the transaction that wrote this value. */
  readonly revision: number;
}

export type Compare =
  | { readonly key: string; readonly is: 'absent' | 'present' }
  | { readonly key: string; readonly is: 'at'; readonly revision: number };

export type Write =
  /** With a lease, the key is deleted when that ends; a later put without it keeps the key. */
  | { readonly key: string; readonly put: Uint8Array; readonly lease?: LeaseId }
  | { readonly key: string; readonly delete: true };

/**
 * At most `limits.registryOperationsMax` compares and as many writes; `withRetry` needs one of each
 * for itself.
 */
export interface Transaction {
  /** All must hold, or nothing is written. */
  readonly compares: readonly Compare[];
  /** At most one write per key. */
  readonly writes: readonly Write[];
}

export type Outcome =
  | { readonly committed: true; readonly revision: number }
  | { readonly committed: false };

/** Keys with `from <= key < to`. */
export interface KeyRange {
  readonly from: string;
  readonly to: string;
}

export interface RangeResult {
  readonly entries: readonly KeyValue[];
  /** The moment at which this was true: a watch from here on misses nothing. */
  readonly revision: number;
}

export interface WatchEvent {
  readonly key: string;
  readonly revision: number;
  /** Undefined: the key was deleted. */
  readonly value: Uint8Array | undefined;
}

/**
 * The registry keeps a lease until its time is over, and each renewal starts the time anew; whoever
 * got the lease has it renewed until it is released or the registry is closed. Closing releases
 * nothing: the lease runs out, as it does when the process dies.
 */
export interface Lease {
  readonly id: LeaseId;
  /** May be more than was asked for. */
  readonly ttlMs: number;
  /** Fires when the lease is known to be lost; a holder that was asleep learns it late. */
  readonly signal: AbortSignal;
  /**
   * Until this moment of the clock's monotonic time the registry surely keeps the lease: when the
   * last renewal that succeeded was sent, and `ttlMs`. A holder acts only while this, less a
   * margin of its own, lies ahead. It may lie behind for a while, without the lease being lost,
   * when the registry does not answer.
   */
  validUntilMs(): number;
  /** Ends the lease now: its keys go at once. Idempotent; fires the signal. */
  release(options?: CallOptions): Promise<void>;
}

export interface Registry {
  get(key: string, options?: CallOptions): Promise<KeyValue | undefined>;

  /** Up to `limit` keys of the range in ascending order, all of one moment. */
  range(range: KeyRange, options?: CallOptions & { readonly limit?: number }): Promise<RangeResult>;

  transact(transaction: Transaction, options?: CallOptions): Promise<Outcome>;

  grantLease(ttlMs: number, options?: CallOptions): Promise<Lease>;

  /**
   * All changes of the range behind `fromRevision`, in order, none lost, none twice; those of one
   * transaction come together. Ends by an error alone: the signal's reason; `compacted` where the
   * registry has forgotten changes that are still to come: range and watch anew; `unavailable`:
   * watch again from the last revision seen, as `withRetry` does.
   */
  watch(
    range: KeyRange,
    fromRevision: number,
    options?: CallOptions,
  ): AsyncIterable<readonly WatchEvent[]>;

  close(): Promise<void>;
}

/** The range of all keys that start with `prefix`. */
export function prefixRange(prefix: string): KeyRange {
  let end = prefix.length;
  while (end > 0 && prefix.charCodeAt(end - 1) === 0xff) end -= 1;
  const last = prefix.charCodeAt(end - 1);
  const to = end === 0 ? '\u0100' : prefix.slice(0, end - 1) + String.fromCharCode(last + 1);
  return { from: prefix, to };
}
