/**
 * A disk in memory that can lose power. A file is its durable bytes, and the writes since its last
 * datasync; a name is durable once its folder was synced. `crash` gives the disk as it might be
 * found afterwards: each unsynced write survived, was lost, or was torn at a sector, each unsynced
 * name likewise.
 */

import { dirname } from 'node:path';
import { StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import type { Disk, DiskFile, DiskLock } from '../ports/disk.ts';
import type { Random } from '../ports/random.ts';

const sectorBytes = 512;

interface Unsynced {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

class Content {
  current = new Uint8Array(0);
  durable = new Uint8Array(0);
  unsynced: Unsynced[] = [];

  resize(bytes: number): void {
    const next = new Uint8Array(bytes);
    next.set(this.current.subarray(0, bytes));
    this.current = next;
    // Sizes are kept simple: they are durable at once, their new bytes are zero.
    const durable = new Uint8Array(bytes);
    durable.set(this.durable.subarray(0, bytes));
    this.durable = durable;
  }

  write(offset: number, bytes: Uint8Array): void {
    if (this.current.length < offset + bytes.length) this.resize(offset + bytes.length);
    this.current.set(bytes, offset);
    this.unsynced.push({ offset, bytes: bytes.slice() });
  }

  sync(): void {
    this.durable = this.current.slice();
    this.unsynced = [];
  }

  crashed(random: Random): Content {
    const found = new Content();
    found.current = this.durable.slice();
    for (const { offset, bytes } of this.unsynced) {
      const fate = random.fraction();
      if (fate < 0.4) continue;
      if (fate < 0.8) found.put(offset, bytes);
      else
        for (let at = 0; at < bytes.length; at += sectorBytes)
          if (random.fraction() < 0.5) found.put(offset + at, bytes.subarray(at, at + sectorBytes));
    }
    found.durable = found.current.slice();
    return found;
  }

  put(offset: number, bytes: Uint8Array): void {
    const fitting = bytes.subarray(0, Math.max(0, this.current.length - offset));
    this.current.set(fitting, offset);
  }
}

/** Failures that a test orders; all off at first. */
export interface MemoryDiskFaults {
  /** New bytes that may still be allocated before ENOSPC. */
  freeBytes: number;
  /** How many of the next datasyncs fail. */
  failingSyncs: number;
  /** Reads are never there at once. */
  slowReads: boolean;
}

export class MemoryDisk implements Disk {
  readonly faults: MemoryDiskFaults = {
    freeBytes: Number.POSITIVE_INFINITY,
    failingSyncs: 0,
    slowReads: false,
  };
  /** Datasyncs done, for tests of group commit. */
  syncCount = 0;
  readonly #files = new Map<string, Content>();
  readonly #folders = new Set<string>(['/']);
  /** Names whose folder was not synced since they came or went. */
  readonly #unsyncedNames = new Map<string, { readonly before: Content | undefined }>();
  readonly #locks = new Map<string, string>();

  open(path: string, mode: 'existing' | 'create' | 'exclusive' | 'read'): DiskFile {
    const found = this.#files.get(path);
    if (found && mode === 'exclusive') throw new StorageError('exists', 'the file exists');
    if (!found && (mode === 'existing' || mode === 'read'))
      throw new StorageError('not_found', 'no such file');
    if (!this.#folders.has(dirname(path))) throw new StorageError('not_found', 'no such folder');
    const content = found ?? new Content();
    if (!found) this.#setName(path, content);
    return new MemoryFile(this, path, content);
  }

  list(folder: string): readonly string[] {
    const inside = [...this.#files.keys(), ...this.#folders].filter(
      (path) => path !== folder && dirname(path) === folder,
    );
    return inside.map((path) => path.slice(folder.length).replace(/^\//, '')).sort();
  }

  makeFolder(folder: string): void {
    for (let path = folder; !this.#folders.has(path); path = dirname(path)) this.#folders.add(path);
  }

  remove(path: string): void {
    if (!this.#files.has(path)) throw new StorageError('not_found', 'no such file');
    this.#setName(path, undefined);
  }

  removeFolder(folder: string): void {
    for (const path of [...this.#files.keys()])
      if (path.startsWith(`${folder}/`)) this.#setName(path, undefined);
    for (const path of [...this.#folders])
      if (path === folder || path.startsWith(`${folder}/`)) this.#folders.delete(path);
  }

  rename(from: string, to: string): void {
    const content = this.#files.get(from);
    if (!content) throw new StorageError('not_found', 'no such file');
    this.#setName(to, content);
    this.#setName(from, undefined);
  }

  syncFolder(folder: string): void {
    for (const path of [...this.#unsyncedNames.keys()])
      if (dirname(path) === folder) this.#unsyncedNames.delete(path);
  }

  space(): { totalBytes: number; freeBytes: number } {
    const used = [...this.#files.values()].reduce((sum, file) => sum + file.current.length, 0);
    const freeBytes = Math.min(this.faults.freeBytes, 2 ** 40);
    return { totalBytes: used + freeBytes, freeBytes };
  }

  lock(path: string, holder: string): DiskLock {
    const other = this.#locks.get(path);
    if (other !== undefined) throw new StorageError('busy', `in use by ${other}`);
    this.#locks.set(path, holder);
    return { release: () => void this.#locks.delete(path) };
  }

  /** The disk as it might be found after a power cut now. This one goes on as it was. */
  crash(random: Random): MemoryDisk {
    const found = new MemoryDisk();
    for (const folder of this.#folders) found.#folders.add(folder);
    const crashed = new Map<Content, Content>();
    const after = (content: Content) => {
      const known = crashed.get(content) ?? content.crashed(random);
      crashed.set(content, known);
      return known;
    };
    const names = new Map<string, Content | undefined>(this.#files);
    for (const [path, { before }] of this.#unsyncedNames)
      if (random.fraction() < 0.5) names.set(path, before);
    for (const [path, content] of names) if (content) found.#files.set(path, after(content));
    return found;
  }

  /** The disk as the death of the process alone leaves it: all that was written is there. */
  reopened(): MemoryDisk {
    const found = new MemoryDisk();
    for (const folder of this.#folders) found.#folders.add(folder);
    for (const [path, content] of this.#files) found.#files.set(path, content);
    for (const [path, name] of this.#unsyncedNames) found.#unsyncedNames.set(path, name);
    return found;
  }

  /** Damages one byte, as a failing device does. */
  flip(path: string, offset: number): void {
    const content = this.#files.get(path);
    if (!content) throw new StorageError('not_found', 'no such file');
    content.current[offset] = (content.current[offset] as number) ^ 0x40;
    content.durable[offset] = content.current[offset] as number;
  }

  #setName(path: string, content: Content | undefined): void {
    if (!this.#unsyncedNames.has(path))
      this.#unsyncedNames.set(path, { before: this.#files.get(path) });
    if (content) this.#files.set(path, content);
    else this.#files.delete(path);
  }
}

class MemoryFile implements DiskFile {
  readonly path: string;
  readonly #disk: MemoryDisk;
  readonly #content: Content;
  #isClosed = false;

  constructor(disk: MemoryDisk, path: string, content: Content) {
    this.#disk = disk;
    this.path = path;
    this.#content = content;
  }

  read(offset: number, into: Uint8Array): Eventually<number> {
    this.#assertOpen();
    const copy = () => {
      const bytes = this.#content.current.subarray(offset, offset + into.length);
      into.set(bytes);
      return bytes.length;
    };
    if (!this.#disk.faults.slowReads) return copy();
    return new Promise((resolve) => setImmediate(() => resolve(copy())));
  }

  write(offset: number, parts: readonly Uint8Array[]): void {
    this.#assertOpen();
    const bytes = Buffer.concat(parts);
    this.#take(offset + bytes.length);
    this.#content.write(offset, bytes);
  }

  async datasync(): Promise<void> {
    this.#assertOpen();
    const { faults } = this.#disk;
    await new Promise((resolve) => setImmediate(resolve));
    if (faults.failingSyncs > 0) {
      faults.failingSyncs -= 1;
      throw new StorageError('failed', 'fdatasync failed: EIO');
    }
    this.#disk.syncCount += 1;
    this.#content.sync();
  }

  allocate(offset: number, length: number): void {
    this.#assertOpen();
    this.#take(offset + length);
    if (this.size() < offset + length) this.#content.resize(offset + length);
  }

  punch(offset: number, length: number): void {
    this.#assertOpen();
    const bytes = Math.max(0, Math.min(length, this.size() - offset));
    this.#content.write(offset, new Uint8Array(bytes));
  }

  truncate(bytes: number): void {
    this.#assertOpen();
    this.#take(bytes);
    this.#content.resize(bytes);
  }

  size(): number {
    return this.#content.current.length;
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return Promise.resolve();
  }

  #take(end: number): void {
    const more = Math.max(0, end - this.size());
    if (more > this.#disk.faults.freeBytes) throw new StorageError('no_space', 'the disk is full');
    this.#disk.faults.freeBytes -= more;
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new StorageError('closed', 'the file is closed');
  }
}
