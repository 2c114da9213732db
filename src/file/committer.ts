/**
 * Brings the changes of one small file to the backend, one commit at a time. A commit puts the
 * changed pieces under new names, then replaces the manifest (which compares the epoch), then lets
 * go of what the old one named. A crash before the manifest leaves the old version, after it the
 * new one, whole in either case.
 *
 *   clean       all is committed
 *   changed     a commit is due, at the latest after the delay
 *   committing  what was changed when it began is on its way; changes made meanwhile wait for the
 *               next one, which everybody who asks shares
 */

import type { TenureStart } from '../core/changes.ts';
import { withStart } from '../core/changes.ts';
import { describeError, isStorageError, StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { ChangesSoFar } from '../ports/object-driver.ts';
import type { Tenure } from '../ports/tenure.ts';
import type { Janitor } from './janitor.ts';
import type { Manifest, Piece } from './manifest.ts';
import { pieceKey } from './manifest.ts';
import type { PieceCache } from './piece-cache.ts';
import type { PieceTable } from './piece-table.ts';
import type { BudgetHolder, WriteBackBudget } from './write-back-budget.ts';

const { pieceBytes } = limits;
const zeroes = new Uint8Array(pieceBytes);
const retryMsMin = 100;
const retryMsMax = 30_000;

export interface CommitterDeps {
  readonly store: BlobStore;
  readonly cache: PieceCache;
  readonly janitor: Janitor;
  readonly budget: WriteBackBudget;
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly log: Log;
  readonly commitManifest: (manifest: Manifest) => Promise<void>;
  readonly writeBackDelayMs: number;
}

export class Committer implements BudgetHolder {
  readonly #deps: CommitterDeps;
  readonly #tenure: Tenure;
  readonly #pieces: PieceTable;
  /** Resolves when the reads that are under way have ended. */
  readonly #readsEnded: () => Promise<unknown>;
  readonly #tasks: TaskGroup;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  #lastVersion: number;
  readonly #starts: readonly TenureStart[];
  #changes: number;
  #isChanged = false;
  #isTimed = false;
  /** Commits that failed since the last one that worked. */
  #failures = 0;
  #commit: Promise<void> | undefined;
  #nextCommit: Promise<void> | undefined;

  constructor(
    deps: CommitterDeps,
    tenure: Tenure,
    pieces: PieceTable,
    readsEnded: () => Promise<unknown>,
  ) {
    this.#deps = deps;
    this.#tenure = tenure;
    this.#pieces = pieces;
    this.#readsEnded = readsEnded;
    const { version, changes, starts } = pieces.manifest;
    this.#lastVersion = version;
    this.#changes = changes;
    this.#starts = withStart(starts, { epoch: tenure.epoch, after: changes });
    this.#signal = AbortSignal.any([this.#stop.signal, tenure.signal]);
    this.#tasks = new TaskGroup((error) => {
      if (!this.#signal.aborted)
        deps.log.warn({ error: describeError(error) }, 'background work of a file has failed');
    });
  }

  get isChanged(): boolean {
    return this.#isChanged;
  }

  get changes(): ChangesSoFar {
    return { last: this.#changes, starts: this.#starts };
  }

  /**
   * The pieces were changed: they are committed by themselves after the delay. Gives the change's
   * number.
   */
  noteChange(): number {
    this.#changes += 1;
    if (!this.#isChanged) {
      this.#isChanged = true;
      this.#deps.budget.join(this);
    }
    this.#commitLater();
    return this.#changes;
  }

  commitSoon(): void {
    // A failure is told where it happens, and what failed is tried again from there.
    this.#tasks.run(() => this.commit().catch(() => {}));
  }

  /** All that was changed before is on the backend and in the registry. */
  commit(): Promise<void> {
    if (!this.#isChanged) return this.#commit ?? Promise.resolve();
    if (this.#commit === undefined) {
      this.#commit = this.#runCommit().finally(() => {
        this.#commit = undefined;
      });
      return this.#commit;
    }
    this.#nextCommit ??= this.#commit
      .catch(() => {})
      .then(() => {
        this.#nextCommit = undefined;
        return this.commit();
      });
    return this.#nextCommit;
  }

  /** Ends what is under way; what is not committed is dropped. */
  async stop(): Promise<void> {
    this.#stop.abort(new StorageError('closed', 'the file is closed'));
    await this.#commit?.catch(() => {});
    await this.#tasks.drained();
    this.#pieces.drop();
    this.#deps.budget.leave(this);
  }

  #commitLater(): void {
    if (this.#isTimed || this.#signal.aborted) return;
    this.#isTimed = true;
    const { clock, writeBackDelayMs } = this.#deps;
    const retryMs = Math.max(writeBackDelayMs, retryMsMin) * 2 ** Math.min(this.#failures, 10);
    const delayMs = this.#failures === 0 ? writeBackDelayMs : Math.min(retryMs, retryMsMax);
    this.#tasks.run(async () => {
      await clock.sleep(delayMs, { signal: this.#signal }).catch(() => {});
      this.#isTimed = false;
      if (!this.#signal.aborted) await this.commit().catch(() => {});
    });
  }

  async #runCommit(): Promise<void> {
    this.#signal.throwIfAborted();
    const { sizeBytes } = this.#pieces;
    const taken = this.#pieces.take();
    const history = { changes: this.#changes, starts: this.#starts };
    this.#isChanged = false;
    // Each attempt has names of its own: none is ever written twice with different content.
    this.#lastVersion += 1;
    const version = this.#lastVersion;
    const bodies = new Map<string, Uint8Array>();
    try {
      const pieces = await this.#putPieces(taken, version, bodies);
      await this.#replaceManifest({ version, sizeBytes, pieces, ...history }, bodies);
    } catch (error) {
      this.#goBack(error);
      throw error;
    }
    if (this.#failures > 0)
      this.#deps.log.info({ failures: this.#failures }, 'file is written back again');
    this.#failures = 0;
  }

  async #replaceManifest(
    manifest: Manifest,
    bodies: ReadonlyMap<string, Uint8Array>,
  ): Promise<void> {
    const { budget, commitManifest, janitor, cache } = this.#deps;
    this.#tenure.assertLive();
    await commitManifest(manifest);
    for (const [key, body] of bodies) cache.remember(key, body);
    const stale = this.#pieces.adopt(manifest).map(({ key }) => key);
    if (!this.#isChanged) budget.leave(this);
    if (stale.length === 0) return;
    this.#tasks.run(async () => {
      await this.#readsEnded();
      cache.forget(stale);
      janitor.discard(this.#tenure.objectId, stale);
    });
  }

  /** The commit came to nothing, or nobody knows: what it took is changed still. */
  #goBack(error: unknown): void {
    const { janitor, log } = this.#deps;
    // Its pieces stay where they are: a lost answer of the registry may mean that they are named.
    janitor.leave(this.#tenure.objectId);
    this.#pieces.takeBack();
    this.#isChanged = true;
    if (this.#signal.aborted || isStorageError(error, 'fenced')) return;
    this.#failures += 1;
    const facts = { error: describeError(error) };
    if (this.#failures === 1) log.warn(facts, 'file could not be written back; trying again');
    this.#commitLater();
  }

  /** The pieces of the new manifest. All puts have ended when it settles. */
  async #putPieces(
    taken: ReadonlyMap<number, Uint8Array | null>,
    version: number,
    bodies: Map<string, Uint8Array>,
  ): Promise<(Piece | null)[]> {
    const { manifest, sizeBytes } = this.#pieces;
    const pieces: (Piece | null)[] = Array.from(
      { length: Math.ceil(sizeBytes / pieceBytes) },
      (_, index) => manifest.pieces[index] ?? null,
    );
    const puts = [...taken]
      .filter(([index]) => index < pieces.length)
      .map(async ([index, memory]) => {
        pieces[index] = null;
        const body = memory?.subarray(0, Math.min(pieceBytes, sizeBytes - index * pieceBytes));
        if (body === undefined || isZero(body)) return;
        const key = pieceKey(this.#tenure.objectId, this.#tenure.epoch, version, index);
        bodies.set(key, body);
        pieces[index] = { key, bytes: body.length, checksum: this.#deps.checksum.crc32c(body) };
        await this.#deps.store.put(key, body, { signal: this.#signal });
      });
    for (const result of await Promise.allSettled(puts))
      if (result.status === 'rejected') throw result.reason;
    return pieces;
  }
}

function isZero(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, zeroes.subarray(0, bytes.length)) === 0;
}
