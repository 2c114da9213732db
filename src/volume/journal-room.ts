/**
 * Back-pressure: writers wait here when the journal is full or the SSD is, first come, first
 * served, until destaging has given space back. Waiting is visible in the volume's status.
 */

import type { Journal } from '../log/journal.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';

/** How often an append is tried again while the SSD is full for another's reason. */
const diskFullRetryMs = 500;

/** `waited`: this writer's wait has just ended. */
export type Turn = 'newcomer' | 'waited';

export class JournalRoom {
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #signal: AbortSignal;
  readonly #hurry: () => void;
  readonly #makeSpace: () => void;
  readonly #waiting: { readonly bytes: number; readonly go: () => void }[] = [];
  #isDiskFull = false;

  constructor(
    journal: Journal,
    clock: Clock,
    log: Log,
    options: {
      readonly signal: AbortSignal;
      readonly hurry: () => void;
      /** Of the SSD, for another file of the journal. */
      readonly makeSpace: () => void;
    },
  ) {
    this.#journal = journal;
    this.#clock = clock;
    this.#log = log;
    this.#signal = options.signal;
    this.#hurry = options.hurry;
    this.#makeSpace = options.makeSpace;
  }

  /** Why writers wait, if they do. */
  get reason(): 'journal full' | 'disk full' | undefined {
    if (this.#isDiskFull) return 'disk full';
    return this.#waiting.length > 0 ? 'journal full' : undefined;
  }

  /** Whether so many bytes of payload may be appended now; newcomers don't overtake who waits. */
  isFree(bytes: number, turn: Turn): boolean {
    if (turn === 'newcomer' && this.#waiting.length > 0) return false;
    return !this.#isDiskFull && this.#journal.hasRoom(bytes);
  }

  noteDiskFull(): void {
    if (this.#isDiskFull) return;
    this.#isDiskFull = true;
    this.#log.warn({}, 'disk of the journal is full; writers wait');
    this.#makeSpace();
    void this.#retry();
  }

  /** Resolves when it is this writer's turn and there may be room. Rejects when the volume ends. */
  wait(bytes: number): Promise<void> {
    this.#hurry();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = () => reject(this.#signal.reason as Error);
    if (this.#signal.aborted) onAbort();
    this.#signal.addEventListener('abort', onAbort, { once: true });
    const go = () => {
      this.#signal.removeEventListener('abort', onAbort);
      resolve();
    };
    this.#waiting.push({ bytes, go });
    this.wake();
    return promise;
  }

  /** Space was given back. */
  wake(): void {
    while (!this.#isDiskFull) {
      const first = this.#waiting[0];
      if (!first || !this.#journal.hasRoom(first.bytes)) break;
      this.#waiting.shift();
      first.go();
    }
  }

  async #retry(): Promise<void> {
    await this.#clock.sleep(diskFullRetryMs, { signal: this.#signal }).catch(() => {});
    this.#isDiskFull = false;
    this.wake();
  }
}
