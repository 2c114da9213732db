/**
 * The journal of one volume: the append-only write log on local SSD, and the home of block data
 * until it is destaged. Appends are synchronous and go to the page cache; `sync` makes them
 * durable, one fdatasync for all who ask while another runs.
 *
 *   open     appends and syncs
 *   failed   an fdatasync failed, or a write: what was unsynced may be gone and later syncs would
 *            lie, so appends and syncs are refused for good; reads go on
 *   closed   nothing more
 *
 * A file is allocated ahead, so an append fails for want of space only where a new file begins,
 * and then nothing was written.
 */

import { describeError, isStorageError, StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import { invariant } from '../core/invariant.ts';
import { limits } from '../core/limits.ts';
import type { RecordKind } from '../format/journal-record.ts';
import {
  encodeFileHeader,
  encodeRecordHead,
  fileHeaderBytes,
  payloadBlocksMax,
  payloadOffset,
  recordBytes,
} from '../format/journal-record.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Disk } from '../ports/disk.ts';
import type { Log } from '../ports/log.ts';
import { JournalFile, journalFileName } from './journal-file.ts';
import type { FoundFile, FoundRecord, Recovered } from './journal-recovery.ts';
import { recoverJournal } from './journal-recovery.ts';

export interface JournalSettings {
  /** Bytes of one file. */
  readonly fileBytes: number;
  /** Bytes of all files; writers wait beyond it. */
  readonly bytesMax: number;
}

export interface JournalOptions {
  readonly folder: string;
  readonly epoch: number;
  /** Marks the volume's records. */
  readonly tag: number;
  /** Sequence of the last record that is on the backend already. */
  readonly afterSequence: number;
  readonly settings: JournalSettings;
  /** All that the folder holds, durable, where this process has just put it there. */
  readonly known?: readonly FoundFile[] | undefined;
}

/** What replay hands out; `file` and `offset` say where the payload lies. */
export type JournalRecord = {
  /** Of the tenure that wrote it. */
  readonly epoch: number;
  readonly sequence: number;
  readonly volumeBytes: number;
} & (
  | {
      readonly kind: 'write';
      readonly block: number;
      readonly count: number;
      readonly checksums: Uint32Array;
      readonly file: number;
      readonly offset: number;
    }
  | { readonly kind: 'trim'; readonly block: number; readonly count: number }
  | {
      readonly kind: 'resize';
      readonly tail?: {
        readonly block: number;
        readonly checksum: number;
        readonly file: number;
        readonly offset: number;
      };
    }
);

/** Where an appended payload lies. One object for all appends: valid until the next one. */
export interface Appended {
  file: number;
  offset: number;
  sequence: number;
}

export interface TailBlock {
  readonly block: number;
  readonly payload: Uint8Array;
  readonly checksum: number;
}

const noChecksums = new Uint32Array(0);

export class Journal {
  readonly #disk: Disk;
  readonly #checksum: Checksum;
  readonly #log: Log;
  readonly #options: JournalOptions;
  /** By number, ascending; the last one is appended to. */
  readonly #files = new Map<number, JournalFile>();
  #current: JournalFile | undefined;
  /** Its name is durable. */
  #isFolderKept: boolean;
  #lastFile: number;
  #lastSequence: number;
  #durableSequence: number;
  #trimmedThrough = 0;
  #promiseMax = Number.MAX_SAFE_INTEGER;
  #state: 'open' | 'failed' | 'closed' = 'open';
  #failure: unknown;
  #syncing: Promise<void> | undefined;
  #nextSync: Promise<void> | undefined;
  readonly #removals = new Set<Promise<void>>();
  readonly #scratch = new Uint8Array(payloadOffset(payloadBlocksMax));
  readonly #scratchView = new DataView(this.#scratch.buffer);
  readonly #appended: Appended = { file: 0, offset: 0, sequence: 0 };

  private constructor(
    disk: Disk,
    checksum: Checksum,
    log: Log,
    options: JournalOptions,
    found: { readonly lastFile: number; readonly lastSequence: number },
  ) {
    this.#disk = disk;
    this.#checksum = checksum;
    this.#log = log;
    this.#options = options;
    this.#isFolderKept = options.known !== undefined;
    this.#lastFile = found.lastFile;
    this.#lastSequence = found.lastSequence;
    this.#durableSequence = found.lastSequence;
  }

  /**
   * Recovers what the folder holds behind `afterSequence`, handing each record to `replay` in
   * order. What lies behind a torn end is removed before anything new is written, so that it can
   * never be taken for a continuation; new records go into new files. Throws `corrupt`
   * where durable records are lost, `fenced` where the journal is of a later epoch.
   */
  static async open(
    disk: Disk,
    checksum: Checksum,
    log: Log,
    options: JournalOptions,
    replay: (record: JournalRecord) => void,
  ): Promise<Journal> {
    const { folder, epoch, afterSequence, tag, known } = options;
    const deps = { disk, checksum, log, folder, tag };
    const found = await recoverJournal(deps, epoch, afterSequence, known);
    const lastSequence = found.records.at(-1)?.header.sequence ?? afterSequence;
    const journal = new Journal(disk, checksum, log, options, { ...found, lastSequence });
    try {
      await journal.#adopt(found);
      for (const record of found.records) replay(toRecord(record));
      journal.trim(afterSequence);
      return journal;
    } catch (error) {
      await journal.close();
      throw error;
    }
  }

  static destroy(disk: Disk, folder: string): Promise<void> {
    disk.removeFolder(folder);
    return Promise.resolve();
  }

  get state(): 'open' | 'failed' | 'closed' {
    return this.#state;
  }

  get failure(): unknown {
    return this.#failure;
  }

  get lastSequence(): number {
    return this.#lastSequence;
  }

  /** Bytes that its files take. */
  get usedBytes(): number {
    return this.#files.size * this.#options.settings.fileBytes;
  }

  /** Whether a payload of so many bytes fits within the bound. */
  hasRoom(bytes: number): boolean {
    const { fileBytes, bytesMax } = this.#options.settings;
    const needed = recordBytes(Math.ceil(bytes / limits.blockBytes));
    if (this.#current && this.#current.end + needed <= fileBytes) return true;
    return (this.#files.size + 1) * fileBytes <= bytesMax;
  }

  /** Appends whole blocks, at most 1 MiB. Throws `no_space`, `failed`, `closed`. */
  appendWrite(
    block: number,
    payload: Uint8Array,
    checksums: Uint32Array,
    volumeBytes: number,
  ): Appended {
    invariant(payload.length === checksums.length * limits.blockBytes, 'a checksum for each block');
    return this.#append('write', block, checksums.length, volumeBytes, checksums, payload);
  }

  appendTrim(block: number, count: number, volumeBytes: number): Appended {
    return this.#append('trim', block, count, volumeBytes, noChecksums, undefined);
  }

  /** `tail`: the last block as it is after the volume shrank to within it. */
  appendResize(volumeBytes: number, tail?: TailBlock): Appended {
    const checksums = tail ? Uint32Array.of(tail.checksum) : noChecksums;
    const count = checksums.length;
    return this.#append('resize', tail?.block ?? 0, count, volumeBytes, checksums, tail?.payload);
  }

  /** The file with the record of this sequence or, where that is trimmed, with the next one. */
  fileOf(sequence: number): { readonly number: number; readonly end: number } | undefined {
    for (const file of this.#files.values())
      if (file.lastSequence >= sequence && file.end > fileHeaderBytes) return file;
    return undefined;
  }

  /**
   * Records say up to where everything is durable. Whoever holds a copy of them judges its own
   * loss by that, so they don't promise more than the copy has.
   */
  limitPromise(durableSequence: number): void {
    this.#promiseMax = durableSequence;
  }

  /** Bytes of payload. The file stays readable while the read is in flight. */
  read(file: number, offset: number, into: Uint8Array): Eventually<number> {
    const found = this.#files.get(file);
    invariant(found !== undefined, 'a place in the journal is in one of its files', () => ({
      file,
    }));
    return found.read(offset, into);
  }

  /** Resolves when all that was appended before the call is durable. */
  sync(): Promise<void> {
    if (this.#state !== 'open') return Promise.reject(this.#refusal());
    if (this.#lastSequence === this.#durableSequence) return Promise.resolve();
    if (this.#syncing === undefined) return this.#startSync();
    // The running fdatasync may have begun before the last append: all who come now share the next.
    this.#nextSync ??= this.#syncing.then(() => {
      this.#nextSync = undefined;
      return this.#startSync();
    });
    return this.#nextSync;
  }

  /** All records up to `throughSequence` are on the backend: files that hold no later ones go. */
  trim(throughSequence: number): void {
    this.#trimmedThrough = Math.max(this.#trimmedThrough, throughSequence);
    for (const file of [...this.#files.values()]) {
      if (file.lastSequence > throughSequence) break;
      if (file === this.#current) {
        // Only a file that was used is worth a new one.
        if (file.end === fileHeaderBytes || this.#syncing) break;
        this.#current = undefined;
      }
      this.#files.delete(file.number);
      const removal = file.remove().catch((error: unknown) => {
        this.#log.warn({ error: String(error) }, 'file of the journal could not be removed');
      });
      this.#removals.add(removal);
      void removal.then(() => this.#removals.delete(removal));
    }
  }

  /** Idempotent; does not sync. */
  async close(): Promise<void> {
    const wasOpen = this.#state === 'open';
    this.#state = 'closed';
    await Promise.allSettled([this.#syncing, ...this.#removals]);
    if (wasOpen) this.#cutReserve();
    await Promise.all([...this.#files.values()].map((file) => file.close()));
  }

  abandon(): Promise<void> {
    return this.close();
  }

  /** Whoever reads the journal next would look for records in all that is reserved for later ones. */
  #cutReserve(): void {
    try {
      this.#current?.cut();
    } catch (error) {
      this.#log.warn({ error: String(error) }, 'reserve of the journal could not be given back');
    }
  }

  async #adopt(found: Recovered): Promise<void> {
    const isKnown = this.#options.known !== undefined;
    for (const number of found.stale) this.#disk.remove(this.#path(number));
    for (const { number, end, lastSequence, unsureFrom } of found.files) {
      const opened = this.#disk.open(this.#path(number), 'existing');
      const file = new JournalFile(this.#disk, opened, number, end, lastSequence);
      this.#files.set(number, file);
      if (isKnown) continue;
      file.cut();
      // An fdatasync of the process before may have failed.
      await file.rewrite(unsureFrom);
    }
    if (isKnown || this.#files.size + found.stale.length === 0) return;
    // What was read may have been in the page cache alone: nobody relies on it before it is synced.
    await this.#syncFiles();
    this.#disk.syncFolder(this.#options.folder);
  }

  #append(
    kind: RecordKind,
    block: number,
    count: number,
    volumeBytes: number,
    checksums: Uint32Array,
    payload: Uint8Array | undefined,
  ): Appended {
    if (this.#state !== 'open') throw this.#refusal();
    const sequence = this.#lastSequence + 1;
    const headBytes = encodeRecordHead(
      this.#scratch,
      this.#scratchView,
      {
        ...{ kind, sequence, block, count, volumeBytes, checksums },
        epoch: this.#options.epoch,
        tag: this.#options.tag,
        durableSequence: Math.min(this.#durableSequence, this.#promiseMax),
      },
      this.#checksum,
    );
    const head = this.#scratch.subarray(0, headBytes);
    const file = this.#write(recordBytes(checksums.length), head, payload);
    this.#appended.file = file.number;
    this.#appended.offset = file.end + headBytes;
    this.#appended.sequence = sequence;
    file.end += recordBytes(checksums.length);
    file.lastSequence = sequence;
    file.isUnsynced = true;
    this.#lastSequence = sequence;
    return this.#appended;
  }

  /** Of a write that failed, who knows what is there. */
  #write(bytes: number, head: Uint8Array, payload: Uint8Array | undefined): JournalFile {
    try {
      const file = this.#fileFor(bytes);
      file.write(file.end, payload === undefined ? [head] : [head, payload]);
      return file;
    } catch (error) {
      if (!isStorageError(error, 'no_space'))
        throw this.#fail(error, 'the journal could not be written');
      // What could not go while it was being synced makes room for the next attempt.
      this.trim(this.#trimmedThrough);
      throw error;
    }
  }

  #fail(error: unknown, what: string): StorageError {
    const { folder } = this.#options;
    const failure = new StorageError('failed', `${what} (${folder})`, { cause: error });
    this.#failure = failure;
    if (this.#state === 'open') this.#state = 'failed';
    this.#log.error({ folder, error: describeError(error) }, what);
    return failure;
  }

  #fileFor(bytes: number): JournalFile {
    const current = this.#current;
    if (current && current.end + bytes <= this.#options.settings.fileBytes) return current;
    this.#current = this.#createFile();
    return this.#current;
  }

  /** Throws `no_space` and leaves nothing behind. */
  #createFile(): JournalFile {
    const { folder, epoch, settings } = this.#options;
    const number = this.#lastFile + 1;
    const path = this.#path(number);
    this.#disk.makeFolder(folder);
    const opened = this.#disk.open(path, 'exclusive');
    const header = { number, epoch, firstSequence: this.#lastSequence + 1 };
    try {
      opened.allocate(0, settings.fileBytes);
      opened.write(0, [encodeFileHeader(header, this.#checksum)]);
      this.#disk.syncFolder(folder);
      if (!this.#isFolderKept)
        this.#disk.syncFolder(folder.slice(0, folder.lastIndexOf('/')) || '/');
      this.#isFolderKept = true;
    } catch (error) {
      void opened.close();
      this.#disk.remove(path);
      throw error;
    }
    this.#lastFile = number;
    const file = new JournalFile(this.#disk, opened, number, fileHeaderBytes, this.#lastSequence);
    this.#files.set(number, file);
    return file;
  }

  #startSync(): Promise<void> {
    if (this.#state !== 'open') return Promise.reject(this.#refusal());
    const through = this.#lastSequence;
    const syncing = this.#syncFiles().then(
      () => {
        this.#syncing = undefined;
        this.#durableSequence = Math.max(this.#durableSequence, through);
      },
      (error: unknown) => {
        this.#syncing = undefined;
        throw this.#fail(error, 'the journal could not be made durable');
      },
    );
    this.#syncing = syncing;
    return syncing;
  }

  async #syncFiles(): Promise<void> {
    const unsynced = [...this.#files.values()].filter((file) => file.isUnsynced);
    for (const file of unsynced) file.isUnsynced = false;
    await Promise.all(unsynced.map((file) => file.datasync()));
  }

  #refusal(): StorageError {
    if (this.#state === 'closed') return new StorageError('closed', 'the journal is closed');
    return new StorageError('failed', 'the journal is not trusted since an fdatasync failed', {
      cause: this.#failure,
    });
  }

  #path(number: number): string {
    return `${this.#options.folder}/${journalFileName(number)}`;
  }
}

function toRecord({ header, file, payloadOffset: offset }: FoundRecord): JournalRecord {
  const { kind, epoch, sequence, volumeBytes, block, count, checksums } = header;
  const any = { epoch, sequence, volumeBytes };
  if (kind === 'write') return { ...any, kind, block, count, checksums, file, offset };
  if (kind === 'trim') return { ...any, kind, block, count };
  if (checksums.length === 0) return { ...any, kind };
  const tail = { block, checksum: checksums[0] as number, file, offset };
  return { ...any, kind, tail };
}
