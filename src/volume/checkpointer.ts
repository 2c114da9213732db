/**
 * Runs checkpoints of the block map, one at a time: when the delta or the tail of segments that a
 * recovery would read has grown, when it has become old, and when asked. A checkpoint ends with
 * one commit of the head; after it, segments that nothing committed refers to are deleted, once
 * the reads that began before it have ended.
 */

import { isStorageError } from '../core/errors.ts';
import { TaskGroup } from '../core/task-group.ts';
import { placeWords } from '../format/place.ts';
import { segmentKey } from '../format/segment-key.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { CompactionReport } from '../ports/volume-care.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import { Checkpoint } from './checkpoint.ts';
import { planCompaction } from './compaction-plan.ts';
import type { CompactorDeps } from './compactor.ts';
import { Compactor } from './compactor.ts';
import type { HeadCommitter } from './head-committer.ts';
import { copyHead } from './head-copy.ts';
import type { MapSegmentWriterDeps } from './map-segment-writer.ts';
import { MapSegmentWriter } from './map-segment-writer.ts';
import type { SourcesByOrigin } from './page-tree.ts';
import { readChunk } from './page-tree.ts';
import { countLive } from './recount.ts';
import { Relocations } from './relocations.ts';
import { ScrubReader } from './scrub-reader.ts';
import type { SegmentName } from './segment-usage.ts';
import { isLater, SegmentUsage } from './segment-usage.ts';
import type { VolumeSettings } from './settings.ts';
import { Turns } from './turns.ts';

const deletionsPerCall = 1000;
/** A delta holds at most so many times what makes a checkpoint due. */
const deltasMax = 2;
const beforeAll: SegmentName = { epoch: 0, sequence: 0 };
/** Between two checkpoints that compact; as long as the last one took, at least. */
const compactPauseMs = 20;

export interface CheckpointerDeps extends MapSegmentWriterDeps, CompactorDeps {
  readonly clock: Clock;
  readonly committer: HeadCommitter;
  readonly store: BlobStore;
  /** When the volume's snapshots were taken. */
  readonly snapshotTimes: () => Promise<readonly SegmentName[]>;
  /** Resolves when the reads that are under way now have ended. */
  readonly readsSettled: () => Promise<void>;
  readonly onFailure: (error: unknown) => void;
  readonly signal: AbortSignal;
}

/** Copies by `writer` what a checkpoint is to move. */
export type Relocate = (writer: MapSegmentWriter, relocations: Relocations) => Promise<void>;

export class Checkpointer {
  readonly #deps: CheckpointerDeps;
  readonly #settings: VolumeSettings;
  readonly #tasks: TaskGroup;
  readonly #compactor: Compactor;
  #usage: SegmentUsage | undefined;
  #loading: Promise<SegmentUsage> | undefined;
  /** Segments up to here are not rewritten: a snapshot would keep the old ones all the same. */
  #newestSnapshot: SegmentName | undefined;
  /** Deleted since the table was last written. */
  #deleted: SegmentName[] = [];
  #recounting: Promise<void> | undefined;
  #isCompacting = false;
  #running: Promise<void> | undefined;
  #isTimed = false;

  constructor(deps: CheckpointerDeps, settings: VolumeSettings) {
    this.#deps = deps;
    this.#settings = settings;
    this.#compactor = new Compactor(deps);
    this.#tasks = new TaskGroup((error) => {
      if (!deps.signal.aborted) deps.onFailure(error);
    });
  }

  /** Segments that the table of live bytes knows; undefined before the first checkpoint. */
  get segmentCount(): number | undefined {
    return this.#usage?.segmentCount;
  }

  get compaction(): Compactor['statistics'] {
    return this.#compactor.statistics;
  }

  checkpointIfDue(): void {
    const { map, committer } = this.#deps;
    const tail = committer.head.tail.reduce((sum, { first, last }) => sum + last - first + 1, 0);
    if (tail === 0 || this.#running) return;
    if (
      map.delta.rowCount >= this.#settings.deltaBlocksMax ||
      tail >= this.#settings.tailSegmentsMax
    )
      this.#tasks.run(() => this.#start());
    else this.#checkpointLater();
  }

  /** Resolves when the committed map holds all that is committed now. */
  async checkpointNow(): Promise<void> {
    await this.#running;
    if (this.#deps.committer.head.tail.length > 0) await this.#start();
  }

  /**
   * Resolves when the delta may take another cut: one that grows while a slow checkpoint runs has
   * a bound too, and the writers of the volume wait for it in the end.
   */
  async roomInDelta(): Promise<void> {
    const { map } = this.#deps;
    while (map.delta.rowCount >= deltasMax * this.#settings.deltaBlocksMax) await this.#start();
  }

  /** Wins space back until there is no more worth winning in what is there now. */
  async compact(): Promise<void> {
    await this.collect();
    const names = [...(this.#usage?.liveBytes() ?? [])].map(([name]) => name);
    const newest = names.reduce((last, name) => (isLater(name, last) ? name : last), beforeAll);
    const { clock, signal } = this.#deps;
    // Under load small segments come for ever; whoever asked waits for none that came later.
    while (this.#victims().some((name) => !isLater(name, newest))) {
      await this.#start(this.#compacting);
      // What is overwritten in a segment counts as live there until that is destaged.
      await clock.sleep(compactPauseMs, { signal });
    }
  }

  /** What compaction has to do, as far as the last checkpoint tells. */
  async plan(): Promise<CompactionReport> {
    const live = new Map((await this.#table()).liveBytes());
    const victims = this.#victims();
    const sum = (bytes: Iterable<number>) => [...bytes].reduce((total, some) => total + some, 0);
    return {
      segments: live.size,
      storedBytes: live.size * this.#settings.segmentBytes,
      liveBytes: sum(live.values()),
      victims: victims.length,
      victimBytes: sum(victims.map((name) => live.get(name) ?? 0)),
      ...this.#compactor.statistics,
    };
  }

  /** A checkpoint that moves what `relocate` says. */
  async move(relocate: Relocate): Promise<void> {
    await this.checkpointNow();
    while (this.#running) await this.#running;
    await this.#start(relocate);
  }

  /** A checkpoint whether one is due or not: what nobody reaches any more is deleted after it. */
  async collect(): Promise<void> {
    await this.#running;
    await this.#start();
  }

  /**
   * Counts live bytes anew, beside checkpoints, and corrects the table. Nothing is deleted until it is
   * right. Throws `corrupt` where a page can't be read.
   */
  recount(): Promise<void> {
    this.#recounting ??= this.#recount().finally(() => {
      this.#recounting = undefined;
    });
    return this.#recounting;
  }

  async #recount(): Promise<void> {
    const { store, checksum, signal, committer } = this.#deps;
    const usage = await this.#table();
    while (this.#running) await this.#running;
    // No await between these: the table is that of the head, and what changes it is followed.
    usage.follow();
    usage.adopt(await countLive(committer.head, new ScrubReader(store, checksum, signal)));
    await this.collect();
  }

  /** A snapshot was taken. */
  noteSnapshot(at: SegmentName): void {
    this.#newestSnapshot = at;
  }

  drained(): Promise<void> {
    return this.#tasks.drained();
  }

  #victims(): readonly SegmentName[] {
    const live = [...(this.#usage?.liveBytes() ?? [])];
    const snapshot = this.#newestSnapshot;
    const own = snapshot ? live.filter(([name]) => isLater(name, snapshot)) : live;
    return planCompaction(own, this.#settings.segmentBytes);
  }

  /** Beside the writers: each checkpoint wins a little, and they have their turn in between. */
  #compactIfDue(): void {
    if (this.#isCompacting || this.#victims().length === 0) return;
    this.#isCompacting = true;
    const { clock, signal } = this.#deps;
    this.#tasks.run(async () => {
      for (let pauseMs = compactPauseMs; this.#victims().length > 0; ) {
        await clock.sleep(pauseMs, { signal }).catch(() => {});
        // After one that failed the table of live bytes is half way between two checkpoints.
        await this.#running;
        if (signal.aborted) return;
        const beganMs = clock.monotonicMs();
        await this.#start(this.#compacting);
        pauseMs = Math.max(compactPauseMs, clock.monotonicMs() - beganMs);
      }
      this.#isCompacting = false;
    });
  }

  /** An idle volume is checkpointed once, so that opening it reads no tail. */
  #checkpointLater(): void {
    if (this.#isTimed) return;
    this.#isTimed = true;
    const { clock, signal, committer } = this.#deps;
    this.#tasks.run(() =>
      clock.sleep(this.#settings.checkpointDelayMs, { signal }).then(
        async () => {
          this.#isTimed = false;
          if (committer.head.tail.length > 0 && !this.#running) await this.#start();
        },
        () => {},
      ),
    );
  }

  readonly #compacting: Relocate = (writer, relocations) =>
    this.#compactor.relocate(this.#victims(), writer, relocations);

  #start(relocate?: Relocate): Promise<void> {
    this.#running ??= this.#checkpoint(relocate)
      .catch((error: unknown) => {
        // The tree in memory may be half way between two checkpoints: the volume ends.
        if (!this.#deps.signal.aborted) this.#deps.onFailure(error);
        throw error;
      })
      .finally(() => {
        this.#running = undefined;
      });
    return this.#running;
  }

  async #checkpoint(relocate: Relocate | undefined): Promise<void> {
    const { map, committer, clock, log } = this.#deps;
    const usage = await this.#table();
    const { head } = committer;
    const relocations = new Relocations();
    if (relocate) {
      using copies = new MapSegmentWriter(this.#deps, this.#settings.segmentBytes, head);
      await relocate(copies, relocations);
      await copies.finish();
      const { epoch } = this.#deps.sequencer;
      for (const sequence of copies.sequences) usage.register({ epoch, sequence });
    }
    using writer = new MapSegmentWriter(this.#deps, this.#settings.segmentBytes, head);
    // No await between these: the delta holds exactly the cuts that stand in the head's tail.
    const delta = map.beginCheckpoint();
    const covered = committer.head.tail;
    for (const { epoch, first, last, origin } of covered)
      for (let sequence = first; origin === 0 && sequence <= last; sequence += 1)
        usage.register({ epoch, sequence });
    const turns = new Turns(clock);
    const deps = { tree: map.tree, usage, writer, log, relocations, turns };
    const checkpoint = new Checkpoint(deps, delta);
    const root = await checkpoint.writeTree();
    const deleted = this.#deleted.splice(0);
    const usagePlaces = await this.#writeUsage(usage, writer);
    await writer.finish();
    const treeBlocks = map.treeBlocks + checkpoint.blocksGained;
    await committer.commit(
      (now) => ({
        ...now,
        root,
        rootLevel: map.tree.rootLevel,
        dataBlocks: treeBlocks,
        tail: now.tail.slice(covered.length),
        usage: usagePlaces,
      }),
      () => {
        map.tree.setRootPlace(root);
        map.endCheckpoint(treeBlocks);
        // Now: the next checkpoint registers segments that nothing refers to yet.
        const { sequencer } = this.#deps;
        usage.noteDeaths({ epoch: sequencer.epoch, sequence: sequencer.next() });
      },
    );
    const dead = await this.#collectable(usage);
    this.#tasks.run(() => this.#cleanUp(usage, dead, deleted));
    this.#compactIfDue();
  }

  /** What was committed before reaches none of them, nor does any snapshot. */
  async #collectable(usage: SegmentUsage): Promise<readonly SegmentName[]> {
    const times = await this.#deps.snapshotTimes();
    this.#newestSnapshot = times.reduce<SegmentName | undefined>(
      (newest, time) => (newest && isLater(newest, time) ? newest : time),
      undefined,
    );
    return usage.collectable(times);
  }

  /** See head-copy.ts. */
  copyHead(): Promise<void> {
    const { store, committer, checksum, sequencer, signal } = this.#deps;
    return copyHead(store, committer.head, sequencer, { checksum, signal });
  }

  /** Writes the table; its own pieces are accounted for by whoever loads it. */
  async #writeUsage(usage: SegmentUsage, writer: MapSegmentWriter): Promise<Uint32Array> {
    const old = this.#deps.committer.head.usage;
    for (let at = 0; at < old.length; at += placeWords) usage.remove(old, at);
    const places: Uint32Array[] = [];
    for (const piece of usage.encode()) places.push(await writer.addUsage(piece));
    const words = new Uint32Array(places.length * placeWords);
    places.forEach((place, index) => {
      words.set(place, index * placeWords);
      usage.add(words, index * placeWords);
    });
    return words;
  }

  async #table(): Promise<SegmentUsage> {
    this.#loading ??= this.#loadUsage();
    this.#usage = await this.#loading;
    return this.#usage;
  }

  async #loadUsage(): Promise<SegmentUsage> {
    const { sources, committer, sequencer, log } = this.#deps;
    const places = committer.head.usage;
    const usage = await loadUsage(sources, places, log);
    for (let at = 0; at < places.length; at += placeWords) usage.add(places, at);
    // What died with the last checkpoint of an older tenure did so before this one.
    usage.noteDeaths({ epoch: sequencer.epoch, sequence: 0 });
    return usage;
  }

  /**
   * `deleted`: those before, which the table does not name any more. They are deleted once more: a put of
   * one whose answer was lost may have come late, behind its deletion.
   */
  async #cleanUp(
    usage: SegmentUsage,
    dead: readonly SegmentName[],
    deleted: readonly SegmentName[],
  ): Promise<void> {
    const { store, signal, log } = this.#deps;
    await this.copyHead();
    await this.#deps.readsSettled();
    const all = [...dead, ...deleted];
    for (let first = 0; first < all.length; first += deletionsPerCall) {
      const names = all.slice(first, first + deletionsPerCall);
      const keys = names.map(({ epoch, sequence }) => segmentKey(epoch, sequence));
      await store.deleteMany(keys, { signal });
      for (const name of names) usage.forget(name);
    }
    this.#deleted = [...this.#deleted, ...dead];
    if (dead.length > 0) log.info({ segments: dead.length }, 'dead segments deleted');
  }
}

/** The table whose pieces are at `places`; incomplete where one of them can't be read. */
export async function loadUsage(
  sources: SourcesByOrigin,
  places: Uint32Array,
  log: Log,
): Promise<SegmentUsage> {
  const usage = new SegmentUsage();
  try {
    for (let at = 0; at < places.length; at += placeWords)
      usage.decode(await readChunk(sources, places, at));
  } catch (error) {
    if (!isStorageError(error, 'corrupt')) throw error;
    log.error({ error: error.message }, 'table of live bytes is lost');
    usage.markIncomplete();
  }
  return usage;
}
