/**
 * A virtual disk in use: the DataObject over journal, block map, segments and their background
 * work. It composes the paths and holds the states:
 *
 *   open      serves
 *   failed    the journal can't be trusted (a failed fdatasync), or background work broke: changes
 *             and flushes are refused for good, reads go on. With `fenced` where somebody else can
 *             go on: the backend or a copy has all that was acknowledged
 *   closed    let go, with (close) or without (abandon) a flush
 *
 * The end of the tenure refuses everything with `fenced`.
 */

import { describeError, isStorageError, StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import { chain, isPending } from '../core/eventually.ts';
import { limits } from '../core/limits.ts';
import type { ObjectId } from '../core/units.ts';
import { within } from '../core/within.ts';
import type { Journal } from '../log/journal.ts';
import type { ReplicaStatus, Replicator } from '../log/replicator.ts';
import type { SegmentUploader } from '../log/segment-uploader.ts';
import type { TailReader } from '../log/tail-reader.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { ChangesSoFar, DrivenObject } from '../ports/object-driver.ts';
import type { Tenure } from '../ports/tenure.ts';
import type { SnapshotRecords } from '../registry/snapshot-records.ts';
import type { BlockMap } from './block-map.ts';
import type { BlockReader } from './block-reader.ts';
import type { BlockWriter } from './block-writer.ts';
import type { Checkpointer } from './checkpointer.ts';
import { isEnd, type Destager } from './destager.ts';
import type { HeadCommitter } from './head-committer.ts';
import type { JournalRoom } from './journal-room.ts';
import type { ReadAhead } from './read-ahead.ts';
import type { SourcesByOrigin } from './page-tree.ts';
import { seekInMap } from './seek.ts';
import type { SegmentSequencer } from './segment-sequencer.ts';
import { VolumeCare } from './volume-care.ts';

const { blockBytes } = limits;
/** How long the registry is waited for when a volume is closed. */
const leaveMsMax = 3000;
/** How long a copy has for what it lacks of a journal that has failed. */
const handOffMsMax = 2000;
const noCopy =
  'there is no copy of its last changes: it takes no more until the daemon is restarted';

export interface VolumeParts {
  readonly tenure: Tenure;
  readonly log: Log;
  readonly journal: Journal;
  readonly map: BlockMap;
  readonly reader: BlockReader;
  readonly writer: BlockWriter;
  readonly readAhead: ReadAhead;
  readonly room: JournalRoom;
  readonly destager: Destager;
  readonly checkpointer: Checkpointer;
  readonly committer: HeadCommitter;
  readonly sequencer: SegmentSequencer;
  readonly snapshots: SnapshotRecords;
  readonly sources: SourcesByOrigin;
  readonly uploader: SegmentUploader;
  readonly replicator: Replicator;
  readonly clock: Clock;
  readonly yieldTurn: () => Promise<void>;
  /** Ends background work. */
  readonly stop: AbortController;
  readonly onClosed: () => void;
  /** Removes the journal from the disk: nothing in it is needed any more. */
  readonly discardJournal: () => Promise<void>;
  readonly readTail: () => TailReader;
}

/** For `wharf vdisk show`. */
export interface VolumeStatus extends ReplicaStatus {
  readonly sizeBytes: number;
  readonly usedBytes: number;
  readonly notDestagedBytes: number;
  readonly journalBytes: number;
  readonly epoch: number;
  readonly state: 'open' | 'failed' | 'closed';
  readonly failure: string | undefined;
  /** Reads that met damaged data since the volume was opened. */
  readonly damagedReads: number;
  /** Why writers wait, if they do. */
  readonly waiting: string | undefined;
  readonly uploadedBytes: number;
  readonly uploadedSegments: number;
  /** Live bytes that were copied to win space back, and the dead ones that went for it. */
  readonly rewrittenBytes: number;
  readonly reclaimedBytes: number;
}

export class Volume implements DrivenObject {
  readonly id: ObjectId;
  readonly care: VolumeCare;
  readonly #parts: VolumeParts;
  /** Changes are acknowledged when they are where they must be. */
  readonly #protected = (sequence: number) => this.#parts.replicator.written(sequence);
  #state: 'open' | 'failed' | 'closed' = 'open';
  #isFrozen: boolean;
  #failure: unknown;
  #damagedReads = 0;
  #closing: Promise<void> | undefined;
  #abandoning: Promise<void> | undefined;

  constructor(parts: VolumeParts) {
    this.id = parts.tenure.objectId;
    this.#parts = parts;
    const size = () => this.size();
    const assertWritable = () => this.assertWritable();
    const freeze = () => {
      this.#isFrozen = true;
    };
    this.#isFrozen = parts.tenure.isFrozen === true;
    this.care = new VolumeCare({ ...parts, size, assertWritable, freeze });
  }

  get epoch(): number {
    return this.#parts.tenure.epoch;
  }

  get changes(): ChangesSoFar {
    const { journal, committer } = this.#parts;
    return { last: journal.lastSequence, starts: committer.head.starts };
  }

  size(): number {
    return this.#parts.writer.volumeBytes;
  }

  allocatedBytes(): number {
    return this.#parts.map.dataBlocks * blockBytes;
  }

  status(): VolumeStatus {
    const { map, journal, room, tenure, uploader, replicator, checkpointer } = this.#parts;
    const uploaded = uploader.statistics;
    return {
      sizeBytes: this.size(),
      usedBytes: this.allocatedBytes(),
      notDestagedBytes: map.journalBlocks * blockBytes,
      journalBytes: journal.usedBytes,
      epoch: tenure.epoch,
      state: this.#state,
      failure: this.#failure === undefined ? undefined : describeError(this.#failure),
      damagedReads: this.#damagedReads,
      waiting: room.reason,
      uploadedBytes: uploaded.bytes,
      uploadedSegments: uploaded.segments,
      ...checkpointer.compaction,
      ...replicator.status,
    };
  }

  read(offset: number, into: Uint8Array): Eventually<number> {
    this.#assertReadable();
    const bytes = Math.min(into.length, Math.max(0, this.size() - offset));
    if (bytes === 0) return 0;
    this.#parts.readAhead.note(offset, bytes);
    try {
      const area = bytes === into.length ? into : into.subarray(0, bytes);
      const read = this.#parts.reader.readBytes(offset, area);
      if (!isPending(read)) return bytes;
      return read.then(
        () => bytes,
        (error: unknown) => this.#reportDamage(error, offset, bytes),
      );
    } catch (error) {
      return this.#reportDamage(error, offset, bytes);
    }
  }

  write(offset: number, data: Uint8Array): Eventually<number> {
    this.#assertChangeable();
    return chain(this.#parts.writer.write(offset, data), this.#protected);
  }

  trim(offset: number, length: number): Eventually<number> {
    this.#assertChangeable();
    return chain(this.#parts.writer.trim(offset, length), this.#protected);
  }

  resize(bytes: number): Eventually<number> {
    this.#assertChangeable();
    return chain(this.#parts.writer.resize(bytes), this.#protected);
  }

  seek(offset: number, what: 'data' | 'hole'): Eventually<number | undefined> {
    this.#assertReadable();
    const { map, yieldTurn } = this.#parts;
    return seekInMap(map, yieldTurn, { offset, what, size: this.size() });
  }

  async flush(): Promise<void> {
    this.assertWritable();
    const { journal, replicator } = this.#parts;
    try {
      await Promise.all([journal.sync(), replicator.durable(journal.lastSequence)]);
    } catch (error) {
      this.assertWritable();
      throw error;
    }
    // The right may have ended while the disk was at work: then this host may not acknowledge.
    this.assertWritable();
  }

  async sync(): Promise<void> {
    await this.flush();
    await this.#parts.destager.sync();
  }

  /** The journal's records, for who is to go on with the volume; also when it is let go. */
  tail(): TailReader {
    return this.#parts.readTail();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Breaks off a `close` that waits. */
  abandon(): Promise<void> {
    this.#closing?.catch(() => {});
    this.#abandoning ??= this.#abandon();
    return this.#abandoning;
  }

  /** Background work failed: nothing more can be promised. */
  fail(error: unknown): void {
    if (this.#state !== 'open') return;
    this.#state = 'failed';
    this.#failure = error;
    this.#parts.stop.abort(error);
    const { log } = this.#parts;
    if (isEnd(error)) log.warn({ error: describeError(error) }, 'volume is let go');
    else log.error({ error: describeError(error) }, 'volume has failed');
  }

  async handOff(): Promise<void> {
    if (this.#state === 'closed' || this.#parts.journal.state !== 'failed') return;
    const { clock, replicator, log } = this.#parts;
    try {
      await within(clock, handOffMsMax, replicator.handOff());
    } catch (error) {
      log.warn({ error: describeError(error) }, 'copy may lack what was not flushed');
    }
  }

  /** The journal can't be trusted: others go on, if they have all that was acknowledged. */
  #giveUp(error: unknown): void {
    const { replicator, log } = this.#parts;
    if (this.#state !== 'open') return;
    if (!replicator.isElsewhere)
      return this.fail(new StorageError('failed', noCopy, { cause: error }));
    this.#state = 'failed';
    this.#failure = new StorageError('fenced', 'its journal has failed', { cause: error });
    log.warn({ error: describeError(error) }, 'volume leaves this host: its journal has failed');
  }

  async #close(): Promise<void> {
    if (this.#state === 'open') await this.flush();
    const isLeft = this.#state === 'open' && this.#isOnBackend() && (await this.#leave());
    await this.#letGo();
    await this.#parts.journal.close();
    if (isLeft) await this.#parts.discardJournal();
  }

  #isOnBackend(): boolean {
    const { map, committer } = this.#parts;
    return (
      map.journalBlocks === 0 && map.active.isEmpty && committer.head.volumeBytes === this.size()
    );
  }

  /** Records that any host may take the volume; false where that is not known to be recorded. */
  async #leave(): Promise<boolean> {
    const { replicator, clock, log } = this.#parts;
    try {
      return (await within(clock, leaveMsMax, replicator.leave())) === 'done';
    } catch (error) {
      log.warn({ error: describeError(error) }, 'volume stays with this host');
      return false;
    }
  }

  async #abandon(): Promise<void> {
    await this.#letGo();
    await this.#parts.journal.abandon();
  }

  async #letGo(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    const { stop, destager, reader, map, replicator } = this.#parts;
    stop.abort(new StorageError('closed', 'the volume is closed'));
    await destager.drained();
    await replicator.drained();
    await reader.settled();
    map.tree.close();
    this.#parts.onClosed();
  }

  #assertChangeable(): void {
    if (this.#isFrozen) throw new StorageError('read_only', 'a template is not written');
    this.assertWritable();
  }

  #reportDamage(error: unknown, offset: number, bytes: number): never {
    if (isStorageError(error, 'corrupt')) {
      this.#damagedReads += 1;
      this.#parts.log.error({ offset, bytes, error: describeError(error) }, 'data is damaged');
    }
    throw error;
  }

  #assertReadable(): void {
    if (this.#state === 'closed') throw new StorageError('closed', 'the volume is closed');
    this.#parts.tenure.assertLive();
  }

  /** Throws once changes can't be acknowledged any more. */
  assertWritable(): void {
    this.#assertReadable();
    if (this.#parts.journal.state === 'failed') this.#giveUp(this.#parts.journal.failure);
    if (this.#state !== 'failed') return;
    // Background work may have met a later tenure before its caller does.
    const code = isStorageError(this.#failure, 'fenced') ? 'fenced' : 'failed';
    throw new StorageError(code, 'the volume takes no more changes on this host', {
      cause: this.#failure,
    });
  }
}
