/**
 * The SSD read cache of a host, shared by all its volumes: lines of 64 KiB of segments. Segments
 * never change, so a line stays right across restarts, snapshots and moves. Lines are kept as they
 * come; every read verifies the chunks it asked for, and what is wrong is dropped and fetched anew.
 *
 * A read of lines that are there is answered at once where the page cache has them. Those that are
 * missing are fetched whole, neighbours together, once for all who wait for them. While the disk
 * takes no lines, what is asked for is fetched and nothing else.
 */

import { describeError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import { isPending } from '../core/eventually.ts';
import { invariant } from '../core/invariant.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { ObjectId } from '../core/units.ts';
import { MiB } from '../core/units.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { ChunkRun, SegmentSource } from '../ports/segment-source.ts';
import type { CacheStoreDeps } from './cache-store.ts';
import { CacheStore } from './cache-store.ts';
import { ChunkVerifier } from './chunk-verifier.ts';
import type { StoredLine } from './index-record.ts';
import type { SegmentRef } from './line-flights.ts';
import { LineFlights } from './line-flights.ts';
import { LineSlots, lineBytes, partsOf } from './line-slots.ts';
import { SegmentFetcher } from './segment-fetcher.ts';

const slotCountMin = 16;
/** Of one segment that was just put, so that remembering it never holds up the loop for long. */
const insertBytesMax = 8 * MiB;
/** Slots looked at in one turn when an object is forgotten. */
const slotsPerSweep = 8192;

export interface CacheSettings {
  readonly folder: string;
  readonly cacheBytesMax: number;
  /** Bytes of lines on their way from the backend at once. */
  readonly fetchBytesMax: number;
}

export interface CacheStatistics {
  /** Reads that were answered from the SSD alone, and the others. */
  readonly hits: number;
  readonly misses: number;
  /** Lines on the SSD that were wrong or could not be read. */
  readonly damagedLines: number;
  readonly cachedBytes: number;
  /** Requests to the backend, and what they brought. */
  readonly fetches: number;
  readonly fetchedBytes: number;
  /** The SSD takes no lines now. */
  readonly isOff: boolean;
}

/** A read that has to wait: for bytes of the SSD, and for lines that are not there. */
interface Unfinished {
  readonly waits: Promise<void>[];
  readonly missing: number[];
}

export class SegmentCache {
  readonly #deps: CacheStoreDeps;
  readonly #store: CacheStore;
  readonly #verifier: ChunkVerifier;
  readonly #slots: LineSlots;
  readonly #flights: LineFlights;
  /** Objects by their number in this process. */
  readonly #objects = new Map<ObjectId, number>();
  #nextObject = 1;
  readonly #counts = { hits: 0, misses: 0, damagedLines: 0 };
  readonly #sweeps: TaskGroup;
  #isClosed = false;
  readonly #mayGrow = () => this.#store.mayGrow();

  private constructor(deps: CacheStoreDeps, settings: CacheSettings) {
    const slotCount = Math.max(slotCountMin, Math.floor(settings.cacheBytesMax / lineBytes));
    this.#deps = deps;
    this.#store = new CacheStore(deps, settings.folder, slotCount);
    this.#verifier = new ChunkVerifier(deps.checksum);
    this.#slots = new LineSlots(slotCount);
    this.#sweeps = new TaskGroup((error) => {
      deps.log.error({ error: describeError(error) }, 'lines of a deleted object are still cached');
    });
    this.#flights = new LineFlights(settings.fetchBytesMax, (segment, line, bytes) =>
      this.#keep(segment, line, bytes),
    );
  }

  /** Never fails: without its files it fetches everything. */
  static async open(deps: CacheStoreDeps, settings: CacheSettings): Promise<SegmentCache> {
    const cache = new SegmentCache(deps, settings);
    await cache.#store.load((line) => cache.#restore(line));
    return cache;
  }

  /** The segments in `store`, which waits for a backend in trouble until the signal fires. */
  source(id: ObjectId, store: BlobStore, signal: AbortSignal): SegmentSource {
    const object = this.#numberOf(id);
    const { clock } = this.#deps;
    const log = this.#deps.log.child({ object: id });
    const fetcher = new SegmentFetcher({ clock, log, verifier: this.#verifier }, store, signal);
    const segment = (epoch: number, sequence: number): SegmentRef => ({
      ...{ object, id, epoch, sequence, fetcher },
    });
    return {
      read: (run, into) => {
        const unfinished = this.#readCached(object, run, into);
        if (unfinished === undefined && this.#verifier.isRight(run, into)) {
          this.#counts.hits += 1;
          return;
        }
        return this.#finish(segment(run.epoch, run.sequence), run, into, unfinished);
      },
      prefetch: (epoch, sequence, offset, bytes) =>
        this.#prefetch(segment(epoch, sequence), offset, bytes),
      insert: (epoch, sequence, body) => this.#insert(segment(epoch, sequence), body),
    };
  }

  /** The SSD is full: gives at least so many bytes back, if it has them. */
  giveWay(bytes: number): void {
    this.#store.shrink(this.#slots.shrink(Math.ceil(bytes / lineBytes)));
  }

  /**
   * The object is gone. Its lines are never found again and their slots are free soon; what the
   * index still says of them is a line that nobody asks for, the first to go after a restart.
   */
  forget(id: ObjectId): void {
    const object = this.#objects.get(id);
    if (object === undefined) return;
    this.#objects.delete(id);
    this.#sweeps.run(async () => {
      for (let from = 0; this.#slots.dropObject(object, from, slotsPerSweep); ) {
        from += slotsPerSweep;
        await this.#deps.clock.sleep(0);
        if (this.#isClosed) return;
      }
    });
  }

  statistics(): CacheStatistics {
    const { fetches, fetchedBytes } = this.#flights;
    const cachedBytes = this.#slots.usedCount * lineBytes;
    return { ...this.#counts, cachedBytes, fetches, fetchedBytes, isOff: this.#store.isOff };
  }

  /** Bytes of the object that are on the SSD. */
  cachedBytes(id: ObjectId): number {
    const object = this.#objects.get(id);
    return object === undefined ? 0 : this.#slots.linesOf(object) * lineBytes;
  }

  /** Waits for reads in flight. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#sweeps.drained();
    await this.#store.close();
  }

  /** Fills what the SSD has; undefined where that was all, at once. */
  #readCached(object: number, run: ChunkRun, into: Uint8Array): Unfinished | undefined {
    invariant(into.length % run.chunkBytes === 0, 'a run is whole chunks');
    const end = run.offset + into.length;
    let unfinished: Unfinished | undefined;
    for (let at = run.offset; at < end; ) {
      const line = Math.floor(at / lineBytes);
      const from = at - line * lineBytes;
      const bytes = Math.min(lineBytes - from, end - at);
      const area = bytes === into.length ? into : into.subarray(at - run.offset).subarray(0, bytes);
      const slot = this.#slots.find(object, run.epoch, run.sequence, line);
      const read = slot < 0 ? false : this.#readSlot(slot, from, area);
      if (read !== true) {
        unfinished ??= { waits: [], missing: [] };
        const { waits, missing } = unfinished;
        if (read === false) missing.push(line);
        else waits.push(read.then((isThere) => void (isThere || missing.push(line))));
      }
      at += bytes;
    }
    return unfinished;
  }

  /** False where the slot can't be read; it is dropped then. */
  #readSlot(slot: number, from: number, into: Uint8Array): Eventually<boolean> {
    const parts = partsOf(from, into.length);
    if ((this.#slots.valid(slot) & parts) !== parts) return false;
    this.#slots.noteRead(slot, parts);
    const read = this.#store.read(slot, from, into);
    if (!isPending(read)) {
      if (read !== into.length) this.#dropDamaged(slot);
      return read === into.length;
    }
    this.#slots.pin(slot);
    return read.then((count) => {
      if (count !== into.length) this.#dropDamaged(slot);
      this.#slots.unpin(slot);
      return count === into.length;
    });
  }

  async #finish(
    segment: SegmentRef,
    run: ChunkRun,
    into: Uint8Array,
    { waits, missing }: Unfinished = { waits: [], missing: [] },
  ): Promise<void> {
    await Promise.all(waits);
    let damaged = missing.length > 0 ? [] : this.#damagedLines(run, into);
    if (missing.length === 0 && damaged.length === 0) {
      this.#counts.hits += 1;
      return;
    }
    this.#counts.misses += 1;
    if (this.#store.isOff) return this.#flights.fetchRun(segment, run, into);
    if (missing.length > 0) {
      await this.#fetchInto(segment, run, into, missing);
      damaged = this.#damagedLines(run, into);
    }
    const cached = damaged.filter((line) => !missing.includes(line));
    for (const line of cached) this.#dropDamaged(this.#slotOf(segment, line));
    if (cached.length > 0) {
      await this.#fetchInto(segment, run, into, cached);
      damaged = this.#damagedLines(run, into);
    }
    if (damaged.length === 0) return;
    // They came wrong from the backend, so what was kept of them is wrong as well.
    for (const line of damaged) this.#drop(this.#slotOf(segment, line));
    await segment.fetcher.repair(run, into);
  }

  /** Lines that hold a wrong chunk, or a part of one; ascending. */
  #damagedLines(run: ChunkRun, into: Uint8Array): number[] {
    const lines = new Set<number>();
    for (const index of this.#verifier.wrongChunks(run, into)) {
      const start = run.offset + index * run.chunkBytes;
      const last = Math.floor((start + run.chunkBytes - 1) / lineBytes);
      for (let line = Math.floor(start / lineBytes); line <= last; line += 1) lines.add(line);
    }
    return [...lines];
  }

  async #fetchInto(
    segment: SegmentRef,
    run: ChunkRun,
    into: Uint8Array,
    lines: number[],
  ): Promise<void> {
    lines.sort((left, right) => left - right);
    const bodies = await this.#flights.fetch(segment, lines);
    for (const [index, line] of lines.entries()) {
      const start = line * lineBytes;
      const from = Math.max(run.offset, start);
      const to = Math.min(run.offset + into.length, start + lineBytes);
      const bytes = (bodies[index] as Uint8Array).subarray(from - start, to - start);
      into.set(bytes, from - run.offset);
      into.fill(0, from - run.offset + bytes.length, to - run.offset);
      const slot = this.#slotOf(segment, line);
      if (slot >= 0) this.#slots.noteRead(slot, partsOf(from - start, to - from));
    }
  }

  #prefetch(segment: SegmentRef, offset: number, bytes: number): void {
    if (this.#store.isOff) return;
    const lines: number[] = [];
    const last = Math.floor((offset + bytes - 1) / lineBytes);
    for (let line = Math.floor(offset / lineBytes); line <= last; line += 1) {
      if (this.#slotOf(segment, line) >= 0 || this.#flights.has(segment, line)) continue;
      if (this.#flights.isBusyWith(lines.length + 1)) break;
      lines.push(line);
    }
    // Whoever reads the lines meets the failure himself.
    if (lines.length > 0) this.#flights.fetch(segment, lines).catch(() => {});
  }

  #insert(segment: SegmentRef, body: Uint8Array): void {
    const end = Math.min(body.length, insertBytesMax);
    for (let at = 0; at < end; at += lineBytes)
      this.#keep(segment, at / lineBytes, body.subarray(at, at + lineBytes));
  }

  #keep(segment: SegmentRef, line: number, bytes: Uint8Array): void {
    const { object, id, epoch, sequence } = segment;
    if (bytes.length === 0 || this.#store.isOff) return;
    const valid = partsOf(0, bytes.length);
    const known = this.#slotOf(segment, line);
    if (known >= 0 && this.#slots.valid(known) === valid) return;
    this.#drop(known);
    const slot = this.#slots.take(this.#mayGrow);
    if (slot < 0) return;
    if (this.#store.write({ slot, id, epoch, sequence, line, valid }, bytes))
      this.#slots.put(slot, object, epoch, sequence, line, valid);
    else this.#slots.giveBack(slot);
  }

  #slotOf({ object, epoch, sequence }: SegmentRef, line: number): number {
    return this.#slots.find(object, epoch, sequence, line);
  }

  #dropDamaged(slot: number): void {
    if (slot < 0 || this.#slots.valid(slot) === 0) return;
    this.#counts.damagedLines += 1;
    this.#drop(slot);
  }

  #drop(slot: number): void {
    if (slot < 0 || this.#slots.valid(slot) === 0) return;
    this.#slots.drop(slot);
    this.#store.clear(slot);
  }

  #restore({ slot, id, epoch, sequence, line, valid }: StoredLine): void {
    const object = this.#numberOf(id);
    if (this.#slots.find(object, epoch, sequence, line) >= 0) return;
    this.#slots.takeNext(slot);
    this.#slots.put(slot, object, epoch, sequence, line, valid);
  }

  #numberOf(id: ObjectId): number {
    const known = this.#objects.get(id);
    if (known !== undefined) return known;
    const number = this.#nextObject;
    this.#nextObject += 1;
    this.#objects.set(id, number);
    return number;
  }
}
