/**
 * The tail of a journal as it comes from the volume's owner: at first while that one still appends
 * to it, then the rest. It lies beside the place of the journal until it is whole and durable.
 */

import { StorageError } from '../core/errors.ts';
import type { FoundFile, FoundRecord } from '../log/journal-recovery.ts';
import type { TailStore } from '../log/tail-store.ts';

export interface IncomingTailDeps {
  readonly store: TailStore;
  /** Of the tenure that has written the journal. */
  readonly epoch: number;
  /** Marks the volume's records. */
  readonly tag: number;
  /** Records up to it are on the backend. */
  readonly afterSequence: number;
  /** Puts the tail into the place of the journal. */
  readonly place: (files: readonly FoundFile[]) => Promise<void>;
  readonly remove: () => void;
}

type Mutable = FoundFile & { readonly records: FoundRecord[] };

export class IncomingTail {
  readonly epoch: number;
  readonly #deps: IncomingTailDeps;
  readonly #files: Mutable[] = [];
  #lastSequence: number;
  #isOver = false;

  constructor(deps: IncomingTailDeps) {
    this.#deps = deps;
    this.epoch = deps.epoch;
    this.#lastSequence = deps.afterSequence;
  }

  /** Records up to it are here, or on the backend. */
  get lastSequence(): number {
    return this.#lastSequence;
  }

  /** Records behind `lastSequence`; none of those behind `committed` is missing. `corrupt`, `invalid`. */
  append(records: Uint8Array, committed: number): void {
    const { store, tag } = this.#deps;
    store.trim(committed);
    const found = store.append(this.epoch, records);
    const [first] = found;
    if (!first) return;
    const { sequence } = first.header;
    if (sequence > Math.max(this.#lastSequence, committed) + 1)
      throw new StorageError('invalid', `record ${sequence} follows record ${this.#lastSequence}`);
    if (found.some(({ header }) => header.tag !== tag))
      throw new StorageError('corrupt', 'a record is of another volume');
    const known = this.#files.at(-1);
    if (known?.number === first.file) known.records.push(...found);
    else
      this.#files.push({
        ...{ number: first.file, epoch: this.epoch, firstSequence: sequence },
        ...{ records: [...found], durableBehindEnd: 0 },
      });
    this.#lastSequence = store.lastSequence as number;
  }

  /** Resolves when all that was appended before is durable. */
  sync(): Promise<void> {
    return this.#deps.store.sync();
  }

  /** It is whole: the volume can be opened with it. */
  async keep(): Promise<void> {
    const { store, place } = this.#deps;
    await store.sync();
    await this.#end();
    await place(this.#files.filter(({ number }) => store.files.includes(number)));
  }

  /** What was fetched is of no use, unless it was kept. */
  async drop(): Promise<void> {
    if (this.#isOver) return;
    await this.#end();
    this.#deps.remove();
  }

  #end(): Promise<void> {
    this.#isOver = true;
    return this.#deps.store.close();
  }
}
