/**
 * Moves a volume's journal to the backend, in the background and when asked:
 *
 *   cut         the active generation is frozen: a state that the volume had
 *   write       its blocks are packed into segments, which are put in parallel
 *   commit      when all of them are stored, in the order of the cuts, the head is committed
 *   trim        only then the journal's records are given up
 *
 * and, less often, checkpoints the block map. Several cuts may be on their way at once; commits
 * never overtake each other. Nothing here fails for trouble that gets better: the store and the
 * registry below wait. What does fail (fenced, or a bug) goes to `onFailure` and ends the volume.
 */

import { isStorageError } from '../core/errors.ts';
import { Permits } from '../core/permits.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { Write } from '../ports/registry.ts';
import type { BlockMap, Cut } from './block-map.ts';
import type { Checkpointer } from './checkpointer.ts';
import type { CutWriterDeps } from './cut-writer.ts';
import { writeCut } from './cut-writer.ts';
import type { HeadCommitter } from './head-committer.ts';
import type { VolumeSettings } from './settings.ts';

const cutsOnTheirWayMax = 4;
/** A cut with more trimmed ranges than this is taken at once, so that its index stays small. */
const trimsMax = 4096;

export interface DestagerDeps extends CutWriterDeps {
  readonly map: BlockMap;
  readonly committer: HeadCommitter;
  readonly checkpointer: Checkpointer;
  /** Size of the volume now, bytes. */
  readonly volumeBytes: () => number;
  /** Journal space was given back. */
  readonly onTrimmed: () => void;
  readonly onFailure: (error: unknown) => void;
  readonly signal: AbortSignal;
}

export class Destager {
  readonly #deps: DestagerDeps;
  readonly #settings: VolumeSettings;
  readonly #tasks: TaskGroup;
  readonly #onTheirWay = new Permits(cutsOnTheirWayMax);
  /** Resolves when every cut taken so far is committed. */
  #committed: Promise<void> = Promise.resolve();
  /** The last record of the last cut. */
  #cutSequence: number;
  #bytesSinceCut = 0;
  /** Size of the volume after the last cut. */
  #cutVolumeBytes: number;
  #timer: AbortController | undefined;
  #isCutting = false;

  constructor(deps: DestagerDeps, settings: VolumeSettings) {
    this.#deps = deps;
    this.#settings = settings;
    this.#cutVolumeBytes = deps.committer.head.volumeBytes;
    this.#cutSequence = deps.committer.head.journalSequence;
    this.#tasks = new TaskGroup((error) => {
      if (!deps.signal.aborted) deps.onFailure(error);
    });
  }

  /** Tells of a change that the journal holds now. */
  noteChange(bytes: number): void {
    this.#bytesSinceCut += bytes;
    const { active } = this.#deps.map;
    if (this.#bytesSinceCut >= this.#settings.cutBytes || active.trims.count >= trimsMax)
      this.#cutSoon();
    else this.#timer ??= this.#startTimer();
  }

  /** The journal is full: the sooner it is destaged the better. */
  hurry(): void {
    if (!this.#deps.map.active.isEmpty) this.#cutSoon();
  }

  /** Resolves when all changes before the call are committed on the backend, map and all. */
  async sync(): Promise<void> {
    await this.#onTheirWay.acquire(1, { signal: this.#deps.signal });
    this.#cut();
    await this.#committed;
    await this.#deps.checkpointer.checkpointNow();
  }

  /**
   * The state of this moment is committed as a whole, together with what `also` writes beside the
   * head that is it. Does not wait for a place among the cuts: no change gets into it any more.
   */
  snapshot(also: (head: Uint8Array) => readonly Write[]): Promise<void> {
    const { committer } = this.#deps;
    const before = this.#committed;
    const cut = this.#freeze();
    const committed = cut
      ? this.#destage(cut, before, also)
      : before.then(() =>
          committer.commit(
            (head) => head,
            () => {},
            also,
          ),
        );
    this.#committed = committed;
    this.#tasks.run(() => committed);
    return committed;
  }

  /** Waits for background work to end; the signal has been aborted or nothing is left. */
  async drained(): Promise<void> {
    this.#timer?.abort();
    await this.#tasks.drained();
    await this.#deps.checkpointer.drained();
  }

  #startTimer(): AbortController {
    const { clock, signal } = this.#deps;
    const timer = new AbortController();
    const options = { signal: AbortSignal.any([timer.signal, signal]) };
    this.#tasks.run(() =>
      clock.sleep(this.#settings.destageDelayMs, options).then(
        () => {
          if (this.#timer === timer) this.#timer = undefined;
          this.#cutSoon();
        },
        () => {},
      ),
    );
    return timer;
  }

  /** Takes a cut as soon as one may be on its way; changes until then join it. */
  #cutSoon(): void {
    if (this.#isCutting) return;
    this.#isCutting = true;
    const { signal } = this.#deps;
    this.#tasks.run(async () => {
      try {
        await this.#onTheirWay.acquire(1, { signal });
      } finally {
        this.#isCutting = false;
      }
      this.#cut();
    });
  }

  /** The caller holds a permit, which goes with the cut. */
  #cut(): void {
    const release = () => this.#onTheirWay.release(1);
    const cut = this.#freeze();
    if (!cut) return release();
    const committed = this.#destage(cut, this.#committed).finally(release);
    this.#committed = committed;
    this.#tasks.run(() => committed);
  }

  /** All changes so far, as a cut; undefined where there are none since the last one. */
  #freeze(): Cut | undefined {
    const { map, journal, volumeBytes } = this.#deps;
    this.#timer?.abort();
    this.#timer = undefined;
    this.#bytesSinceCut = 0;
    if (map.active.isEmpty && this.#cutVolumeBytes === volumeBytes()) return undefined;
    this.#cutVolumeBytes = volumeBytes();
    return map.freeze(journal.lastSequence, this.#cutVolumeBytes);
  }

  async #destage(
    cut: Cut,
    before: Promise<void>,
    also?: (head: Uint8Array) => readonly Write[],
  ): Promise<void> {
    const { map, journal, committer, checkpointer, sequencer } = this.#deps;
    const { segmentBytes } = this.#settings;
    const followsSequence = this.#cutSequence;
    this.#cutSequence = cut.journalSequence;
    const written = await writeCut(this.#deps, cut, { segmentBytes, followsSequence });
    await written.stored;
    await before;
    await checkpointer.roomInDelta();
    const ranges = toRanges(sequencer.epoch, written.sequences);
    await committer.commit(
      (head) => ({
        ...head,
        volumeBytes: cut.volumeBytes,
        journalSequence: cut.journalSequence,
        tail: [...head.tail, ...ranges],
      }),
      () => map.commitCut(cut, written.rows, written.places),
      also,
    );
    journal.trim(cut.journalSequence);
    this.#deps.onTrimmed();
    checkpointer.checkpointIfDue();
  }
}

/** Map segments may lie between those of a cut; a range holds data segments alone. */
function toRanges(epoch: number, sequences: readonly number[]) {
  const ranges: { epoch: number; first: number; last: number; origin: number }[] = [];
  for (const sequence of sequences) {
    const last = ranges.at(-1);
    if (last && last.last + 1 === sequence) last.last = sequence;
    else ranges.push({ epoch, first: sequence, last: sequence, origin: 0 });
  }
  return ranges;
}

/** Whether an error ended background work because the volume was let go. */
export function isEnd(error: unknown): boolean {
  return isStorageError(error, 'fenced') || isStorageError(error, 'closed');
}
