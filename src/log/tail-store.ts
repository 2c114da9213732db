/**
 * Records of a volume's journal on another host's SSD, byte for byte as its owner wrote them, in
 * files like the journal's own: the tail that an owner-to-be fetches, or the copy of a replica. A
 * folder of them can be opened as the journal.
 */

import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { RecordHeader } from '../format/journal-record.ts';
import {
  decodeRecordHead,
  encodeFileHeader,
  fileHeaderBytes,
  payloadBlocksMax,
  payloadOffset,
  recordBytes,
} from '../format/journal-record.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Disk } from '../ports/disk.ts';
import { JournalFile, journalFileName } from './journal-file.ts';
import type { FoundRecord } from './journal-recovery.ts';

export const tailChunkBytesMax = recordBytes(payloadBlocksMax);

export interface TailStoreDeps {
  readonly disk: Disk;
  readonly checksum: Checksum;
}

export interface TailStoreSettings {
  readonly folder: string;
  /** Bytes of one file, at least; the last record may go beyond. */
  readonly fileBytes: number;
}

/** The records in `bytes`, one behind another. Throws `corrupt`. */
export function* recordsIn(
  bytes: Uint8Array,
  checksum: Checksum,
): Iterable<{ readonly header: RecordHeader; readonly from: number; readonly to: number }> {
  const { blockBytes } = limits;
  for (let from = 0; from < bytes.length; ) {
    const header = decodeRecordHead(bytes.subarray(from), checksum);
    if (!header) throw new StorageError('corrupt', 'not a record of a journal');
    const blocks = header.checksums.length;
    const to = from + recordBytes(blocks);
    if (to > bytes.length) throw new StorageError('corrupt', 'a record of a journal is cut short');
    const payload = bytes.subarray(from + payloadOffset(blocks), to);
    for (let block = 0; block < blocks; block += 1) {
      const found = checksum.crc32c(payload.subarray(block * blockBytes, (block + 1) * blockBytes));
      if (found !== header.checksums[block])
        throw new StorageError('corrupt', 'a block of a journal record is damaged');
    }
    yield { header, from, to };
    from = to;
  }
}

export class TailStore {
  readonly #deps: TailStoreDeps;
  readonly #settings: TailStoreSettings;
  /** Ascending; the last one is appended to. */
  readonly #files: JournalFile[] = [];
  #lastNumber = 0;
  #lastSequence: number | undefined;
  #trimmedThrough = 0;
  readonly #removals = new Set<Promise<void>>();

  private constructor(deps: TailStoreDeps, settings: TailStoreSettings) {
    this.#deps = deps;
    this.#settings = settings;
  }

  /** Begins anew: whatever the folder held is gone. */
  static begin(deps: TailStoreDeps, settings: TailStoreSettings): TailStore {
    const store = new TailStore(deps, settings);
    const { disk } = deps;
    const { folder } = settings;
    disk.removeFolder(folder);
    disk.makeFolder(folder);
    disk.syncFolder(folder.slice(0, folder.lastIndexOf('/')) || '/');
    return store;
  }

  /** Numbers of the files that it has. */
  get files(): readonly number[] {
    return this.#files.map(({ number }) => number);
  }

  /** Sequence of the last record; undefined before the first. */
  get lastSequence(): number | undefined {
    return this.#lastSequence;
  }

  /**
   * Appends whole records, the first one right behind the last one here, or what lies between is
   * trimmed already. Gives them where they lie. `invalid` for a gap, `corrupt`, `no_space`.
   */
  append(epoch: number, records: Uint8Array): readonly FoundRecord[] {
    let first: number | undefined;
    let last = this.#lastSequence;
    const parts = [...recordsIn(records, this.#deps.checksum)];
    for (const { header } of parts) {
      const { sequence } = header;
      const isSkip = first === undefined && sequence > (last ?? 0) && this.#isTrimmedTo(sequence);
      if (last !== undefined && sequence !== last + 1 && !isSkip)
        throw new StorageError('invalid', `record ${sequence} follows record ${last}`);
      first ??= sequence;
      last = sequence;
    }
    if (first === undefined || last === undefined) return [];
    const file = this.#fileFor(epoch, first);
    const found = parts.map(({ header, from }) => {
      const offset = file.end + from;
      const payloadAt = offset + payloadOffset(header.checksums.length);
      const place = { file: file.number, offset, payloadOffset: payloadAt };
      return { header, ...place, isPayloadWhole: true };
    });
    file.write(file.end, [records]);
    file.end += records.length;
    file.lastSequence = last;
    file.isUnsynced = true;
    this.#lastSequence = last;
    return found;
  }

  /** Records up to a sequence are on the backend: files that hold no later ones go. */
  trim(throughSequence: number): void {
    this.#trimmedThrough = Math.max(this.#trimmedThrough, throughSequence);
    while (
      this.#files.length > 1 &&
      (this.#files[0] as JournalFile).lastSequence <= throughSequence
    ) {
      const removal = (this.#files.shift() as JournalFile).remove();
      this.#removals.add(removal);
      void removal.finally(() => this.#removals.delete(removal));
    }
  }

  /** Resolves when all that was appended before is durable. */
  async sync(): Promise<void> {
    const unsynced = this.#files.filter((file) => file.isUnsynced);
    for (const file of unsynced) file.isUnsynced = false;
    await Promise.all(unsynced.map((file) => file.datasync()));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#removals, ...this.#files.map((file) => file.close())]);
  }

  #isTrimmedTo(sequence: number): boolean {
    return sequence <= this.#trimmedThrough + 1;
  }

  /** Records of one file have no gap. */
  #fileFor(epoch: number, firstSequence: number): JournalFile {
    const current = this.#files.at(-1);
    const { fileBytes } = this.#settings;
    if (current && current.end < fileBytes && current.lastSequence + 1 === firstSequence)
      return current;
    const { disk, checksum } = this.#deps;
    const { folder } = this.#settings;
    const number = this.#lastNumber + 1;
    const path = `${folder}/${journalFileName(number)}`;
    const opened = disk.open(path, 'exclusive');
    try {
      opened.write(0, [encodeFileHeader({ number, epoch, firstSequence }, checksum)]);
      disk.syncFolder(folder);
    } catch (error) {
      void opened.close();
      disk.remove(path);
      throw error;
    }
    this.#lastNumber = number;
    const file = new JournalFile(disk, opened, number, fileHeaderBytes, firstSequence - 1);
    this.#files.push(file);
    return file;
  }
}
