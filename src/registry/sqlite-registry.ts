/**
 * The registry of one machine: a SQLite file that several processes share. Transactions that are
 * asked for in one turn of the loop share one SQLite commit, each with an outcome of its own, so
 * that many small changes cost one fsync.
 */

import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type {
  Compare,
  KeyRange,
  KeyValue,
  Outcome,
  Registry,
  Transaction,
} from '../ports/registry.ts';

const schemaVersion = 1;
const busyTimeoutMs = 5000;

/** SQLite's primary result codes (sqlite.org/rescode.html) that mean something here. */
const codes: Readonly<Record<number, ConstructorParameters<typeof StorageError>[0]>> = {
  5: 'unavailable', // SQLITE_BUSY
  6: 'unavailable', // SQLITE_LOCKED
  8: 'read_only', // SQLITE_READONLY
  11: 'corrupt', // SQLITE_CORRUPT
  13: 'no_space', // SQLITE_FULL
  26: 'corrupt', // SQLITE_NOTADB
};

function translate(error: unknown): Error {
  const { errcode } = error as { errcode?: number };
  if (errcode === undefined) return error as Error;
  const code = codes[errcode & 0xff] ?? 'unavailable';
  return new StorageError(code, `registry: ${(error as Error).message}`, { cause: error });
}

interface Row {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly revision: number;
}

interface Pending {
  readonly transaction: Transaction;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: Error) => void;
}

const bytesOf = (key: string) => Buffer.from(key, 'latin1');
const textOf = (key: Uint8Array) => Buffer.from(key).toString('latin1');

export class SqliteRegistry implements Registry {
  readonly #database: DatabaseSync;
  readonly #get: StatementSync;
  readonly #range: StatementSync;
  readonly #put: StatementSync;
  readonly #delete: StatementSync;
  readonly #nextRevision: StatementSync;
  #pending: Pending[] = [];
  #isClosed = false;

  private constructor(database: DatabaseSync) {
    this.#database = database;
    this.#get = database.prepare('SELECT key, value, revision FROM entries WHERE key = ?');
    this.#range = database.prepare(
      'SELECT key, value, revision FROM entries WHERE key >= ? AND key < ? ORDER BY key LIMIT ?',
    );
    this.#put = database.prepare(
      'INSERT INTO entries (key, value, revision) VALUES (?, ?, ?) ' +
        'ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision',
    );
    this.#delete = database.prepare('DELETE FROM entries WHERE key = ?');
    this.#nextRevision = database.prepare(
      'UPDATE counters SET revision = revision + 1 RETURNING revision',
    );
  }

  /** Makes the file where it is missing. Throws `corrupt` on a file that is something else. */
  static open(path: string): SqliteRegistry {
    try {
      mkdirSync(dirname(path), { recursive: true });
      const database = new DatabaseSync(path);
      database.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
      createSchema(database, path);
      return new SqliteRegistry(database);
    } catch (error) {
      throw translate(error);
    }
  }

  async get(key: string): Promise<KeyValue | undefined> {
    this.#assertOpen();
    const row = this.#attempt(() => this.#get.get(bytesOf(key))) as Row | undefined;
    return row && toKeyValue(row);
  }

  async range({ from, to }: KeyRange, options: { readonly limit?: number } = {}) {
    this.#assertOpen();
    const end = to.charCodeAt(0) > 0xff ? Buffer.alloc(0x200, 0xff) : bytesOf(to);
    const rows = this.#attempt(() => this.#range.all(bytesOf(from), end, options.limit ?? -1));
    return (rows as unknown as Row[]).map(toKeyValue);
  }

  transact(transaction: Transaction): Promise<Outcome> {
    this.#assertOpen();
    for (const write of transaction.writes)
      if ('put' in write && write.put.length > limits.registryValueBytesMax)
        return Promise.reject(new StorageError('too_large', 'a registry value is too large'));
    return new Promise((resolve, reject) => {
      this.#pending.push({ transaction, resolve, reject });
      if (this.#pending.length === 1) setImmediate(() => this.#commitPending());
    });
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#commitPending();
    this.#isClosed = true;
    this.#database.close();
  }

  /** All that is waiting, in one SQLite transaction. */
  #commitPending(): void {
    const batch = this.#pending;
    this.#pending = [];
    if (batch.length === 0 || this.#isClosed) return;
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      const outcomes = batch.map(({ transaction }) => this.#apply(transaction));
      this.#database.exec('COMMIT');
      batch.forEach(({ resolve }, index) => resolve(outcomes[index] as Outcome));
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      for (const { reject } of batch) reject(translate(error));
    }
  }

  #apply({ compares, writes }: Transaction): Outcome {
    if (!compares.every((compare) => this.#holds(compare))) return { committed: false };
    const { revision } = this.#nextRevision.get() as { revision: number };
    for (const write of writes) {
      if ('put' in write) this.#put.run(bytesOf(write.key), write.put, revision);
      else this.#delete.run(bytesOf(write.key));
    }
    return { committed: true, revision };
  }

  #holds(compare: Compare): boolean {
    const row = this.#get.get(bytesOf(compare.key)) as Row | undefined;
    if (compare.is === 'at') return row?.revision === compare.revision;
    return (row === undefined) === (compare.is === 'absent');
  }

  #attempt<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw translate(error);
    }
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new StorageError('closed', 'the registry is closed');
  }
}

function createSchema(database: DatabaseSync, path: string): void {
  const { user_version: found } = database.prepare('PRAGMA user_version').get() as {
    user_version: number;
  };
  if (found > schemaVersion)
    throw new StorageError(
      'unsupported',
      `registry ${path} has version ${found}; this Wharf knows up to ${schemaVersion}`,
    );
  if (found === schemaVersion) return;
  database.exec(`
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS entries (
      key BLOB PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS counters (revision INTEGER NOT NULL);
    INSERT INTO counters SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counters);
    PRAGMA user_version = ${schemaVersion};
    COMMIT;
  `);
}

function toKeyValue(row: Row): KeyValue {
  return { key: textOf(row.key), value: row.value, revision: row.revision };
}
