/**
 * The SSD of a host as those have it who keep promises on it. The first failure is told in the log and
 * kept until the process ends, and which folders have met one is remembered: of what the page cache says
 * to be in their files, nobody knows whether the device has it. Want of space is no failure.
 */

import { dirname } from 'node:path';
import { describeError, isStorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import type { Disk, DiskFile, DiskLock } from '../ports/disk.ts';
import type { Log } from '../ports/log.ts';

export class WatchedDisk implements Disk {
  readonly #inner: Disk;
  readonly #log: Log;
  readonly #failed = new Set<string>();
  #failure: string | undefined;

  constructor(inner: Disk, log: Log) {
    this.#inner = inner;
    this.#log = log;
  }

  /** What failed first, and where. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Whether a file in the folder, or the folder itself, has met a failure. */
  hasFailed(folder: string): boolean {
    return this.#failed.has(folder);
  }

  open(path: string, mode: 'existing' | 'create' | 'exclusive' | 'read'): DiskFile {
    const file = this.#inner.open(path, mode);
    return mode === 'read' ? file : new WatchedFile(file, this);
  }

  list(folder: string): readonly string[] {
    return this.#inner.list(folder);
  }

  makeFolder(folder: string): void {
    this.#inner.makeFolder(folder);
  }

  remove(path: string): void {
    this.#inner.remove(path);
  }

  removeFolder(folder: string): void {
    this.#inner.removeFolder(folder);
  }

  rename(from: string, to: string): void {
    this.#inner.rename(from, to);
  }

  syncFolder(folder: string): void {
    this.watch(folder, folder, () => this.#inner.syncFolder(folder));
  }

  space(folder: string): { readonly totalBytes: number; readonly freeBytes: number } {
    return this.#inner.space(folder);
  }

  lock(path: string, holder: string): DiskLock {
    return this.#inner.lock(path, holder);
  }

  watch(folder: string, path: string, act: () => void): void {
    try {
      act();
    } catch (error) {
      this.note(folder, path, error);
      throw error;
    }
  }

  note(folder: string, path: string, error: unknown): void {
    if (isStorageError(error, 'failed') || isStorageError(error, 'read_only'))
      this.noteFinal(folder, path, error);
  }

  noteFinal(folder: string, path: string, error: unknown): void {
    this.#failed.add(folder);
    if (this.#failure !== undefined) return;
    this.#failure = `${path}: ${describeError(error)}`;
    const advice = 'nothing new is begun on it; look at the device, then restart the daemon';
    this.#log.error({ path, error: describeError(error), advice }, 'SSD has failed');
  }
}

class WatchedFile implements DiskFile {
  readonly path: string;
  readonly #inner: DiskFile;
  readonly #disk: WatchedDisk;
  readonly #folder: string;

  constructor(inner: DiskFile, disk: WatchedDisk) {
    this.path = inner.path;
    this.#inner = inner;
    this.#disk = disk;
    this.#folder = dirname(inner.path);
  }

  read(offset: number, into: Uint8Array): Eventually<number> {
    return this.#inner.read(offset, into);
  }

  write(offset: number, parts: readonly Uint8Array[]): void {
    try {
      this.#inner.write(offset, parts);
    } catch (error) {
      this.#disk.note(this.#folder, this.path, error);
      throw error;
    }
  }

  async datasync(): Promise<void> {
    try {
      await this.#inner.datasync();
    } catch (error) {
      // Even for want of space: what it covered counts as clean now.
      if (!isStorageError(error, 'closed')) this.#disk.noteFinal(this.#folder, this.path, error);
      throw error;
    }
  }

  allocate(offset: number, length: number): void {
    this.#disk.watch(this.#folder, this.path, () => this.#inner.allocate(offset, length));
  }

  punch(offset: number, length: number): void {
    this.#disk.watch(this.#folder, this.path, () => this.#inner.punch(offset, length));
  }

  truncate(bytes: number): void {
    this.#disk.watch(this.#folder, this.path, () => this.#inner.truncate(bytes));
  }

  size(): number {
    return this.#inner.size();
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}
