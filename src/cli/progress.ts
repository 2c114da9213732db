/** One line that is written over and over, on a terminal only: how far a copy is. */

import { formatSize, formatTime } from '../daemon/units.ts';

const pauseMs = 200;

export interface Amounts {
  /** Where the copy is. */
  readonly doneBytes: number;
  /** Undefined: nobody knows. */
  readonly totalBytes: number | undefined;
  /** Of data, without what is skipped. */
  readonly copiedBytes: number;
  readonly elapsedMs: number;
}

export function describeProgress(amounts: Amounts): string {
  const { doneBytes, totalBytes, copiedBytes, elapsedMs } = amounts;
  const rate = `${formatSize(Math.round((copiedBytes * 1000) / Math.max(1, elapsedMs)))}/s`;
  if (totalBytes === undefined) return `${formatSize(doneBytes)}, ${rate}`;
  const done = `${formatSize(doneBytes)} of ${formatSize(totalBytes)}, ${rate}`;
  if (doneBytes === 0) return done;
  return `${done}, ${formatTime((elapsedMs * (totalBytes - doneBytes)) / doneBytes)} left`;
}

export class Progress {
  readonly #totalBytes: number | undefined;
  readonly #isShown = process.stderr.isTTY;
  readonly #beganMs = performance.now();
  #copiedBytes = 0;
  #shownMs = 0;
  #tookMs = 0;

  constructor(totalBytes: number | undefined) {
    this.#totalBytes = totalBytes;
  }

  /** When it has ended. */
  get tookMs(): number {
    return this.#tookMs;
  }

  note(doneBytes: number, copiedBytes: number): void {
    this.#copiedBytes += copiedBytes;
    const elapsedMs = performance.now() - this.#beganMs;
    if (!this.#isShown || elapsedMs < this.#shownMs + pauseMs) return;
    this.#shownMs = elapsedMs;
    const amounts = { doneBytes, copiedBytes: this.#copiedBytes, elapsedMs };
    const line = describeProgress({ ...amounts, totalBytes: this.#totalBytes });
    process.stderr.write(`\r\u001b[K${line}`);
  }

  /** The share of the whole that is done, from 0 to 1; how much of it was data, nobody says. */
  reach(share: number): void {
    const doneBytes = Math.round((this.#totalBytes ?? 0) * share);
    this.note(doneBytes, doneBytes - this.#copiedBytes);
  }

  end(): void {
    if (this.#isShown) process.stderr.write('\r\u001b[K');
    this.#tookMs = Math.round(performance.now() - this.#beganMs);
  }
}
