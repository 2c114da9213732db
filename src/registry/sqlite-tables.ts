/**
 * The tables of a SQLite registry, as synchronous steps; whoever calls them holds a transaction.
 *
 *   entries   key, value, revision, lease or null
 *   leases    id, ttl and end on the machine's boot-time clock
 *   changes   what the last revisions changed, for watches; value null: deleted
 *   counters  one row: revision; compacted, up to which changes are forgotten; the boot id
 */

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { StorageError } from '../core/errors.ts';
import { MiB } from '../core/units.ts';
import type {
  Compare,
  KeyRange,
  KeyValue,
  Outcome,
  Transaction,
  WatchEvent,
  Write,
} from '../ports/registry.ts';

/** Changes are forgotten in bulk, once so many revisions are new. */
const compactionInterval = 256;
const changeRevisionsMax = 2048;
const changeBytesMax = 16 * MiB;

interface Row {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly revision: number;
  /** Of its lease. */
  readonly expires_ms: number | null;
}

interface ChangeRow {
  readonly key: Uint8Array;
  readonly value: Uint8Array | null;
  readonly revision: number;
}

const bytesOf = (key: string) => Buffer.from(key, 'latin1');
const textOf = (key: Uint8Array) => Buffer.from(key).toString('latin1');
/** No key reaches this. */
const endOf = (to: string) => (to.charCodeAt(0) > 0xff ? Buffer.alloc(0x1000, 0xff) : bytesOf(to));

function prepareAll(database: DatabaseSync) {
  const select =
    'SELECT key, value, revision, expires_ms FROM entries LEFT JOIN leases ON id = lease WHERE key';
  const sql = {
    get: `${select} = ?`,
    range: `${select} >= ? AND key < ? ORDER BY key LIMIT ?`,
    put:
      'INSERT INTO entries (key, value, revision, lease) VALUES (?, ?, ?, ?) ON CONFLICT (key) ' +
      'DO UPDATE SET value = excluded.value, revision = excluded.revision, lease = excluded.lease',
    delete: 'DELETE FROM entries WHERE key = ?',
    counters: 'SELECT revision, compacted FROM counters',
    setRevision: 'UPDATE counters SET revision = ?',
    note: 'INSERT INTO changes (revision, key, value) VALUES (?, ?, ?)',
    changes:
      'SELECT key, value, revision FROM changes ' +
      'WHERE revision > ? AND revision <= ? AND key >= ? AND key < ? ORDER BY revision',
    oversized:
      'SELECT MAX(revision) AS revision FROM (SELECT revision, SUM(length(key) + ' +
      'ifnull(length(value), 0)) OVER (ORDER BY revision DESC) AS bytes FROM changes) ' +
      'WHERE bytes > ?',
    forget: 'DELETE FROM changes WHERE revision <= ?',
    setCompacted: 'UPDATE counters SET compacted = ?1 WHERE compacted < ?1',
    grant: 'INSERT INTO leases (ttl_ms, expires_ms) VALUES (?, ?)',
    renew: 'UPDATE leases SET expires_ms = ttl_ms + ? WHERE id = ?',
    leaseById: 'SELECT id FROM leases WHERE id = ?',
    expired: 'SELECT id FROM leases WHERE expires_ms <= ?',
    endLease: 'DELETE FROM leases WHERE id = ?',
    keysOfLease: 'SELECT key FROM entries WHERE lease = ?',
    dataVersion: 'PRAGMA data_version',
  } as const;
  const prepared = Object.entries(sql).map(([name, text]) => [name, database.prepare(text)]);
  return Object.fromEntries(prepared) as Record<keyof typeof sql, StatementSync>;
}

export class SqliteTables {
  readonly #statements: ReturnType<typeof prepareAll>;
  #compactedAt = 0;

  constructor(database: DatabaseSync) {
    this.#statements = prepareAll(database);
  }

  counters(): { revision: number; compacted: number } {
    return this.#statements.counters.get() as { revision: number; compacted: number };
  }

  /** Grows whenever another connection has committed. */
  dataVersion(): unknown {
    return this.#statements.dataVersion.get()?.['data_version'];
  }

  /** `expired`: its lease has run out, the key has yet to go. */
  get(key: string, nowMs: number): KeyValue | 'expired' | undefined {
    const row = this.#statements.get.get(bytesOf(key)) as Row | undefined;
    return row && (hasExpired(row, nowMs) ? 'expired' : toKeyValue(row));
  }

  range({ from, to }: KeyRange, limit: number, nowMs: number): KeyValue[] | 'expired' {
    const rows = this.#statements.range.all(bytesOf(from), endOf(to), limit) as unknown as Row[];
    return rows.some((row) => hasExpired(row, nowMs)) ? 'expired' : rows.map(toKeyValue);
  }

  /** `fenced` where a lease has ended; nothing is written then. */
  apply({ compares, writes }: Transaction): Outcome {
    if (!compares.every((compare) => this.#holds(compare))) return { committed: false };
    for (const write of writes)
      if ('lease' in write && write.lease !== undefined && !this.#hasLease(write.lease))
        throw new StorageError('fenced', `lease ${write.lease} has ended`);
    return { committed: true, revision: this.#write(writes) };
  }

  grant(ttlMs: number, nowMs: number): string {
    return String(this.#statements.grant.run(ttlMs, nowMs + ttlMs).lastInsertRowid);
  }

  renew(id: string, nowMs: number): 'renewed' | 'lost' {
    return this.#statements.renew.run(nowMs, Number(id)).changes === 0 ? 'lost' : 'renewed';
  }

  endLease(id: string | number): void {
    this.#statements.endLease.run(Number(id));
    const found = this.#statements.keysOfLease.all(Number(id)) as unknown as Pick<Row, 'key'>[];
    this.#write(found.map(({ key }) => ({ key: textOf(key), delete: true })));
  }

  hasExpiredLeases(nowMs: number): boolean {
    return this.#statements.expired.get(nowMs) !== undefined;
  }

  endExpiredLeases(nowMs: number): void {
    const found = this.#statements.expired.all(nowMs) as unknown as { id: number }[];
    for (const { id } of found) this.endLease(id);
  }

  /** By transaction. */
  changes(behind: number, until: number, { from, to }: KeyRange): WatchEvent[][] {
    const bounds = [bytesOf(from), endOf(to)] as const;
    const rows = this.#statements.changes.all(behind, until, ...bounds) as unknown as ChangeRow[];
    const transactions: WatchEvent[][] = [];
    for (const { key, value, revision } of rows) {
      const event = { key: textOf(key), value: value ?? undefined, revision };
      const last = transactions.at(-1);
      if (last?.[0]?.revision === revision) last.push(event);
      else transactions.push([event]);
    }
    return transactions;
  }

  /** Forgets old changes now and then. */
  compact(): void {
    const { revision } = this.counters();
    if (revision - this.#compactedAt < compactionInterval) return;
    this.#compactedAt = revision;
    const found = this.#statements.oversized.get(changeBytesMax) as { revision: number | null };
    const until = Math.max(revision - changeRevisionsMax, found.revision ?? 0);
    if (until <= 0) return;
    this.#statements.forget.run(until);
    this.#statements.setCompacted.run(until);
  }

  /** The revision of the writes, or of the moment where they change nothing. */
  #write(writes: readonly Write[]): number {
    const { put, delete: remove, note, setRevision } = this.#statements;
    const { revision } = this.counters();
    const next = revision + 1;
    let changed = false;
    for (const write of writes) {
      const key = bytesOf(write.key);
      if ('put' in write) put.run(key, write.put, next, write.lease ? Number(write.lease) : null);
      else if (remove.run(key).changes === 0) continue;
      note.run(next, key, 'put' in write ? write.put : null);
      changed = true;
    }
    if (!changed) return revision;
    setRevision.run(next);
    return next;
  }

  #holds(compare: Compare): boolean {
    const row = this.#statements.get.get(bytesOf(compare.key)) as Row | undefined;
    if (compare.is === 'at') return row?.revision === compare.revision;
    return (row === undefined) === (compare.is === 'absent');
  }

  #hasLease(id: string): boolean {
    return this.#statements.leaseById.get(Number(id)) !== undefined;
  }
}

function hasExpired({ expires_ms: expiresMs }: Row, nowMs: number): boolean {
  return expiresMs !== null && expiresMs <= nowMs;
}

function toKeyValue({ key, value, revision }: Row): KeyValue {
  return { key: textOf(key), value, revision };
}
