/**
 * Runs checkpoints of the block map, one at a time: when the delta or the tail of segments that a
 * recovery would read has grown, when it has become old, and when asked. A checkpoint ends with
 * one commit of the head; after it, segments that nothing committed refers to are deleted, once
 * the reads that began before it have ended.
 */

import { isStorageError } from '../core/errors.ts';
import { TaskGroup } from '../core/task-group.ts';
import { encodeHead } from '../format/head.ts';
import { placeWords } from '../format/place.ts';
import { segmentKey } from '../format/segment-key.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { SegmentSource } from '../ports/segment-source.ts';
import type { BlockMap } from './block-map.ts';
import { Checkpoint } from './checkpoint.ts';
import { planCompaction } from './compaction-plan.ts';
import { Compactor, Relocations } from './compactor.ts';
import type { HeadCommitter } from './head-committer.ts';
import type { MapSegmentWriterDeps } from './map-segment-writer.ts';
import { MapSegmentWriter } from './map-segment-writer.ts';
import { readChunk } from './page-tree.ts';
import type { SegmentName } from './segment-usage.ts';
import { SegmentUsage } from './segment-usage.ts';
import type { VolumeSettings } from './settings.ts';

const deletionsPerCall = 1000;
/** A delta holds at most so many times what makes a checkpoint due. */
const deltasMax = 2;
/** Between two checkpoints that compact; as long as the last one took, at least. */
const compactPauseMs = 20;

export interface CheckpointerDeps extends MapSegmentWriterDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly map: BlockMap;
  readonly committer: HeadCommitter;
  readonly store: BlobStore;
  readonly source: SegmentSource;
  /** Resolves when the reads that are under way now have ended. */
  readonly readsSettled: () => Promise<void>;
  readonly onFailure: (error: unknown) => void;
  readonly signal: AbortSignal;
}

export class Checkpointer {
  readonly #deps: CheckpointerDeps;
  readonly #settings: VolumeSettings;
  readonly #tasks: TaskGroup;
  readonly #compactor: Compactor;
  #usage: SegmentUsage | undefined;
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

  /** Wins space back until there is no more worth winning. */
  async compact(): Promise<void> {
    await this.checkpointNow();
    while (this.#victims().length > 0) await this.#start('compacting');
  }

  drained(): Promise<void> {
    return this.#tasks.drained();
  }

  #victims(): readonly SegmentName[] {
    return planCompaction(this.#usage?.liveBytes() ?? [], this.#settings.segmentBytes);
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
        await this.#start('compacting');
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

  #start(how: 'compacting' | 'plain' = 'plain'): Promise<void> {
    this.#running ??= this.#checkpoint(how)
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

  async #checkpoint(how: 'compacting' | 'plain'): Promise<void> {
    const { map, committer, clock, log } = this.#deps;
    this.#usage ??= await this.#loadUsage();
    const usage = this.#usage;
    const { head } = committer;
    const relocations = new Relocations();
    if (how === 'compacting') {
      const copies = new MapSegmentWriter(this.#deps, this.#settings.segmentBytes, head);
      await this.#compactor.relocate(this.#victims(), copies, relocations);
      await copies.finish();
    }
    const writer = new MapSegmentWriter(this.#deps, this.#settings.segmentBytes, head);
    // No await between these: the delta holds exactly the cuts that stand in the head's tail.
    const delta = map.beginCheckpoint();
    const covered = committer.head.tail;
    for (const { epoch, first, last } of covered)
      for (let sequence = first; sequence <= last; sequence += 1) usage.register(epoch, sequence);
    const yieldTurn = () => clock.sleep(0);
    const deps = { tree: map.tree, usage, writer, log, relocations, yieldTurn };
    const checkpoint = new Checkpoint(deps, delta);
    const root = await checkpoint.writeTree();
    const usagePlaces = await this.#writeUsage(usage, writer);
    await writer.finish();
    const treeBlocks = map.treeBlocks + checkpoint.blocksGained;
    let dead: readonly SegmentName[] = [];
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
        // Now or never: the next checkpoint registers segments that nothing refers to yet.
        dead = usage.dead();
      },
    );
    this.#tasks.run(() => this.#cleanUp(usage, dead));
    this.#compactIfDue();
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

  async #loadUsage(): Promise<SegmentUsage> {
    const { source, committer } = this.#deps;
    const usage = new SegmentUsage();
    const places = committer.head.usage;
    try {
      for (let at = 0; at < places.length; at += placeWords)
        usage.decode(await readChunk(source, places, at));
    } catch (error) {
      if (!isStorageError(error, 'corrupt')) throw error;
      this.#deps.log.error({ error: error.message }, 'table of live bytes is lost');
      usage.markIncomplete();
    }
    for (let at = 0; at < places.length; at += placeWords) usage.add(places, at);
    return usage;
  }

  async #cleanUp(usage: SegmentUsage, dead: readonly SegmentName[]): Promise<void> {
    const { store, committer, checksum, sequencer, signal, log } = this.#deps;
    const { head } = committer;
    // A copy beside the segments: with the registry gone, the buckets are enough.
    const key = `head/${segmentKey(head.epoch, sequencer.next()).slice('segment/'.length)}`;
    await store.put(key, encodeHead(head, checksum), { signal });
    const older = await store.list({ prefix: 'head/', signal });
    const stale = older.blobs.map((blob) => blob.key).filter((blob) => blob < key);
    await store.deleteMany(stale, { signal });
    await this.#deps.readsSettled();
    for (let first = 0; first < dead.length; first += deletionsPerCall) {
      const names = dead.slice(first, first + deletionsPerCall);
      const keys = names.map(({ epoch, sequence }) => segmentKey(epoch, sequence));
      await store.deleteMany(keys, { signal });
      for (const name of names) usage.forget(name);
    }
    if (dead.length > 0) log.info({ segments: dead.length }, 'dead segments deleted');
  }
}
