/**
 * The strongly consistent store of namespace, objects, owners and hosts. Linearizable.
 * Implementations: SQLite (several processes of one machine), memory. Leases, watches and etcd come
 * with many hosts.
 *
 * Keys are byte strings held in latin1 strings (one character a byte) and compare bytewise, as
 * such strings do in JavaScript. Values are bytes. Each committed transaction has a revision, one
 * larger than the one before it at least.
 *
 * Errors: `unavailable`, `unknown_outcome` (a transaction whose answer was lost), `too_large`,
 * `closed`.
 */

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
  | { readonly key: string; readonly put: Uint8Array }
  | { readonly key: string; readonly delete: true };

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

export interface Registry {
  get(key: string, options?: CallOptions): Promise<KeyValue | undefined>;

  /** Up to `limit` keys of the range in ascending order, all of one moment. */
  range(
    range: KeyRange,
    options?: CallOptions & { readonly limit?: number },
  ): Promise<readonly KeyValue[]>;

  transact(transaction: Transaction, options?: CallOptions): Promise<Outcome>;

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
