/**
 * A file by the addon. A read of what is in memory is answered at once; the device is asked by the
 * thread pool, never by the loop. Descriptors outlive every call of the pool that uses them.
 */

import * as fs from 'node:fs';
import { StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import type { DiskFile } from '../ports/disk.ts';
import { errnoError, translateFsError } from './errno.ts';
import type { Native } from './native.ts';
import { writeZeroes } from './zeroes.ts';

const eagain = 11;
const eopnotsupp = 95;
/** linux/magic.h: its pages are in memory always, so reading in place never blocks. */
const tmpfsMagic = 0x0102_1994;

export interface NativeFileDeps {
  readonly native: Native;
  /** Closes a descriptor some time soon. */
  readonly close: (fd: number) => void;
}

export class NativeFile implements DiskFile {
  readonly path: string;
  readonly #native: Native;
  readonly #close: NativeFileDeps['close'];
  readonly #fd: number;
  readonly #isMemory: boolean;
  /** False once the file system has said that it doesn't know such reads. */
  #noWaitWorks = true;
  readonly #later = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  /** Takes the descriptor over. */
  constructor({ native, close }: NativeFileDeps, path: string, fd: number) {
    this.#native = native;
    this.#close = close;
    this.path = path;
    this.#fd = fd;
    this.#isMemory = fs.statfsSync(path).type === tmpfsMagic;
  }

  read(offset: number, into: Uint8Array): Eventually<number> {
    this.#assertOpen();
    if (this.#isMemory)
      return this.#checked(this.#native.readBlocking(this.#fd, into, offset), 'read');
    if (!this.#noWaitWorks) return this.#readLater(offset, into, 0);
    const count = this.#native.readNoWait(this.#fd, into, offset);
    if (count === into.length) return count;
    if (count === -eopnotsupp) this.#noWaitWorks = false;
    else if (count < 0 && count !== -eagain) throw errnoError(-count, 'read', this.path);
    // The rest is on the device, or behind the end. Linux 5.9 and 5.10 answer 0 for the former
    // as well (preadv2(2), BUGS), so no count below the whole is taken for the end of the file.
    return this.#readLater(offset, into, Math.max(0, count));
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
    // Where space can't be reserved, bytes that are there hold it.
    if (status === -eopnotsupp) {
      const from = Math.max(offset, this.size());
      writeZeroes(this, from, offset + length - from);
    } else this.#checked(status, 'fallocate');
  }

  punch(offset: number, length: number): void {
    this.#assertOpen();
    const status = this.#native.allocate(this.#fd, offset, length, true);
    if (status === -eopnotsupp) writeZeroes(this, offset, Math.min(length, this.size() - offset));
    else this.#checked(status, 'punch');
  }

  truncate(bytes: number): void {
    this.#assertOpen();
    try {
      fs.ftruncateSync(this.#fd, bytes);
    } catch (error) {
      throw translateFsError(error, 'truncate', this.path);
    }
  }

  size(): number {
    this.#assertOpen();
    return fs.fstatSync(this.#fd).size;
  }

  close(): Promise<void> {
    this.#closing ??= Promise.allSettled([...this.#later]).then(() => this.#close(this.#fd));
    return this.#closing;
  }

  /** What `into` lacks behind its first `done` bytes. */
  async #readLater(offset: number, into: Uint8Array, done: number): Promise<number> {
    const rest = done === 0 ? into : into.subarray(done);
    const work = this.#native.readLater(this.#fd, rest, offset + done);
    return done + this.#checked(await this.#track(work), 'read');
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
