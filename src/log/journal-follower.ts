/**
 * Reads a journal behind its writer: the records that were appended since the last look, byte for
 * byte, out of the page cache. So a replica that is slow costs no memory: the journal itself is
 * what waits for it.
 *
 * Whoever gets records verifies them. Here it is seen that none is passed over because it was damaged
 * on the SSD: those in one file are consecutive.
 */

import { StorageError } from '../core/errors.ts';
import { invariant } from '../core/invariant.ts';
import { isPending } from '../core/eventually.ts';
import { fileHeaderBytes, peekRecord } from '../format/journal-record.ts';
import type { Journal } from './journal.ts';
import { tailChunkBytesMax } from './tail-store.ts';

export interface Chunk {
  /** Whole records, one behind another; empty where there is none yet. */
  readonly records: Uint8Array;
  /** Sequence of the last one, or of one behind it that was trimmed. */
  readonly lastSequence: number;
}

/** A journal, as far as it is read. */
export type Followed = Pick<Journal, 'fileOf' | 'lastSequence' | 'read'>;

export class JournalFollower {
  readonly #journal: Followed;
  readonly #yieldTurn: () => Promise<void>;
  #lastSequence: number;
  #file = 0;
  #offset = 0;
  /** Sequence of the record that stands at the offset; undefined where the file begins. */
  #next: number | undefined;

  /**
   * Begins behind `afterSequence`, or where the journal begins. `yieldTurn`: between chunks of what
   * is skipped.
   */
  constructor(
    journal: Followed,
    afterSequence: number,
    yieldTurn: () => Promise<void> = () => Promise.resolve(),
  ) {
    this.#journal = journal;
    this.#yieldTurn = yieldTurn;
    this.#lastSequence = afterSequence;
  }

  /** Sequence of the last record that was handed out, or of one behind it that was trimmed. */
  get lastSequence(): number {
    return this.#lastSequence;
  }

  /** `corrupt` where what the disk has is not what was appended. */
  async next(): Promise<Chunk> {
    for (;;) {
      const file = this.#journal.fileOf(this.#lastSequence + 1);
      if (!file) {
        // Whatever was appended is trimmed: nobody needs to be sent it any more.
        this.#lastSequence = this.#journal.lastSequence;
        return { records: new Uint8Array(0), lastSequence: this.#lastSequence };
      }
      if (file.number !== this.#file) {
        this.#file = file.number;
        this.#offset = fileHeaderBytes;
        this.#next = undefined;
      }
      const bytes = new Uint8Array(Math.min(file.end - this.#offset, tailChunkBytesMax));
      const read = this.#journal.read(file.number, this.#offset, bytes);
      const count = isPending(read) ? await read : read;
      invariant(count === bytes.length, 'a journal holds what was appended to it');
      const { from, to } = this.#take(bytes);
      this.#offset += to;
      if (to > from) return { records: bytes.subarray(from, to), lastSequence: this.#lastSequence };
      await this.#yieldTurn();
    }
  }

  /** The range of the whole records in `bytes` that are new. */
  #take(bytes: Uint8Array): { from: number; to: number } {
    let from = 0;
    let to = 0;
    for (;;) {
      const record = peekRecord(bytes.subarray(to));
      if (record === undefined) break;
      if (this.#next !== undefined && record.sequence !== this.#next) throw damaged();
      this.#next = record.sequence + 1;
      to += record.bytes;
      if (record.sequence <= this.#lastSequence) from = to;
      else this.#lastSequence = record.sequence;
    }
    if (to === 0) throw damaged();
    return { from, to };
  }
}

const damaged = () => new StorageError('corrupt', 'a record of the journal is damaged');
