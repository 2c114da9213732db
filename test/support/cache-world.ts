/**
 * What the SSD read cache stands on, in memory: a disk that fails and crashes, a bucket that tells
 * what was asked of it and answers as the test wants, time that moves when it is told to. The
 * segments are those that were put; every read is compared with them.
 */

import assert from 'node:assert/strict';
import type { CacheSettings } from '../../src/cache/segment-cache.ts';
import { SegmentCache } from '../../src/cache/segment-cache.ts';
import { StorageError } from '../../src/core/errors.ts';
import { KiB, MiB, objectId } from '../../src/core/units.ts';
import { segmentKey } from '../../src/format/segment-key.ts';
import { tableChecksum } from '../../src/platform/checksum.ts';
import { MemoryDisk } from '../../src/platform/memory-disk.ts';
import { SimulatedClock } from '../../src/platform/simulated-clock.ts';
import type { BlobStore } from '../../src/ports/blob-store.ts';
import type { ChunkRun, SegmentSource } from '../../src/ports/segment-source.ts';
import { quietLog } from './quiet-log.ts';

export const dataPath = '/cache/cache.data';
export const indexPath = '/cache/cache.index';

export interface Asked {
  readonly key: string;
  readonly offset: number;
  readonly length: number;
}

/** A bucket of segments. */
export class SegmentBucket {
  readonly blobs = new Map<string, Uint8Array>();
  /** Every get, in order. */
  readonly asked: Asked[] = [];
  /** Bytes asked for and not answered yet, at most. */
  openBytesMax = 0;
  #openBytes = 0;
  /** Stands between a get and its answer. */
  answer: (asked: Asked, bytes: Uint8Array) => Promise<Uint8Array> = async (_, bytes) => bytes;

  get store(): BlobStore {
    const refuse = () => Promise.reject(new StorageError('unsupported', 'only gets are tested'));
    return {
      put: refuse,
      list: refuse,
      deleteMany: refuse,
      get: async (key, { offset = 0, length = Number.MAX_SAFE_INTEGER, signal } = {}) => {
        signal?.throwIfAborted();
        const asked = { key, offset, length };
        this.asked.push(asked);
        this.#openBytes += length;
        this.openBytesMax = Math.max(this.openBytesMax, this.#openBytes);
        try {
          const found = this.blobs.get(key);
          const body = found?.slice(offset, offset + length);
          const answered = await untilAborted(
            this.answer(asked, body ?? new Uint8Array(0)),
            signal,
          );
          if (!found) throw new StorageError('not_found', 'no such blob');
          return answered;
        } finally {
          this.#openBytes -= length;
        }
      },
    };
  }

  /** Holds all answers from now on; the result lets them go. */
  hold(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    const { answer } = this;
    this.answer = async (asked, bytes) => {
      await promise;
      return answer(asked, bytes);
    };
    return () => {
      this.answer = answer;
      resolve();
    };
  }
}

async function untilAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason as Error);
  signal.addEventListener('abort', onAbort, { once: true });
  return Promise.race([work, promise]).finally(() => signal.removeEventListener('abort', onAbort));
}

export class CacheWorld {
  disk = new MemoryDisk();
  readonly clock = new SimulatedClock();
  readonly log = quietLog();
  readonly checksum = tableChecksum();
  readonly bucket = new SegmentBucket();
  readonly id = objectId('c0ffee'.padStart(32, '0'));
  settings: CacheSettings = {
    folder: '/cache',
    cacheBytesMax: 4 * MiB,
    fetchBytesMax: 4 * MiB,
  };
  #cache: SegmentCache | undefined;
  #source: SegmentSource | undefined;

  get cache(): SegmentCache {
    assert.ok(this.#cache, 'the cache was opened');
    return this.#cache;
  }

  get source(): SegmentSource {
    assert.ok(this.#source, 'the cache was opened');
    return this.#source;
  }

  /** As a new process does it. */
  async open(settings: Partial<CacheSettings> = {}): Promise<this> {
    this.settings = { ...this.settings, ...settings };
    const { disk, checksum, clock, log } = this;
    this.#cache = await SegmentCache.open({ disk, checksum, clock, log }, this.settings);
    this.#source = this.newSource(new AbortController().signal);
    return this;
  }

  async reopen(settings: Partial<CacheSettings> = {}): Promise<this> {
    await this.cache.close();
    return this.open(settings);
  }

  newSource(signal: AbortSignal, id = this.id): SegmentSource {
    return this.cache.source(id, this.bucket.store, signal);
  }

  /** A segment of bytes that tell their place, on the backend. */
  put(sequence: number, bytes = 256 * KiB): Uint8Array {
    const words = new Uint32Array(Math.ceil(bytes / 4));
    for (let word = 0; word < words.length; word += 1)
      words[word] = Math.imul(word + 1, 0x9e37_79b1) ^ Math.imul(sequence, 0x85eb_ca6b);
    const body = new Uint8Array(words.buffer, 0, bytes);
    this.bucket.blobs.set(segmentKey(1, sequence), body.slice());
    return body;
  }

  /** Chunks of a body, with their checksums behind a few that are not meant. */
  runOf(sequence: number, body: Uint8Array, offset: number, length: number, chunkBytes = 4096) {
    const lead = 3;
    const checksums = new Uint32Array(lead + length / chunkBytes).fill(0xdead);
    const expected = body.slice(offset, offset + length);
    this.checksum.crc32cBlocks(expected, chunkBytes, checksums, lead);
    const run: ChunkRun = {
      ...{ epoch: 1, sequence, offset, chunkBytes, checksums },
      firstChecksum: lead,
    };
    return { run, expected };
  }

  /** Reads a part of the segment and compares it with what was put. */
  async check(
    sequence: number,
    body: Uint8Array,
    offset: number,
    length: number,
    source = this.source,
  ): Promise<void> {
    const { run, expected } = this.runOf(sequence, body, offset, length);
    const into = new Uint8Array(length).fill(0xee);
    await this.elapse(Promise.resolve(source.read(run, into)));
    assert.ok(Buffer.compare(into, expected) === 0, `segment ${sequence} at ${offset}`);
  }

  /** Lets time go by until the work has ended. */
  async elapse<T>(work: Promise<T>): Promise<T> {
    let isSettled = false;
    const settled = work.finally(() => {
      isSettled = true;
    });
    settled.catch(() => {});
    while (!isSettled) await this.clock.advance(this.clock.sleeping > 0 ? 10 : 0);
    return settled;
  }

  alarms(): string[] {
    return this.log.lines.filter(({ level }) => level === 'error').map(({ message }) => message);
  }
}
