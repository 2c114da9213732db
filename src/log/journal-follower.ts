/**
 * Reads a journal behind its writer: the records that were appended since the last look, byte for
 * byte, out of the page cache. So a replica that is slow costs no memory: the journal itself is
 * what waits for it.
 */

import { invariant } from '../core/invariant.ts';
import { isPending } from '../core/eventually.ts';
import { fileHeaderBytes, peekRecord } from '../format/journal-record.ts';
import type { Journal } from './journal.ts';
import { tailChunkBytesMax } from './tail-store.ts';

export interface Followed {
  /** Whole records, one behind another; empty where there is none yet. */
  readonly records: Uint8Array;
  /** Sequence of the last one, or of one behind it that was trimmed. */
  readonly lastSequence: number;
}

export class JournalFollower {
  readonly #journal: Journal;
  #lastSequence: number;
  #file = 0;
  #offset = 0;

  /** Begins behind `afterSequence`, or where the journal begins. */
  constructor(journal: Journal, afterSequence: number) {
    this.#journal = journal;
    this.#lastSequence = afterSequence;
  }

  async next(): Promise<Followed> {
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
      }
      const bytes = new Uint8Array(Math.min(file.end - this.#offset, tailChunkBytesMax));
      const read = this.#journal.read(file.number, this.#offset, bytes);
      const count = isPending(read) ? await read : read;
      invariant(count === bytes.length, 'a journal holds what was appended to it');
      const { from, to } = this.#take(bytes);
      this.#offset += to;
      if (to > from) return { records: bytes.subarray(from, to), lastSequence: this.#lastSequence };
    }
  }

  /** The range of the whole records in `bytes` that are new. */
  #take(bytes: Uint8Array): { from: number; to: number } {
    let from = 0;
    let to = 0;
    for (;;) {
      const record = peekRecord(bytes.subarray(to));
      if (record === undefined) break;
      to += record.bytes;
      if (record.sequence <= this.#lastSequence) from = to;
      else this.#lastSequence = record.sequence;
    }
    invariant(to > 0, 'a chunk holds the largest record');
    return { from, to };
  }
}
