/**
 * The cache on SSD: slots of 64 KiB in one data file, and a record for each slot in an index file.
 * Nothing is synced: every byte is verified when it is read, so a torn or stale slot is a miss. A
 * disk that fails turns the cache off for a while, never a read into an error.
 *
 * Index record, 64 bytes, little-endian: u32 magic "WCIX", u16 version (1), u16 valid bitmap, 16 B
 * object id, u32 epoch, u32 sequence, u32 line, 24 B zero, u32 CRC-32C of all before it.
 */

import { describeError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import { isPending } from '../core/eventually.ts';
import type { ObjectId } from '../core/units.ts';
import { objectId } from '../core/units.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import type { Disk, DiskFile } from '../ports/disk.ts';
import type { Log } from '../ports/log.ts';

export const lineBytes = 64 * 1024;
const recordBytes = 64;
const checksumAt = 60;
const magic = 0x5849_4357;
const version = 1;
const pauseMs = 30_000;
const recordsPerRead = 16_384;

export interface StoredLine {
  readonly slot: number;
  readonly id: ObjectId;
  readonly epoch: number;
  readonly sequence: number;
  readonly line: number;
  readonly valid: number;
}

export interface CacheStoreDeps {
  readonly disk: Disk;
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly log: Log;
}

export class CacheStore {
  readonly #deps: CacheStoreDeps;
  readonly #data: DiskFile;
  readonly #index: DiskFile;
  readonly #record = new Uint8Array(recordBytes);
  readonly #view = new DataView(this.#record.buffer);
  #offUntilMs = 0;

  constructor(deps: CacheStoreDeps, folder: string) {
    this.#deps = deps;
    deps.disk.makeFolder(folder);
    this.#data = deps.disk.open(`${folder}/cache.data`, 'create');
    this.#index = deps.disk.open(`${folder}/cache.index`, 'create');
  }

  get isOff(): boolean {
    return this.#offUntilMs > 0 && this.#deps.clock.monotonicMs() < this.#offUntilMs;
  }

  /** What the index names, of the first `slotCount` slots. */
  async load(slotCount: number, found: (line: StoredLine) => void): Promise<void> {
    const buffer = new Uint8Array(recordsPerRead * recordBytes);
    for (let first = 0; first < slotCount; first += recordsPerRead) {
      const read = this.#index.read(first * recordBytes, buffer);
      const bytes = isPending(read) ? await read : read;
      const records = Math.floor(bytes / recordBytes);
      for (let index = 0; index < records && first + index < slotCount; index += 1) {
        const at = index * recordBytes;
        const line = this.#decode(buffer.subarray(at, at + recordBytes), first + index);
        if (line) found(line);
      }
      if (bytes < buffer.length) return;
    }
  }

  read(slot: number, offset: number, into: Uint8Array): Eventually<number> {
    return this.#data.read(slot * lineBytes + offset, into);
  }

  /** False where the disk refused it. */
  write(line: StoredLine, bytes: Uint8Array): boolean {
    if (this.isOff) return false;
    try {
      this.#data.write(line.slot * lineBytes, [bytes]);
      this.#index.write(line.slot * recordBytes, [this.#encode(line)]);
      return true;
    } catch (error) {
      this.#offUntilMs = this.#deps.clock.monotonicMs() + pauseMs;
      this.#deps.log.error(
        { error: describeError(error), pauseMs },
        'read cache is off for a while',
      );
      return false;
    }
  }

  async close(): Promise<void> {
    await this.#data.close();
    await this.#index.close();
  }

  #encode(line: StoredLine): Uint8Array {
    const view = this.#view;
    this.#record.fill(0);
    view.setUint32(0, magic, true);
    view.setUint16(4, version, true);
    view.setUint16(6, line.valid, true);
    this.#record.set(Buffer.from(line.id, 'hex'), 8);
    view.setUint32(24, line.epoch, true);
    view.setUint32(28, line.sequence, true);
    view.setUint32(32, line.line, true);
    const crc = this.#deps.checksum.crc32c(this.#record.subarray(0, checksumAt));
    view.setUint32(checksumAt, crc, true);
    return this.#record;
  }

  #decode(record: Uint8Array, slot: number): StoredLine | undefined {
    const view = new DataView(record.buffer, record.byteOffset, recordBytes);
    if (view.getUint32(0, true) !== magic || view.getUint16(4, true) !== version) return undefined;
    const crc = this.#deps.checksum.crc32c(record.subarray(0, checksumAt));
    if (view.getUint32(checksumAt, true) !== crc) return undefined;
    return {
      slot,
      valid: view.getUint16(6, true),
      id: objectId(Buffer.from(record.subarray(8, 24)).toString('hex')),
      epoch: view.getUint32(24, true),
      sequence: view.getUint32(28, true),
      line: view.getUint32(32, true),
    };
  }
}
