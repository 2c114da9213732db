/**
 * Reading a journal back. Records are taken in the order of their sequence. The first one that is
 * not whole is either the torn end of what was being written when the host went down, or damage:
 * each record says up to which sequence everything was durable when it was appended, so a later
 * record that calls the broken one durable proves damage.
 *
 *   torn end                               cut here, reported
 *   payload damaged, header whole, durable the record stays, its blocks fail their checksums
 *   header unreadable, durable             what was acknowledged is lost: not served
 */

import { closing } from '../core/closing.ts';
import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { RecordHeader } from '../format/journal-record.ts';
import {
  decodeFileHeader,
  decodeRecordHead,
  fileHeaderBytes,
  journalAlignment,
  payloadBlocksMax,
  payloadOffset,
  recordBytes,
  recordHeaderBytes,
} from '../format/journal-record.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Disk, DiskFile } from '../ports/disk.ts';
import type { Log } from '../ports/log.ts';
import { journalFileName, journalFileNumber, readAt } from './journal-file.ts';

/** A record where it lies. */
export interface FoundRecord {
  readonly header: RecordHeader;
  readonly file: number;
  /** Of the record, and of its payload, bytes from the start of the file. */
  readonly offset: number;
  readonly payloadOffset: number;
  readonly isPayloadWhole: boolean;
}

/** A file as it was found, up to the first thing that is no record. */
export interface FoundFile {
  readonly number: number;
  /** 0: it has no readable header. */
  readonly epoch: number;
  readonly firstSequence: number;
  readonly records: readonly FoundRecord[];
  /** The largest durableSequence of any record behind those; 0: none there. */
  readonly durableBehindEnd: number;
}

export interface Recovered {
  readonly records: readonly FoundRecord[];
  /** The files that are kept, ascending, with the end of what is kept of each. */
  readonly files: readonly {
    readonly number: number;
    readonly end: number;
    readonly lastSequence: number;
    /** What lies from here on may be in the page cache alone. */
    readonly unsureFrom: number;
  }[];
  /** Files of which nothing is kept: they lie behind a cut, or never got a header. */
  readonly stale: readonly number[];
  /** Highest file number ever used here. */
  readonly lastFile: number;
}

export interface RecoveryDeps {
  readonly disk: Disk;
  readonly checksum: Checksum;
  readonly log: Log;
  readonly folder: string;
  readonly tag: number;
}

/**
 * All records with a sequence above `afterSequence`; read, where what the files hold is not `known`.
 * Throws `corrupt` or `fenced`.
 */
export async function recoverJournal(
  deps: RecoveryDeps,
  epoch: number,
  afterSequence: number,
  known?: readonly FoundFile[],
): Promise<Recovered> {
  const files = known ?? (await readFiles(deps));
  const later = files.find((file) => file.epoch > epoch);
  if (later)
    throw new StorageError('fenced', 'the journal is of a later tenure', {
      detail: { found: later.epoch, epoch },
    });
  const numbers = files.map(({ number }) => number);
  const kept = keepPrefix(deps, files, afterSequence);
  const keptNumbers = new Set(kept.files.map(({ number }) => number));
  const stale = numbers.filter((number) => !keptNumbers.has(number));
  return { ...kept, stale, lastFile: numbers.at(-1) ?? 0 };
}

async function readFiles(deps: RecoveryDeps): Promise<readonly FoundFile[]> {
  const files: FoundFile[] = [];
  const numbers = deps.disk
    .list(deps.folder)
    .flatMap((name) => journalFileNumber(name) ?? [])
    .sort((left, right) => left - right);
  for (const number of numbers) files.push(await readFile(deps, number));
  return files;
}

/** The longest run of consecutive records, or an error where more than that was durable. */
function keepPrefix(
  { log }: RecoveryDeps,
  files: readonly FoundFile[],
  afterSequence: number,
): Pick<Recovered, 'records' | 'files'> {
  const durable = files.reduce(
    (max, file) =>
      file.records.reduce(
        (most, { header }) => Math.max(most, header.durableSequence),
        Math.max(max, file.durableBehindEnd),
      ),
    0,
  );
  const records: FoundRecord[] = [];
  const ends = new Map<number, { end: number; lastSequence: number }>();
  let next: number | undefined;
  let cut: FoundRecord | undefined;
  for (const file of files) {
    if (file.epoch === 0) continue;
    ends.set(file.number, { end: fileHeaderBytes, lastSequence: file.firstSequence - 1 });
    for (const record of file.records) {
      const { sequence } = record.header;
      // What replay does not need may have gaps: files are trimmed as wholes.
      if (sequence <= afterSequence) continue;
      next ??= afterSequence + 1;
      const isWhole = record.isPayloadWhole || sequence <= durable;
      if (cut === undefined && (sequence !== next || !isWhole)) cut = record;
      if (cut !== undefined) break;
      if (!record.isPayloadWhole)
        log.error({ file: record.file, offset: record.offset, sequence }, 'journal is damaged');
      records.push(record);
      next += 1;
      const end = record.offset + recordBytes(record.header.checksums.length);
      ends.set(file.number, { end, lastSequence: sequence });
    }
    if (cut) break;
  }
  const last = (next ?? afterSequence + 1) - 1;
  if (durable > last)
    throw new StorageError(
      'corrupt',
      `the journal has lost durable records ${last + 1} to ${durable}`,
      { detail: { lastWhole: last, durable } },
    );
  if (cut)
    log.warn({ file: cut.file, offset: cut.offset, after: last }, 'torn end of the journal is cut');
  const kept = files.flatMap((file) => {
    const found = ends.get(file.number);
    // One that begins behind what is kept would stay until there are as many records again.
    if (!found || found.lastSequence > last) return [];
    return [{ number: file.number, ...found, unsureFrom: unsureOf(file, durable) }];
  });
  return { records, files: kept };
}

/** Where that begins in a file of which no record says that it is durable; the header lies before. */
function unsureOf({ records }: FoundFile, durable: number): number {
  const index = records.findIndex(({ header }) => header.sequence > durable);
  if (index === -1) return records.length === 0 ? 0 : Number.POSITIVE_INFINITY;
  return index === 0 ? 0 : (records[index] as FoundRecord).offset;
}

async function readFile(deps: RecoveryDeps, number: number): Promise<FoundFile> {
  const { disk, checksum, folder, tag } = deps;
  await using file = closing(disk.open(`${folder}/${journalFileName(number)}`, 'read'));
  const reader = new WindowReader(file.value);
  const header = decodeFileHeader(await reader.view(0, fileHeaderBytes), checksum);
  const records: FoundRecord[] = [];
  let offset = fileHeaderBytes;
  // Without a header the power went before anything in the file was durable, or it is damaged:
  // the records in it tell.
  for (; header?.number === number; ) {
    const record = await readRecord(reader, checksum, number, offset);
    if (record === undefined || record.header.tag !== tag) break;
    if (records.length > 0 && record.header.sequence !== (records.at(-1)?.header.sequence ?? 0) + 1)
      break;
    records.push(record);
    offset += recordBytes(record.header.checksums.length);
  }
  const durableBehindEnd = await scanBehind(deps, reader, number, offset);
  const { epoch, firstSequence } = header ?? { epoch: 0, firstSequence: 0 };
  return { number, epoch, firstSequence, records, durableBehindEnd };
}

async function readRecord(
  reader: WindowReader,
  checksum: Checksum,
  file: number,
  offset: number,
): Promise<FoundRecord | undefined> {
  const head = await reader.view(offset, recordHeaderBytes + payloadBlocksMax * 4);
  const header = decodeRecordHead(head, checksum);
  if (header === undefined) return undefined;
  const blocks = header.checksums.length;
  const at = offset + payloadOffset(blocks);
  const payload = await reader.view(at, blocks * limits.blockBytes);
  const found = new Uint32Array(blocks);
  checksum.crc32cBlocks(payload, limits.blockBytes, found, 0);
  const isPayloadWhole =
    payload.length === blocks * limits.blockBytes &&
    found.every((crc, index) => crc === header.checksums[index]);
  return { header, file, offset, payloadOffset: at, isPayloadWhole };
}

/** Looks for records behind an unreadable one; they may prove that it had been durable. */
async function scanBehind(
  { checksum, tag }: RecoveryDeps,
  reader: WindowReader,
  file: number,
  from: number,
): Promise<number> {
  let durable = 0;
  for (let offset = from; ; offset += journalAlignment) {
    const next = await reader.findRecord(offset);
    if (next === undefined) return durable;
    offset = next;
    const record = await readRecord(reader, checksum, file, offset);
    if (record?.header.tag === tag) durable = Math.max(durable, record.header.durableSequence);
  }
}

const windowBytes = 4 * limits.requestBytesMax;
/** "WJRC" as it stands in the file. */
const magicBytes = [0x57, 0x4a, 0x52, 0x43] as const;

const zeroes = new Uint8Array(windowBytes);
const isZero = (bytes: Uint8Array) => Buffer.compare(bytes, zeroes.subarray(0, bytes.length)) === 0;

/** Reads a file forward through a window, so that recovery costs few large reads. */
class WindowReader {
  readonly #file: DiskFile;
  readonly #window = new Uint8Array(windowBytes);
  #from = 0;
  #length = 0;

  constructor(file: DiskFile) {
    this.#file = file;
  }

  /** `bytes` from `offset`, fewer at the end of the file; valid until the next call. */
  async view(offset: number, bytes: number): Promise<Uint8Array> {
    const isInside = offset >= this.#from && offset + bytes <= this.#from + this.#length;
    if (!isInside) await this.#load(offset);
    const at = offset - this.#from;
    return this.#window.subarray(at, Math.min(at + bytes, this.#length));
  }

  /** The first aligned offset at or behind `offset` where a record's magic stands. */
  async findRecord(offset: number): Promise<number | undefined> {
    for (let at = offset; ; ) {
      const bytes = await this.view(at, journalAlignment);
      if (bytes.length < magicBytes.length) return undefined;
      if (magicBytes.every((byte, index) => bytes[index] === byte)) return at;
      const rest = this.#window.subarray(at - this.#from, this.#length);
      // A file is allocated ahead: its unwritten end is skipped a window at a time.
      at += isZero(rest)
        ? Math.max(journalAlignment, rest.length - (rest.length % journalAlignment))
        : journalAlignment;
    }
  }

  async #load(offset: number): Promise<void> {
    this.#from = offset;
    this.#length = await readAt(this.#file, offset, this.#window);
  }
}
