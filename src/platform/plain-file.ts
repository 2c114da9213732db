/**
 * A file by node:fs, where there is no addon: reads come at once and may block the loop, space is
 * reserved by zeroes, holes are zeroes.
 */

import * as fs from 'node:fs';
import { StorageError } from '../core/errors.ts';
import type { DiskFile } from '../ports/disk.ts';
import { translateFsError } from './errno.ts';
import { writeZeroes } from './zeroes.ts';

export class PlainFile implements DiskFile {
  readonly path: string;
  readonly #fd: number;
  readonly #syncing = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  /** Takes the descriptor over. */
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
    this.#syncing.add(promise);
    const error = await promise;
    this.#syncing.delete(promise);
    if (error) throw translateFsError(error, 'fdatasync', this.path);
  }

  allocate(offset: number, length: number): void {
    const from = Math.max(offset, this.size());
    writeZeroes(this, from, offset + length - from);
  }

  punch(offset: number, length: number): void {
    writeZeroes(this, offset, Math.min(length, this.size() - offset));
  }

  truncate(bytes: number): void {
    this.#attempt('truncate', () => fs.ftruncateSync(this.#fd, bytes));
  }

  size(): number {
    return this.#attempt('stat', () => fs.fstatSync(this.#fd).size);
  }

  close(): Promise<void> {
    this.#closing ??= Promise.allSettled([...this.#syncing]).then(() => fs.closeSync(this.#fd));
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
