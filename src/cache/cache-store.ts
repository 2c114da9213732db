/**
 * The cache on SSD: slots of one line each in a data file, and an index file that says what they
 * hold. Nothing is synced: every byte is verified when it is read, so a torn or stale slot is a
 * miss. Trouble of the disk never gets out of here:
 *
 *   on       lines are read and taken
 *   paused   a write failed: lines are read, none is taken; tried again after a while
 *   absent   the files could not be opened: as if empty; tried again after a while
 *   closed   nothing more
 *
 * An alarm tells of the first failure and a line of the log of the end of it, not of each one.
 * The last free bytes of the disk are left to the journals, whose writers would have to wait; when they
 * have to, they get more, and for a while it does not grow again.
 */

import { describeError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import { isPending } from '../core/eventually.ts';
import { GiB } from '../core/units.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import type { Disk, DiskFile } from '../ports/disk.ts';
import type { Log } from '../ports/log.ts';
import type { StoredLine } from './index-record.ts';
import { decodeIndexRecords, encodeIndexRecord, indexRecordBytes } from './index-record.ts';
import { lineBytes } from './line-slots.ts';

const pauseMs = 30_000;
const recordsPerRead = 16_384;
/** What a growing cache leaves free: a share of the disk, at most so much. */
const reserveShare = 0.05;
const reserveBytesMax = 8 * GiB;
/** What `read` says where the disk failed. */
export const unreadable = -1;

export interface CacheStoreDeps {
  readonly disk: Disk;
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly log: Log;
}

interface Files {
  readonly data: DiskFile;
  readonly index: DiskFile;
}

export class CacheStore {
  readonly #deps: CacheStoreDeps;
  readonly #folder: string;
  readonly #slotCount: number;
  readonly #record = new Uint8Array(indexRecordBytes);
  #files: Files | undefined;
  /** When to try again; undefined: nothing is wrong. */
  #resumeMs: number | undefined;
  #readAlarmMs = Number.NEGATIVE_INFINITY;
  #growsAgainMs = Number.NEGATIVE_INFINITY;
  #isClosed = false;

  constructor(deps: CacheStoreDeps, folder: string, slotCount: number) {
    this.#deps = deps;
    this.#folder = folder;
    this.#slotCount = slotCount;
    this.#open();
  }

  /** It takes no lines now. */
  get isOff(): boolean {
    if (this.#isClosed) return true;
    return this.#resumeMs !== undefined && this.#deps.clock.monotonicMs() < this.#resumeMs;
  }

  /** What the index names, slots in ascending order. */
  async load(found: (line: StoredLine) => void): Promise<void> {
    if (!this.#files) return;
    const { checksum } = this.#deps;
    const buffer = new Uint8Array(Math.min(recordsPerRead, this.#slotCount) * indexRecordBytes);
    try {
      for (let first = 0; first < this.#slotCount; first += recordsPerRead) {
        const slots = Math.min(recordsPerRead, this.#slotCount - first);
        const into = buffer.subarray(0, slots * indexRecordBytes);
        const read = this.#files.index.read(first * indexRecordBytes, into);
        const bytes = isPending(read) ? await read : read;
        decodeIndexRecords(into.subarray(0, bytes), first, checksum, found);
        if (bytes < into.length) return;
      }
    } catch (error) {
      this.#deps.log.error({ error: describeError(error) }, 'index of the read cache is lost');
    }
  }

  /** Bytes of the slot; `unreadable` where the disk failed. */
  read(slot: number, offset: number, into: Uint8Array): Eventually<number> {
    if (!this.#files) return unreadable;
    try {
      const read = this.#files.data.read(slot * lineBytes + offset, into);
      return isPending(read) ? read.catch((error: unknown) => this.#readFailed(error)) : read;
    } catch (error) {
      return this.#readFailed(error);
    }
  }

  /** False where the line was not taken. */
  write(line: StoredLine, bytes: Uint8Array): boolean {
    encodeIndexRecord(line, this.#record, this.#deps.checksum);
    return this.#change(({ data, index }) => {
      data.write(line.slot * lineBytes, [bytes]);
      index.write(line.slot * indexRecordBytes, [this.#record]);
    });
  }

  /** The slot's bytes were wrong: the next start doesn't believe in them either. */
  clear(slot: number): void {
    this.#record.fill(0);
    this.#change(({ index }) => index.write(slot * indexRecordBytes, [this.#record]));
  }

  /** Whether the disk has room for a slot that was never used. */
  mayGrow(): boolean {
    if (this.#deps.clock.monotonicMs() < this.#growsAgainMs) return false;
    try {
      const { totalBytes, freeBytes } = this.#deps.disk.space(this.#folder);
      return freeBytes > Math.min(totalBytes * reserveShare, reserveBytesMax);
    } catch {
      return false;
    }
  }

  /** Gives the space of all slots behind the first `slots` back. */
  shrink(slots: number): void {
    this.#growsAgainMs = this.#deps.clock.monotonicMs() + pauseMs;
    try {
      this.#files?.data.truncate(Math.min(slots * lineBytes, this.#files.data.size()));
      this.#files?.index.truncate(Math.min(slots * indexRecordBytes, this.#files.index.size()));
    } catch (error) {
      this.#pause(error);
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#files?.data.close();
    await this.#files?.index.close();
  }

  #change(act: (files: Files) => void): boolean {
    if (this.isOff || (!this.#files && !this.#open()) || !this.#files) return false;
    try {
      act(this.#files);
    } catch (error) {
      this.#pause(error);
      return false;
    }
    if (this.#resumeMs !== undefined) {
      this.#deps.log.info({ folder: this.#folder }, 'read cache takes lines again');
      this.#resumeMs = undefined;
    }
    return true;
  }

  /** False where the files can't be opened now. */
  #open(): boolean {
    const { disk } = this.#deps;
    let data: DiskFile | undefined;
    try {
      disk.makeFolder(this.#folder);
      data = disk.open(`${this.#folder}/cache.data`, 'create');
      const index = disk.open(`${this.#folder}/cache.index`, 'create');
      this.#files = { data, index };
      // The bound may have been lowered since the last start.
      const dataBytesMax = this.#slotCount * lineBytes;
      const indexBytesMax = this.#slotCount * indexRecordBytes;
      if (data.size() > dataBytesMax) data.truncate(dataBytesMax);
      if (index.size() > indexBytesMax) index.truncate(indexBytesMax);
      return true;
    } catch (error) {
      if (data && !this.#files) void data.close().catch(() => {});
      this.#pause(error);
      return false;
    }
  }

  #pause(error: unknown): void {
    const isFirst = this.#resumeMs === undefined;
    this.#resumeMs = this.#deps.clock.monotonicMs() + pauseMs;
    if (!isFirst) return;
    const facts = { error: describeError(error), folder: this.#folder, pauseMs };
    this.#deps.log.error(facts, 'read cache takes no lines: its disk fails or is full');
  }

  #readFailed(error: unknown): number {
    const now = this.#deps.clock.monotonicMs();
    if (!this.#isClosed && now - this.#readAlarmMs >= pauseMs) {
      this.#readAlarmMs = now;
      const facts = { error: describeError(error), folder: this.#folder };
      this.#deps.log.error(facts, 'read cache can not be read in part');
    }
    return unreadable;
  }
}
