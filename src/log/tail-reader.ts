/**
 * Hands the records of a journal to a host that is to go on with it: while they are appended, and
 * when the journal is closed as well. Where it has come is remembered, and nothing is held open.
 */

import { closing } from '../core/closing.ts';
import type { Disk } from '../ports/disk.ts';
import { journalFileName, readAt } from './journal-file.ts';
import type { Journal } from './journal.ts';
import { JournalFollower } from './journal-follower.ts';

export interface TailReaderDeps {
  readonly disk: Disk;
  readonly folder: string;
  readonly journal: Pick<Journal, 'fileOf' | 'lastSequence'>;
  /** All records up to it are on the backend, and may be trimmed. */
  readonly committedSequence: () => number;
  readonly yieldTurn: () => Promise<void>;
}

export interface TailChunk {
  /** Whole records, one behind another; empty where there are no more now. */
  readonly records: Uint8Array;
  /** Records up to it may be missing before those. */
  readonly committed: number;
}

export class TailReader {
  readonly #deps: TailReaderDeps;
  #follower: JournalFollower | undefined;

  constructor(deps: TailReaderDeps) {
    this.#deps = deps;
  }

  /** What comes behind `afterSequence`: of the chunk before this one, or of one that was lost. */
  async read(afterSequence: number): Promise<TailChunk> {
    if (this.#follower?.lastSequence !== afterSequence)
      this.#follower = this.#startBehind(afterSequence);
    const { records } = await this.#follower.next();
    return { records, committed: this.#deps.committedSequence() };
  }

  #startBehind(afterSequence: number): JournalFollower {
    const { disk, folder, journal, yieldTurn } = this.#deps;
    const source = {
      fileOf: (sequence: number) => journal.fileOf(sequence),
      get lastSequence() {
        return journal.lastSequence;
      },
      // By name: a journal that is closed reads no more.
      read: async (number: number, offset: number, into: Uint8Array) => {
        await using file = closing(disk.open(`${folder}/${journalFileName(number)}`, 'read'));
        return await readAt(file.value, offset, into);
      },
    };
    return new JournalFollower(source, afterSequence, yieldTurn);
  }
}
