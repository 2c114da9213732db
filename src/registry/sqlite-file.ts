/** The file of a SQLite registry: opened, made, brought to this version; and what its errors mean. */

import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { ErrorCode } from '../core/errors.ts';
import { StorageError } from '../core/errors.ts';

const schemaVersion = 2;
/** At start somebody else may be making the file. */
const openTimeoutMs = 5000;
/** SQLite waits with the event loop standing still; who needs longer tries again. */
const busyTimeoutMs = 20;

const busyCode = 5;

/** SQLite's primary result codes (sqlite.org/rescode.html) that mean something here. */
const codes: Readonly<Record<number, ErrorCode>> = {
  5: 'unavailable', // SQLITE_BUSY
  6: 'unavailable', // SQLITE_LOCKED
  8: 'read_only', // SQLITE_READONLY
  11: 'corrupt', // SQLITE_CORRUPT
  13: 'no_space', // SQLITE_FULL
  26: 'corrupt', // SQLITE_NOTADB
};

/** `otherwise`: what any trouble means that is not named above, such as an I/O error. */
export function translate(error: unknown, otherwise: ErrorCode = 'unavailable'): Error {
  const { errcode } = error as { errcode?: number };
  if (errcode === undefined) return error as Error;
  const code = codes[errcode & 0xff] ?? otherwise;
  return new StorageError(code, `registry: ${(error as Error).message}`, { cause: error });
}

/**
 * Makes the file where it is missing. `bootId` names the run of the kernel whose boot time the
 * leases count in: those of an earlier one have all run out. Throws `corrupt` on a file that is
 * something else, `unsupported` on one of a newer version.
 */
export function openFile(path: string, bootId: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    mkdirSync(dirname(path), { recursive: true });
    database = new DatabaseSync(path);
    enterWal(database);
    database.exec(`PRAGMA busy_timeout = ${openTimeoutMs}; PRAGMA synchronous = FULL`);
    prepare(database, path, bootId);
    database.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
    return database;
  } catch (error) {
    database?.close();
    throw translate(error);
  }
}

/** SQLite does not wait by itself for another process that is about to do the same. */
function enterWal(database: DatabaseSync): void {
  const still = new Int32Array(new SharedArrayBuffer(4));
  for (let waitedMs = 0; ; waitedMs += busyTimeoutMs)
    try {
      database.exec('PRAGMA journal_mode = WAL');
      return;
    } catch (error) {
      const { errcode } = error as { errcode?: number };
      if (errcode !== busyCode || waitedMs >= openTimeoutMs) throw error;
      Atomics.wait(still, 0, 0, busyTimeoutMs);
    }
}

function prepare(database: DatabaseSync, path: string, bootId: string): void {
  const number = (sql: string) => Object.values(database.prepare(sql).get() ?? {})[0] as number;
  database.exec('BEGIN IMMEDIATE');
  const found = number('PRAGMA user_version');
  if (found > schemaVersion)
    throw new StorageError(
      'unsupported',
      `registry ${path} has version ${found}; this Wharf knows up to ${schemaVersion}`,
    );
  if (found < 1) database.exec(firstSchema);
  if (found < 2) database.exec(leasesAndChanges);
  database
    .prepare('UPDATE leases SET expires_ms = -1 WHERE (SELECT boot_id FROM counters) <> ?')
    .run(bootId);
  database.prepare('UPDATE counters SET boot_id = ?1 WHERE boot_id <> ?1').run(bootId);
  database.exec(`PRAGMA user_version = ${schemaVersion}; COMMIT`);
}

const firstSchema = `
  CREATE TABLE entries (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE TABLE counters (revision INTEGER NOT NULL);
  INSERT INTO counters (revision) VALUES (0);
`;

/** Of what was changed before, nothing can be told. */
const leasesAndChanges = `
  ALTER TABLE entries ADD COLUMN lease INTEGER;
  CREATE INDEX entries_by_lease ON entries (lease) WHERE lease IS NOT NULL;
  CREATE TABLE leases (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ttl_ms REAL NOT NULL, expires_ms REAL NOT NULL
  );
  CREATE TABLE changes (
    revision INTEGER NOT NULL, key BLOB NOT NULL, value BLOB, PRIMARY KEY (revision, key)
  ) WITHOUT ROWID;
  ALTER TABLE counters ADD COLUMN compacted INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE counters ADD COLUMN boot_id TEXT NOT NULL DEFAULT '';
  UPDATE counters SET compacted = revision;
`;
