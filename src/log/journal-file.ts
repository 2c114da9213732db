/**
 * One file of a journal. It is closed and removed only when nobody reads from it any more, so a
 * reader that found a place in it may finish, whatever is trimmed meanwhile.
 */

import type { Eventually } from '../core/eventually.ts';
import { isPending } from '../core/eventually.ts';
import { limits } from '../core/limits.ts';
import type { Disk, DiskFile } from '../ports/disk.ts';

const rewriteBytes = limits.requestBytesMax;

export function journalFileName(number: number): string {
  return `${String(number).padStart(8, '0')}.journal`;
}

/** The number in a file's name; undefined where it is no file of a journal. */
export function journalFileNumber(name: string): number | undefined {
  const digits = /^(\d{8,10})\.journal$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

export class JournalFile {
  readonly number: number;
  readonly #file: DiskFile;
  readonly #disk: Disk;
  /** Where the next record goes, bytes. */
  end: number;
  /** Sequence of the last record in it. */
  lastSequence: number;
  /** Bytes that no datasync has covered yet. */
  isUnsynced = false;

  constructor(disk: Disk, file: DiskFile, number: number, end: number, lastSequence: number) {
    this.number = number;
    this.#disk = disk;
    this.#file = file;
    this.end = end;
    this.lastSequence = lastSequence;
  }

  read(offset: number, into: Uint8Array): Eventually<number> {
    return this.#file.read(offset, into);
  }

  write(offset: number, parts: readonly Uint8Array[]): void {
    this.#file.write(offset, parts);
  }

  datasync(): Promise<void> {
    return this.#file.datasync();
  }

  /** Cuts off what follows the last record that is kept. */
  cut(): void {
    this.#file.truncate(this.end);
    this.isUnsynced = true;
  }

  /**
   * Writes anew what there is from `offset` on, so that the next datasync covers it: after one that
   * failed, the page cache holds for clean what the device has not got.
   */
  async rewrite(offset: number): Promise<void> {
    const window = new Uint8Array(rewriteBytes);
    for (let at = offset; at < this.end; at += rewriteBytes) {
      const part = window.subarray(0, Math.min(rewriteBytes, this.end - at));
      const bytes = await readAt(this.#file, at, part);
      this.#file.write(at, [part.subarray(0, bytes)]);
    }
    this.isUnsynced = true;
  }

  /** Waits for reads in flight. */
  close(): Promise<void> {
    return this.#file.close();
  }

  /** Its name goes at once, its bytes with the last reader. */
  async remove(): Promise<void> {
    this.#disk.remove(this.#file.path);
    await this.#file.close();
  }
}

/** Reads in full or as far as the file goes. */
export async function readAt(file: DiskFile, offset: number, into: Uint8Array): Promise<number> {
  const read = file.read(offset, into);
  return isPending(read) ? await read : read;
}
