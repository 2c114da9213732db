/**
 * Takes away the pieces that no manifest names: those that a commit has replaced, and those that a
 * crash or a failed commit has left, which are found by a listing when the file is opened. One
 * worker for all files of a driver. Nothing depends on it: what it leaves is found again.
 *
 * All of them stay for some time, because the copy of the registry in the buckets is older than the
 * registry: a recovery finds the manifest that was copied last, and the pieces that it names.
 */

import { describeError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { Permits } from '../core/permits.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { ObjectId } from '../core/units.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Manifest } from './manifest.ts';
import { epochOfKey, piecePrefix } from './manifest.ts';

/** Names that wait to be deleted, over all files; with more the oldest go earlier. */
const waitingMax = 10_000;
/** Files whose listing waits; more are left for the next open. */
const listingsMax = 10_000;
const listingsAtOnce = 2;
/** Files that are known to have no leftovers. Above that it is listed again, no more. */
const tidyFilesMax = 65_536;

interface Discarded {
  readonly id: ObjectId;
  readonly key: string;
  readonly dueMs: number;
}

export interface JanitorDeps {
  readonly store: BlobStore;
  readonly clock: Clock;
  readonly log: Log;
  /** How long pieces stay that nobody names any more. */
  readonly keptMs: number;
}

export class Janitor {
  readonly #deps: JanitorDeps;
  /** In the order in which they are due. */
  readonly #waiting: Discarded[] = [];
  readonly #tidy = new Set<ObjectId>();
  /** Of files that are being copied. */
  readonly #spared = new Map<ObjectId, { readonly keys: string[]; uses: number }>();
  readonly #listings = new Permits(listingsAtOnce);
  #listingsWaiting = 0;
  readonly #tasks: TaskGroup;
  readonly #stop = new AbortController();
  /** Nothing is waited for any more. */
  readonly #hurry = new AbortController();
  /** Ends a wait for what is due next. */
  #wake = new AbortController();
  #isDeleting = false;

  constructor(deps: JanitorDeps) {
    this.#deps = deps;
    this.#tasks = new TaskGroup((error) => {
      if (this.#stop.signal.aborted) return;
      deps.log.warn({ error: describeError(error) }, 'old pieces of files are left for later');
    });
  }

  /** Pieces of the file stay, until as many calls of what this gives. */
  spare(id: ObjectId): () => void {
    const spared = this.#spared.get(id) ?? { keys: [], uses: 0 };
    this.#spared.set(id, spared);
    spared.uses += 1;
    let isEnded = false;
    return () => {
      if (isEnded) return;
      isEnded = true;
      spared.uses -= 1;
      if (spared.uses > 0) return;
      this.#spared.delete(id);
      this.discard(id, spared.keys);
    };
  }

  /** The pieces are named by nobody any more, and nobody reads them. */
  discard(id: ObjectId, keys: readonly string[]): void {
    const spared = this.#spared.get(id);
    if (spared) return void spared.keys.push(...keys);
    const { clock, keptMs } = this.#deps;
    const dueMs = clock.monotonicMs() + keptMs;
    for (const key of keys) this.#waiting.push({ id, key, dueMs });
    if (this.#waiting.length > waitingMax) this.#wake.abort();
    if (this.#isDeleting || keys.length === 0) return;
    this.#isDeleting = true;
    this.#tasks.run(() =>
      this.#deleteWaiting().finally(() => {
        this.#isDeleting = false;
      }),
    );
  }

  /** Something of the file lies about that is only found by a listing. */
  leave(id: ObjectId): void {
    this.#tidy.delete(id);
  }

  /** The file was opened with this manifest: what earlier tenures left of others goes. */
  inspect(id: ObjectId, epoch: number, manifest: Manifest): void {
    // Nobody has written before the first tenure.
    if (this.#tidy.has(id) || (epoch > 1 && this.#listingsWaiting >= listingsMax)) return;
    this.#remember(id);
    if (epoch === 1) return;
    const named = new Set(manifest.pieces.map((piece) => piece?.key));
    this.#listingsWaiting += 1;
    this.#tasks.run(async () => {
      try {
        await this.#pause(this.#deps.keptMs, this.#hurry.signal);
        if (this.#hurry.signal.aborted) return this.leave(id);
        await this.#listings.run(1, () => this.#removeLeftovers(id, epoch, named));
      } catch (error) {
        this.leave(id);
        throw error;
      } finally {
        this.#listingsWaiting -= 1;
      }
    });
  }

  /** Resolves when there is nothing left to do. */
  drained(): Promise<void> {
    return this.#tasks.drained();
  }

  /** What was replaced goes at once, because there is nobody to do it later. */
  hurry(): void {
    this.#hurry.abort();
  }

  /** Stops; what is left is found at the next open. */
  async close(): Promise<void> {
    this.#hurry.abort();
    this.#stop.abort();
    await this.#tasks.drained();
  }

  #remember(id: ObjectId): void {
    if (this.#tidy.size >= tidyFilesMax) this.#tidy.clear();
    this.#tidy.add(id);
  }

  async #removeLeftovers(
    id: ObjectId,
    epoch: number,
    named: ReadonlySet<string | undefined>,
  ): Promise<void> {
    const { store, log } = this.#deps;
    const { signal } = this.#stop;
    let after: string | undefined;
    do {
      const prefix = piecePrefix(id);
      const { blobs, next } = await store.list({ prefix, signal, ...(after && { after }) });
      const keys = blobs.map(({ key }) => key);
      // What the tenure itself writes meanwhile may be named by its next manifest.
      const left = keys.filter((key) => !named.has(key) && (epochOfKey(key) ?? epoch) < epoch);
      if (left.length > 0) {
        await store.deleteMany(left, { signal });
        log.info({ object: id, pieces: left.length }, 'removed what a crash left of a file');
      }
      after = next;
    } while (after !== undefined);
  }

  async #deleteWaiting(): Promise<void> {
    const { store, clock } = this.#deps;
    const { signal } = this.#stop;
    for (;;) {
      const batch = this.#takeDue();
      const [next] = this.#waiting;
      try {
        const keys = batch.map(({ key }) => key);
        if (keys.length > 0) await store.deleteMany(keys, { signal });
        else if (next) {
          this.#wake = new AbortController();
          const signals = AbortSignal.any([this.#wake.signal, this.#hurry.signal]);
          await this.#pause(next.dueMs - clock.monotonicMs(), signals);
        } else return;
      } catch (error) {
        for (const { id } of batch) this.leave(id);
        throw error;
      }
    }
  }

  #takeDue(): readonly Discarded[] {
    const nowMs = this.#deps.clock.monotonicMs();
    const isHurried = this.#hurry.signal.aborted;
    const notDue = this.#waiting.findIndex(({ dueMs }) => dueMs > nowMs);
    const due = isHurried || notDue === -1 ? this.#waiting.length : notDue;
    const count = Math.max(due, this.#waiting.length - waitingMax);
    return this.#waiting.splice(0, Math.min(count, limits.listEntriesMax));
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    if (ms > 0) await this.#deps.clock.sleep(ms, { signal }).catch(() => {});
  }
}
