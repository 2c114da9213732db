/**
 * Local files with explicit durability: only what was synced is sure to survive a power cut; what
 * was written survives the death of the process. Implementations: platform, and a memory disk with
 * crashes for tests. Paths are absolute.
 *
 * Errors: `not_found`, `exists`, `no_space` (ENOSPC, EDQUOT), `read_only`, `failed` (EIO and all
 * else), `busy` (a lock that another process holds).
 */

import type { Eventually } from '../core/eventually.ts';

export interface DiskFile {
  readonly path: string;

  /**
   * Fills `into` from `offset`, fewer bytes only at the end of the file. There at once when the
   * bytes are in memory, later when the device has to be asked.
   */
  read(offset: number, into: Uint8Array): Eventually<number>;

  /** Writes the parts one after another from `offset`, in full or not at all as seen by a return. */
  write(offset: number, parts: readonly Uint8Array[]): void;

  /** fdatasync(2). A rejection is final for this file: what it held unsynced is not trusted. */
  datasync(): Promise<void>;

  /** Reserves space so that later writes in the range can't fail for want of it; size follows. */
  allocate(offset: number, length: number): void;

  /** Gives the range's space back; it reads as zeroes. */
  punch(offset: number, length: number): void;

  truncate(bytes: number): void;

  size(): number;

  /** Idempotent; waits for reads in flight. */
  close(): Promise<void>;
}

export interface DiskLock {
  /** Idempotent. */
  release(): void;
}

export interface Disk {
  open(path: string, mode: 'existing' | 'create' | 'exclusive' | 'read'): DiskFile;
  /** Names in the folder, sorted; none where the folder is missing. */
  list(folder: string): readonly string[];
  /** With its parents. */
  makeFolder(folder: string): void;
  remove(path: string): void;
  /** A folder and all in it; none is no error. */
  removeFolder(folder: string): void;
  rename(from: string, to: string): void;
  /** fsync(2) of the folder: the names in it are durable. */
  syncFolder(folder: string): void;
  space(folder: string): { readonly totalBytes: number; readonly freeBytes: number };
  /** An exclusive lock that ends with the process; `holder` is what a refused one is told. */
  lock(path: string, holder: string): DiskLock;
}
