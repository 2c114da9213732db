/**
 * Takes away the pieces that no manifest names: those that a commit has replaced, and those that a
 * crash or a failed commit has left, which are found by a listing when the file is opened. One
 * worker for all files of a driver. Nothing depends on it: what it leaves is found again.
 */

import { describeError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { Permits } from '../core/permits.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { ObjectId } from '../core/units.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { Log } from '../ports/log.ts';
import type { Manifest } from './manifest.ts';
import { epochOfKey, piecePrefix } from './manifest.ts';

/** Names that wait to be deleted, over all files; more are left for the next open. */
const waitingMax = 10_000;
const listingsAtOnce = 2;
/** Files that are known to have no leftovers. Above that it is listed again, no more. */
const tidyFilesMax = 65_536;

export class Janitor {
  readonly #store: BlobStore;
  readonly #log: Log;
  readonly #waiting: { readonly id: ObjectId; readonly key: string }[] = [];
  readonly #tidy = new Set<ObjectId>();
  /** Of files that are being copied. */
  readonly #spared = new Map<ObjectId, { readonly keys: string[]; uses: number }>();
  readonly #listings = new Permits(listingsAtOnce);
  readonly #tasks: TaskGroup;
  readonly #stop = new AbortController();
  #isDeleting = false;

  constructor(store: BlobStore, log: Log) {
    this.#store = store;
    this.#log = log;
    this.#tasks = new TaskGroup((error) => {
      if (this.#stop.signal.aborted) return;
      log.warn({ error: describeError(error) }, 'old pieces of files are left for later');
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
    if (this.#waiting.length + keys.length > waitingMax) return this.leave(id);
    for (const key of keys) this.#waiting.push({ id, key });
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
    if (this.#tidy.has(id)) return;
    this.#remember(id);
    // Nobody has written before the first tenure.
    if (epoch === 1) return;
    const named = new Set(manifest.pieces.map((piece) => piece?.key));
    this.#tasks.run(async () => {
      try {
        await this.#listings.run(1, () => this.#removeLeftovers(id, epoch, named));
      } catch (error) {
        this.leave(id);
        throw error;
      }
    });
  }

  /** Resolves when there is nothing left to do. */
  drained(): Promise<void> {
    return this.#tasks.drained();
  }

  /** Stops; what is left is found at the next open. */
  async close(): Promise<void> {
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
    const { signal } = this.#stop;
    let after: string | undefined;
    do {
      const prefix = piecePrefix(id);
      const { blobs, next } = await this.#store.list({ prefix, signal, ...(after && { after }) });
      const keys = blobs.map(({ key }) => key);
      // What the tenure itself writes meanwhile may be named by its next manifest.
      const left = keys.filter((key) => !named.has(key) && (epochOfKey(key) ?? epoch) < epoch);
      if (left.length > 0) {
        await this.#store.deleteMany(left, { signal });
        this.#log.info({ object: id, pieces: left.length }, 'removed what a crash left of a file');
      }
      after = next;
    } while (after !== undefined);
  }

  async #deleteWaiting(): Promise<void> {
    const { signal } = this.#stop;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, limits.listEntriesMax);
      try {
        const keys = batch.map(({ key }) => key);
        await this.#store.deleteMany(keys, { signal });
      } catch (error) {
        for (const { id } of batch) this.leave(id);
        throw error;
      }
    }
  }
}
