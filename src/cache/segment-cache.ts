/**
 * The SSD read cache of a host, shared by all its volumes: lines of 64 KiB of segments. Segments
 * never change, so a line stays right across restarts, snapshots and moves; what fails its
 * checksum is dropped and fetched again.
 *
 * A read of lines that are there is answered at once where the page cache has them. Missing lines
 * are fetched whole, neighbours together, once for all who wait for them.
 */

import type { Eventually } from '../core/eventually.ts';
import { isPending } from '../core/eventually.ts';
import { limits } from '../core/limits.ts';
import { Permits } from '../core/permits.ts';
import type { ObjectId } from '../core/units.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { ChunkRun, SegmentSource } from '../ports/segment-source.ts';
import type { CacheStoreDeps } from './cache-store.ts';
import { CacheStore, lineBytes } from './cache-store.ts';
import { ChunkVerifier } from './chunk-verifier.ts';
import { lineHash, LineTable } from './line-table.ts';
import { S3Fifo } from './s3-fifo.ts';
import { SegmentFetcher } from './segment-fetcher.ts';

const partBytes = limits.blockBytes;
const linesPerFetch = limits.requestBytesMax / lineBytes;

export interface CacheSettings {
  readonly folder: string;
  readonly cacheBytesMax: number;
  /** Bytes of lines on their way from the backend at once. */
  readonly fetchBytesMax: number;
}

export interface CacheStatistics {
  readonly hits: number;
  readonly misses: number;
  readonly damagedLines: number;
  readonly cachedBytes: number;
  readonly fetchedBytes: number;
  readonly isOff: boolean;
}

/** A segment as the cache names it. */
interface SegmentRef {
  readonly object: number;
  readonly id: ObjectId;
  readonly epoch: number;
  readonly sequence: number;
  readonly fetcher: SegmentFetcher;
}

export class SegmentCache {
  readonly #deps: CacheStoreDeps;
  readonly #store: CacheStore;
  readonly #verifier: ChunkVerifier;
  readonly #slotCount: number;
  readonly #table: LineTable;
  readonly #policy: S3Fifo;
  #freeSlots: number[] = [];
  #usedSlots = 0;
  readonly #objects = new Map<ObjectId, number>();
  readonly #flights = new Map<string, Promise<Uint8Array>>();
  readonly #inFlight: Permits;
  readonly #counts = { hits: 0, misses: 0, damagedLines: 0, fetchedBytes: 0 };

  private constructor(deps: CacheStoreDeps, settings: CacheSettings) {
    this.#deps = deps;
    this.#store = new CacheStore(deps, settings.folder);
    this.#verifier = new ChunkVerifier(deps.checksum);
    this.#slotCount = Math.max(16, Math.floor(settings.cacheBytesMax / lineBytes));
    this.#table = new LineTable(this.#slotCount);
    this.#policy = new S3Fifo(this.#slotCount);
    this.#inFlight = new Permits(settings.fetchBytesMax);
  }

  static async open(deps: CacheStoreDeps, settings: CacheSettings): Promise<SegmentCache> {
    const cache = new SegmentCache(deps, settings);
    await cache.#load();
    return cache;
  }

  source(id: ObjectId, store: BlobStore, signal: AbortSignal): SegmentSource {
    const object = this.#numberOf(id);
    const { clock, log } = this.#deps;
    const fetcher = new SegmentFetcher({ clock, log, verifier: this.#verifier }, store, signal);
    const refOf = (epoch: number, sequence: number): SegmentRef => ({
      ...{ object, id, epoch, sequence, fetcher },
    });
    return {
      read: (run, into) => this.#read(object, run, into, refOf),
      prefetch: (epoch, sequence, offset, bytes) =>
        this.#prefetch(refOf(epoch, sequence), offset, bytes),
      insert: (epoch, sequence, body) => this.#insert(refOf(epoch, sequence), body),
    };
  }

  forget(id: ObjectId): void {
    const object = this.#objects.get(id);
    if (object === undefined) return;
    for (let slot = 0; slot < this.#slotCount; slot += 1)
      if (this.#table.valid(slot) !== 0 && this.#table.objectOf(slot) === object)
        this.#table.remove(slot);
    this.#objects.delete(id);
  }

  statistics(): CacheStatistics {
    const cachedBytes = this.#usedSlots * lineBytes;
    return { ...this.#counts, cachedBytes, isOff: this.#store.isOff };
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  #read(
    object: number,
    run: ChunkRun,
    into: Uint8Array,
    refOf: (epoch: number, sequence: number) => SegmentRef,
  ): Eventually<void> {
    const cached = this.#readCached(object, run, into);
    if (cached === 'hit') {
      if (this.#verifier.firstWrong(run, into) === -1) {
        this.#counts.hits += 1;
        return;
      }
      this.#dropDamaged(object, run, into.length);
    } else if (cached !== 'miss') {
      return cached.then((isWhole) => {
        if (isWhole && this.#verifier.firstWrong(run, into) === -1) {
          this.#counts.hits += 1;
          return;
        }
        this.#dropDamaged(object, run, into.length);
        return this.#readThrough(refOf(run.epoch, run.sequence), run, into);
      });
    }
    return this.#readThrough(refOf(run.epoch, run.sequence), run, into);
  }

  /** From lines that are all there. The promise tells whether all bytes came. */
  #readCached(object: number, run: ChunkRun, into: Uint8Array): 'hit' | 'miss' | Promise<boolean> {
    const end = run.offset + into.length;
    let waits: Promise<boolean>[] | undefined;
    for (let at = run.offset; at < end; ) {
      const line = Math.floor(at / lineBytes);
      const from = at - line * lineBytes;
      const bytes = Math.min(lineBytes - from, end - at);
      const slot = this.#table.find(object, run.epoch, run.sequence, line);
      if (slot < 0 || !hasParts(this.#table.valid(slot), from, bytes))
        return waits === undefined ? 'miss' : allOf(waits).then(() => false);
      this.#policy.touch(slot);
      const isAll = bytes === into.length;
      const area = isAll ? into : into.subarray(at - run.offset, at - run.offset + bytes);
      try {
        const read = this.#store.read(slot, from, area);
        if (isPending(read)) {
          waits ??= [];
          waits.push(
            read.then(
              (count) => count === bytes,
              () => false,
            ),
          );
        } else if (read !== bytes)
          return waits === undefined ? 'miss' : allOf(waits).then(() => false);
      } catch {
        // A disk that fails is a miss; the chunk's checksum would say the same.
        return waits === undefined ? 'miss' : allOf(waits).then(() => false);
      }
      at += bytes;
    }
    return waits === undefined ? 'hit' : allOf(waits);
  }

  async #readThrough(segment: SegmentRef, run: ChunkRun, into: Uint8Array): Promise<void> {
    this.#counts.misses += 1;
    const first = Math.floor(run.offset / lineBytes);
    const last = Math.floor((run.offset + into.length - 1) / lineBytes);
    const lines = await this.#fetchLines(segment, first, last);
    for (let line = first; line <= last; line += 1) {
      const start = line * lineBytes;
      const from = Math.max(run.offset, start);
      const to = Math.min(run.offset + into.length, start + lineBytes);
      const bytes = (lines[line - first] as Uint8Array).subarray(from - start, to - start);
      into.set(bytes, from - run.offset);
      if (bytes.length < to - from) into.fill(0, from - run.offset + bytes.length, to - run.offset);
    }
    if (this.#verifier.firstWrong(run, into) === -1) return;
    this.#dropDamaged(segment.object, run, into.length);
    await segment.fetcher.run(run, into);
  }

  /** Lines `first` to `last`, shared with whoever fetches them already. */
  #fetchLines(segment: SegmentRef, first: number, last: number): Promise<Uint8Array[]> {
    const flights: Promise<Uint8Array>[] = [];
    for (let line = first; line <= last; ) {
      const under = this.#flights.get(flightKey(segment, line));
      if (under) {
        flights.push(under);
        line += 1;
        continue;
      }
      let count = 1;
      while (
        line + count <= last &&
        count < linesPerFetch &&
        !this.#flights.has(flightKey(segment, line + count))
      )
        count += 1;
      flights.push(...this.#startFlight(segment, line, count));
      line += count;
    }
    return Promise.all(flights);
  }

  /** One request for `count` lines; a promise for each. */
  #startFlight(segment: SegmentRef, first: number, count: number): Promise<Uint8Array>[] {
    const bytes = count * lineBytes;
    const fetched = this.#inFlight.run(bytes, async () => {
      const body = await segment.fetcher.range(
        segment.epoch,
        segment.sequence,
        first * lineBytes,
        bytes,
      );
      this.#counts.fetchedBytes += body.length;
      return body;
    });
    return Array.from({ length: count }, (_, index) => {
      const line = first + index;
      const key = flightKey(segment, line);
      const flight = fetched
        .then((body) => {
          const part = body.subarray(index * lineBytes, (index + 1) * lineBytes);
          this.#keep(segment, line, part);
          return part;
        })
        .finally(() => this.#flights.delete(key));
      flight.catch(() => {});
      this.#flights.set(key, flight);
      return flight;
    });
  }

  #prefetch(segment: SegmentRef, offset: number, bytes: number): void {
    const last = Math.floor((offset + bytes - 1) / lineBytes);
    let first = -1;
    const ask = (end: number) => {
      if (first >= 0) this.#fetchLines(segment, first, end - 1).catch(() => {});
      first = -1;
    };
    for (let line = Math.floor(offset / lineBytes); line <= last; line += 1) {
      const { object, epoch, sequence } = segment;
      const isThere = this.#table.find(object, epoch, sequence, line) >= 0;
      if (isThere || this.#flights.has(flightKey(segment, line))) ask(line);
      else if (
        this.#inFlight.out + this.#inFlight.waiting * lineBytes >=
        this.#inFlight.capacity / 2
      )
        return ask(line);
      else if (first < 0) first = line;
    }
    ask(last + 1);
  }

  #insert(segment: SegmentRef, body: Uint8Array): void {
    for (let line = 0; line * lineBytes < body.length; line += 1)
      this.#keep(segment, line, body.subarray(line * lineBytes, (line + 1) * lineBytes));
  }

  #keep(segment: SegmentRef, line: number, bytes: Uint8Array): void {
    const { object, id, epoch, sequence } = segment;
    const parts = Math.ceil(bytes.length / partBytes);
    const valid = 2 ** parts - 1;
    if (parts === 0 || this.#store.isOff) return;
    const known = this.#table.find(object, epoch, sequence, line);
    if (known >= 0 && this.#table.valid(known) === valid) return;
    const slot = known >= 0 ? known : this.#takeSlot();
    this.#table.remove(slot);
    if (this.#store.write({ slot, id, epoch, sequence, line, valid }, bytes))
      this.#table.set(slot, object, epoch, sequence, line, valid);
    if (known < 0) this.#policy.admit(slot, lineHash(object, epoch, sequence, line));
  }

  #takeSlot(): number {
    const free = this.#freeSlots.pop();
    if (free !== undefined) {
      this.#usedSlots += 1;
      return free;
    }
    if (this.#usedSlots < this.#slotCount) {
      this.#usedSlots += 1;
      return this.#usedSlots - 1;
    }
    const slot = this.#policy.evict();
    this.#table.remove(slot);
    return slot;
  }

  #dropDamaged(object: number, run: ChunkRun, bytes: number): void {
    const last = Math.floor((run.offset + bytes - 1) / lineBytes);
    for (let line = Math.floor(run.offset / lineBytes); line <= last; line += 1) {
      const slot = this.#table.find(object, run.epoch, run.sequence, line);
      if (slot < 0) continue;
      this.#table.remove(slot);
      this.#counts.damagedLines += 1;
    }
  }

  async #load(): Promise<void> {
    const taken = new Uint8Array(this.#slotCount);
    let end = 0;
    await this.#store.load(this.#slotCount, ({ slot, id, epoch, sequence, line, valid }) => {
      const object = this.#numberOf(id);
      if (valid === 0 || this.#table.find(object, epoch, sequence, line) >= 0) return;
      this.#table.set(slot, object, epoch, sequence, line, valid);
      this.#policy.admit(slot, lineHash(object, epoch, sequence, line));
      taken[slot] = 1;
      end = slot + 1;
    });
    // Slots below the last used one that hold nothing are free; those above were never used.
    for (let slot = 0; slot < end; slot += 1) if (taken[slot] === 0) this.#freeSlots.push(slot);
    this.#usedSlots = end - this.#freeSlots.length;
    if (this.#freeSlots.length > 0) {
      for (let slot = end; slot < this.#slotCount; slot += 1) this.#freeSlots.push(slot);
      this.#freeSlots.reverse();
    }
  }

  #numberOf(id: ObjectId): number {
    const known = this.#objects.get(id);
    if (known !== undefined) return known;
    const number = this.#nextObject;
    this.#nextObject += 1;
    this.#objects.set(id, number);
    return number;
  }

  #nextObject = 1;
}

function flightKey(segment: SegmentRef, line: number): string {
  return `${segment.object}/${segment.epoch}/${segment.sequence}/${line}`;
}

/** Whether all 4 KiB parts of `bytes` from `from` are valid. */
function hasParts(valid: number, from: number, bytes: number): boolean {
  const first = Math.floor(from / partBytes);
  const end = Math.ceil((from + bytes) / partBytes);
  const mask = 2 ** end - 2 ** first;
  return (valid & mask) === mask;
}

async function allOf(waits: readonly Promise<boolean>[]): Promise<boolean> {
  const results = await Promise.all(waits);
  return results.every(Boolean);
}
