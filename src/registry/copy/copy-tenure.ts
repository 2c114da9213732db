/**
 * One host's turn at copying the registry into the buckets. Changes are followed by one watch of all
 * keys, gathered, and written together: at the latest after the delay, earlier when they are many.
 * What a blob of changes ends with is a state that the registry had, because a transaction's changes
 * come together. Then the record says how far the copy is, so that the next host goes on from there.
 *
 * A base is written while the changes go on: page by page, each as it is when it is read. It counts
 * once the changes up to its last page are written too. It is due when there is none, when changes
 * were missed, and when what was changed since the last one has become more than that.
 */

import { aborted } from '../../core/aborted.ts';
import { StorageError } from '../../core/errors.ts';
import { MiB } from '../../core/units.ts';
import type { CopyBlobHead, CopyEntry } from '../../format/registry-copy.ts';
import { copyBlobKey, copyEntryBytes, encodeCopyBlob } from '../../format/registry-copy.ts';
import type { BlobStore } from '../../ports/blob-store.ts';
import type { Checksum } from '../../ports/checksum.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { KeyValue, Registry } from '../../ports/registry.ts';
import { copiedRanges, everyKey, isCopied } from './copied-keys.ts';
import { tidyCopy } from './copy-bucket.ts';
import type { CopyRecord } from './copy-record.ts';
import { replaceCopyRecord } from './copy-record.ts';
import { PendingChanges } from './pending-changes.ts';

/** Of a piece, and of changes that are not waited with: nothing larger is in memory but one value. */
const blobBytes = MiB / 2;
const keysPerPage = 256;
/** A base is not worth making anew for less, */
const changeBytesMin = 4 * MiB;
/** but for a recovery that would read so many blobs. */
const changeBlobsMax = 2000;

export interface CopyTenureDeps {
  readonly registry: Registry;
  readonly store: BlobStore;
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly log: Log;
  /** The vPool's, in hex. */
  readonly salt: string;
  readonly delayMs: number;
}

export interface CopyTurn {
  /** Revision of the lock, which every change of the record compares. */
  readonly session: number;
  readonly record: CopyRecord;
  /** The right to the work has ended. */
  readonly signal: AbortSignal;
  /** Fires when all that is there is to be written, and then no more. */
  readonly finishing: AbortSignal;
}

export class CopyTenure {
  readonly #deps: CopyTenureDeps;
  readonly #turn: CopyTurn;
  #record: CopyRecord;
  #pending = new PendingChanges();
  /** The watch has told everything up to here. */
  #seen = 0;
  #moved = Promise.withResolvers<void>();
  /** Blobs of changes in this term. */
  #changes = 0;
  /** One after another. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(deps: CopyTenureDeps, turn: CopyTurn) {
    this.#deps = deps;
    this.#turn = turn;
    this.#record = turn.record;
  }

  get record(): CopyRecord {
    return this.#record;
  }

  /** Whether the copy lacks something that this host has heard of. */
  get isBehind(): boolean {
    return !this.#pending.isEmpty;
  }

  /** Until it is finished, or rejects: `compacted` where changes were missed, `fenced`. */
  async serve(): Promise<void> {
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.#turn.signal]);
    const { revision } = this.#record.base === 0 ? await this.#now(signal) : this.#record;
    this.#record = { ...this.#record, revision };
    this.#seen = revision;
    const following = this.#follow(revision, signal);
    const working = this.#work(signal);
    try {
      await Promise.race([following, working]);
    } finally {
      stop.abort(new StorageError('closed', 'no more is copied'));
      await Promise.allSettled([following, working, this.#last]);
    }
  }

  async #work(signal: AbortSignal): Promise<void> {
    const { clock, delayMs } = this.#deps;
    const { finishing } = this.#turn;
    const wake = AbortSignal.any([signal, finishing]);
    for (;;) {
      if (this.#isBaseDue()) await this.#writeBase(signal);
      await clock.sleep(delayMs, { signal: wake }).catch(() => {});
      signal.throwIfAborted();
      const isLast = finishing.aborted;
      if (isLast) await this.#catchUp(signal);
      await this.#flush(signal);
      if (isLast) return;
    }
  }

  async #follow(fromRevision: number, signal: AbortSignal): Promise<never> {
    for await (const events of this.#deps.registry.watch(everyKey, fromRevision, { signal })) {
      this.#pending.note(events);
      this.#seen = events[0]?.revision ?? this.#seen;
      this.#moved.resolve();
      this.#moved = Promise.withResolvers();
      if (this.#pending.bytes >= blobBytes) await this.#flush(signal);
    }
    throw new StorageError('closed', 'the watch has ended');
  }

  #isBaseDue(): boolean {
    const { base, baseBytes, changeBytes, changeBlobs } = this.#record;
    if (base === 0 || changeBlobs >= changeBlobsMax) return true;
    return changeBytes > Math.max(baseBytes, changeBytesMin);
  }

  /** Resolves when the watch has told all that is there now: a change of one's own is seen by it. */
  async #catchUp(signal: AbortSignal): Promise<void> {
    const until = await this.#inTurn(() => this.#replace(this.#record, signal));
    const end = aborted(signal);
    end.catch(() => {});
    while (this.#seen < until) await Promise.race([this.#moved.promise, end]);
  }

  #flush(signal: AbortSignal, what: 'changes' | 'even nothing' = 'changes'): Promise<void> {
    return this.#inTurn(async () => {
      const taken = this.#pending;
      if (taken.isEmpty && what === 'changes') return;
      this.#pending = new PendingChanges();
      this.#changes += 1;
      const { term, revision: fromRevision } = this.#record;
      const untilRevision = this.#seen;
      const number = this.#changes;
      const head = { kind: 'change', term, number, fromRevision, untilRevision } as const;
      const bytes = await this.#put({ ...head, isLast: false }, taken.entries, signal);
      const changeBytes = this.#record.changeBytes + bytes;
      const changeBlobs = this.#record.changeBlobs + 1;
      const reached = { revision: untilRevision, madeMs: this.#wallMs(), changeBytes, changeBlobs };
      await this.#replace({ ...this.#record, ...reached }, signal);
    });
  }

  async #writeBase(signal: AbortSignal): Promise<void> {
    await this.#flush(signal);
    // Changes of this term and of later ones belong to the new base, and to the old one as well.
    const old = await this.#inTurn(async () => {
      await this.#replace({ ...this.#record, term: this.#record.term + 1 }, signal);
      this.#changes = 0;
      return this.#record;
    });
    const { term, revision } = old;
    const before = old.base === 0 ? old.before : old.base;
    const baseBytes = await this.#writePieces(term, revision, signal);
    await this.#catchUp(signal);
    // It is whole with the changes up to its last piece: a blob says so, be there any or not.
    await this.#flush(signal, 'even nothing');
    await this.#inTurn(() => {
      const changeBytes = this.#record.changeBytes - old.changeBytes;
      const changeBlobs = this.#record.changeBlobs - old.changeBlobs;
      const whole = { base: term, before, baseBytes, changeBytes, changeBlobs };
      return this.#replace({ ...this.#record, ...whole }, signal);
    });
    this.#deps.log.info({ term, bytes: baseBytes }, 'registry is copied anew');
    await tidyCopy(this.#deps.store, { base: term, before }, { signal });
  }

  async #writePieces(term: number, fromRevision: number, signal: AbortSignal): Promise<number> {
    let entries: CopyEntry[] = [];
    let [entryBytes, bytes, number, untilRevision] = [0, 0, 0, fromRevision];
    const put = async (isLast: boolean) => {
      number += 1;
      const head = { kind: 'base', term, number, fromRevision, untilRevision, isLast } as const;
      bytes += await this.#put(head, entries, signal);
      [entries, entryBytes] = [[], 0];
    };
    for await (const page of this.#pages(signal)) {
      untilRevision = page.revision;
      for (const { key, value } of page.entries) {
        entries.push({ key, value });
        entryBytes += copyEntryBytes({ key, value });
        if (entryBytes >= blobBytes) await put(false);
      }
    }
    await put(true);
    return bytes;
  }

  /** All that is copied, a little at a time; in between others have their turn. */
  async *#pages(
    signal: AbortSignal,
  ): AsyncGenerator<{ readonly entries: readonly KeyValue[]; readonly revision: number }> {
    for (const { from, to } of copiedRanges)
      for (let next: string | undefined = from; next !== undefined; ) {
        const range = { from: next, to };
        const page = await this.#deps.registry.range(range, { limit: keysPerPage, signal });
        yield { ...page, entries: page.entries.filter(({ key }) => isCopied(key)) };
        await this.#deps.clock.sleep(0);
        const last = page.entries.at(-1);
        next = last && page.entries.length === keysPerPage ? `${last.key}\0` : undefined;
      }
  }

  #now(signal: AbortSignal): Promise<{ readonly revision: number }> {
    return this.#deps.registry.range(everyKey, { limit: 1, signal });
  }

  async #put(
    head: Omit<CopyBlobHead, 'salt' | 'madeMs'>,
    entries: readonly CopyEntry[],
    signal: AbortSignal,
  ): Promise<number> {
    const { store, checksum, salt } = this.#deps;
    const blob = encodeCopyBlob({ ...head, salt, madeMs: this.#wallMs() }, entries, checksum);
    await store.put(copyBlobKey(head.kind, head.term, head.number), blob, { signal });
    return blob.length;
  }

  async #replace(record: CopyRecord, signal: AbortSignal): Promise<number> {
    const { registry } = this.#deps;
    const revision = await replaceCopyRecord(registry, this.#turn.session, record, { signal });
    this.#record = record;
    return revision;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }

  #wallMs(): number {
    return Number(this.#deps.clock.wallNs() / 1_000_000n);
  }
}
