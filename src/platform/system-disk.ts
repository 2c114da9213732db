/** The Disk port over the machine's file systems: by the addon, by node:fs where there is none. */

import * as fs from 'node:fs';
import { dirname } from 'node:path';
import { StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import type { Disk, DiskFile, DiskLock } from '../ports/disk.ts';
import { errnoError, translateFsError } from './errno.ts';
import type { Native } from './native.ts';

const eagain = 11;
const eopnotsupp = 95;
/** linux/magic.h: its pages are in memory always, so reading in place never blocks. */
const tmpfsMagic = 0x0102_1994;

const openFlags = {
  existing: fs.constants.O_RDWR,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT,
  exclusive: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL,
  read: fs.constants.O_RDONLY,
} as const;

export function systemDisk(native: Native | undefined): Disk {
  const attempt = <T>(what: string, path: string, action: () => T): T => {
    try {
      return action();
    } catch (error) {
      throw translateFsError(error, what, path);
    }
  };
  return {
    open: (path, mode) =>
      attempt('open', path, () => {
        const fd = fs.openSync(path, openFlags[mode], 0o600);
        return native ? new NativeFile(native, path, fd) : new PlainFile(path, fd);
      }),
    list: (folder) =>
      attempt('list', folder, () => (fs.existsSync(folder) ? fs.readdirSync(folder).sort() : [])),
    makeFolder: (folder) =>
      attempt('mkdir', folder, () => void fs.mkdirSync(folder, { recursive: true })),
    remove: (path) => attempt('remove', path, () => fs.unlinkSync(path)),
    removeFolder: (folder) =>
      attempt('remove', folder, () => fs.rmSync(folder, { recursive: true, force: true })),
    rename: (from, to) => attempt('rename', from, () => fs.renameSync(from, to)),
    syncFolder: (folder) => attempt('fsync', folder, () => syncFolder(folder)),
    space: (folder) =>
      attempt('statfs', folder, () => {
        const { bsize, blocks, bavail } = fs.statfsSync(folder);
        return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
      }),
    lock: (path, holder) => attempt('lock', path, () => lockFile(native, path, holder)),
  };
}

function syncFolder(folder: string): void {
  const fd = fs.openSync(folder, fs.constants.O_RDONLY);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** The lock is the kernel's and ends with the process; the file's text names the holder. */
function lockFile(native: Native | undefined, path: string, holder: string): DiskLock {
  fs.mkdirSync(dirname(path), { recursive: true });
  const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
  const status = native ? native.lockExclusive(fd) : 0;
  if (status < 0) {
    const other = fs.readFileSync(fd, 'utf8').trim();
    fs.closeSync(fd);
    throw new StorageError('busy', `in use by ${other || 'another process'}`, { detail: { path } });
  }
  fs.ftruncateSync(fd, 0);
  fs.writeSync(fd, `${holder}\n`, 0);
  let isHeld = true;
  return {
    release() {
      if (isHeld) fs.closeSync(fd);
      isHeld = false;
    },
  };
}

class NativeFile implements DiskFile {
  readonly path: string;
  readonly #native: Native;
  readonly #fd: number;
  /** What readNoWait is good for here: not known to every file system. */
  readonly #isMemory: boolean;
  #noWaitWorks = true;
  readonly #later = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  constructor(native: Native, path: string, fd: number) {
    this.#native = native;
    this.path = path;
    this.#fd = fd;
    this.#isMemory = fs.statfsSync(path).type === tmpfsMagic;
  }

  read(offset: number, into: Uint8Array): Eventually<number> {
    this.#assertOpen();
    if (this.#isMemory)
      return this.#checked(this.#native.readBlocking(this.#fd, into, offset), 'read');
    if (this.#noWaitWorks) {
      const count = this.#native.readNoWait(this.#fd, into, offset);
      if (count === into.length || count === 0) return count;
      if (count === -eopnotsupp) this.#noWaitWorks = false;
      else if (count < 0 && count !== -eagain) throw errnoError(-count, 'read', this.path);
    }
    // Short, or not in memory at all: the rest may be on the device or behind the end.
    return this.#readLater(offset, into);
  }

  write(offset: number, parts: readonly Uint8Array[]): void {
    this.#assertOpen();
    this.#checked(this.#native.writeParts(this.#fd, parts, offset), 'write');
  }

  async datasync(): Promise<void> {
    this.#assertOpen();
    this.#checked(await this.#track(this.#native.dataSync(this.#fd)), 'fdatasync');
  }

  allocate(offset: number, length: number): void {
    this.#assertOpen();
    const status = this.#native.allocate(this.#fd, offset, length, false);
    if (status === -eopnotsupp) this.truncate(Math.max(this.size(), offset + length));
    else this.#checked(status, 'fallocate');
  }

  punch(offset: number, length: number): void {
    this.#assertOpen();
    this.#checked(this.#native.allocate(this.#fd, offset, length, true), 'punch');
  }

  truncate(bytes: number): void {
    this.#assertOpen();
    fs.ftruncateSync(this.#fd, bytes);
  }

  size(): number {
    return fs.fstatSync(this.#fd).size;
  }

  close(): Promise<void> {
    this.#closing ??= Promise.allSettled([...this.#later]).then(() => fs.closeSync(this.#fd));
    return this.#closing;
  }

  async #readLater(offset: number, into: Uint8Array): Promise<number> {
    const count = await this.#track(this.#native.readLater(this.#fd, into, offset));
    return this.#checked(count, 'read');
  }

  #track<T>(work: Promise<T>): Promise<T> {
    this.#later.add(work);
    void work.finally(() => this.#later.delete(work)).catch(() => {});
    return work;
  }

  #checked(result: number, what: string): number {
    if (result < 0) throw errnoError(-result, what, this.path);
    return result;
  }

  #assertOpen(): void {
    if (this.#closing) throw new StorageError('closed', 'the file is closed');
  }
}

/** Without the addon: everything at once, holes by zeroes. */
class PlainFile implements DiskFile {
  readonly path: string;
  readonly #fd: number;
  #closing: Promise<void> | undefined;

  constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  read(offset: number, into: Uint8Array): number {
    return this.#attempt('read', () => {
      let done = 0;
      while (done < into.length) {
        const count = fs.readSync(this.#fd, into, done, into.length - done, offset + done);
        if (count === 0) break;
        done += count;
      }
      return done;
    });
  }

  write(offset: number, parts: readonly Uint8Array[]): void {
    this.#attempt('write', () => {
      let at = offset;
      for (const part of parts)
        for (let done = 0; done < part.length; ) {
          const count = fs.writeSync(this.#fd, part, done, part.length - done, at);
          done += count;
          at += count;
        }
    });
  }

  async datasync(): Promise<void> {
    this.#assertOpen();
    const { promise, resolve } = Promise.withResolvers<NodeJS.ErrnoException | null>();
    fs.fdatasync(this.#fd, resolve);
    const error = await promise;
    if (error) throw translateFsError(error, 'fdatasync', this.path);
  }

  allocate(offset: number, length: number): void {
    if (this.size() < offset + length) this.truncate(offset + length);
  }

  punch(offset: number, length: number): void {
    this.write(offset, [new Uint8Array(length)]);
  }

  truncate(bytes: number): void {
    this.#attempt('truncate', () => fs.ftruncateSync(this.#fd, bytes));
  }

  size(): number {
    return fs.fstatSync(this.#fd).size;
  }

  close(): Promise<void> {
    this.#closing ??= Promise.resolve().then(() => fs.closeSync(this.#fd));
    return this.#closing;
  }

  #attempt<T>(what: string, action: () => T): T {
    this.#assertOpen();
    try {
      return action();
    } catch (error) {
      throw translateFsError(error, what, this.path);
    }
  }

  #assertOpen(): void {
    if (this.#closing) throw new StorageError('closed', 'the file is closed');
  }
}
