/**
 * Lines on their way from the backend. Each is asked for once, whoever waits for it; neighbours are
 * asked for together. Bytes under way are bounded.
 *
 * A flight belongs to the volume that began it and ends with its signal. Who joined it then begins
 * one anew: the end of another tenure is no failure of this one.
 */

import { limits } from '../core/limits.ts';
import { Permits } from '../core/permits.ts';
import type { ObjectId } from '../core/units.ts';
import type { ChunkRun } from '../ports/segment-source.ts';
import { lineBytes } from './line-slots.ts';
import type { SegmentFetcher } from './segment-fetcher.ts';

const linesPerFetch = limits.requestBytesMax / lineBytes;

/** A segment as the cache names it. */
export interface SegmentRef {
  readonly object: number;
  readonly id: ObjectId;
  readonly epoch: number;
  readonly sequence: number;
  readonly fetcher: SegmentFetcher;
}

interface Flight {
  readonly first: number;
  readonly body: Promise<Uint8Array>;
  readonly fetcher: SegmentFetcher;
}

export class LineFlights {
  readonly #flights = new Map<string, Flight>();
  readonly #permits: Permits;
  readonly #landed: (segment: SegmentRef, line: number, bytes: Uint8Array) => void;
  fetches = 0;
  fetchedBytes = 0;

  /** `landed` is told of each line once. */
  constructor(
    bytesMax: number,
    landed: (segment: SegmentRef, line: number, bytes: Uint8Array) => void,
  ) {
    this.#permits = new Permits(bytesMax);
    this.#landed = landed;
  }

  has(segment: SegmentRef, line: number): boolean {
    return this.#flights.has(keyOf(segment, line));
  }

  /** Whether so many lines more would leave too little for those who wait. */
  isBusyWith(lines: number): boolean {
    const { out, waiting, capacity } = this.#permits;
    return out + (waiting + lines) * lineBytes > capacity / 2;
  }

  /** The lines (ascending), each up to its end or that of the segment. */
  fetch(segment: SegmentRef, lines: readonly number[]): Promise<Uint8Array[]> {
    const bodies: Promise<Uint8Array>[] = [];
    for (let index = 0; index < lines.length; ) {
      const first = lines[index] as number;
      if (this.has(segment, first)) {
        bodies.push(this.#join(segment, first));
        index += 1;
        continue;
      }
      let count = 1;
      while (
        count < linesPerFetch &&
        lines[index + count] === first + count &&
        !this.has(segment, first + count)
      )
        count += 1;
      const { body } = this.#start(segment, first, count);
      for (let part = 0; part < count; part += 1)
        bodies.push(body.then((bytes) => lineOf(bytes, part)));
      index += count;
    }
    return Promise.all(bodies);
  }

  /** The run alone, verified, for nobody else. */
  async fetchRun({ fetcher }: SegmentRef, run: ChunkRun, into: Uint8Array): Promise<void> {
    await this.#bounded(fetcher, into.length, () => fetcher.run(run, into));
    this.fetches += 1;
    this.fetchedBytes += into.length;
  }

  #start(segment: SegmentRef, first: number, count: number): Flight {
    const keys = Array.from({ length: count }, (_, index) => keyOf(segment, first + index));
    const body = this.#request(segment, first, count).finally(() => {
      for (const key of keys) this.#flights.delete(key);
    });
    const flight = { first, body, fetcher: segment.fetcher };
    for (const key of keys) this.#flights.set(key, flight);
    return flight;
  }

  async #request(segment: SegmentRef, first: number, count: number): Promise<Uint8Array> {
    const { fetcher, epoch, sequence } = segment;
    const bytes = count * lineBytes;
    const body = await this.#bounded(fetcher, bytes, () =>
      fetcher.range(epoch, sequence, first * lineBytes, bytes),
    );
    this.fetches += 1;
    this.fetchedBytes += body.length;
    for (let part = 0; part < count; part += 1)
      this.#landed(segment, first + part, lineOf(body, part));
    return body;
  }

  async #bounded<T>(
    { signal }: SegmentFetcher,
    bytes: number,
    fetch: () => Promise<T>,
  ): Promise<T> {
    await this.#permits.acquire(bytes, { signal });
    try {
      return await fetch();
    } finally {
      this.#permits.release(bytes);
    }
  }

  async #join(segment: SegmentRef, line: number): Promise<Uint8Array> {
    const { fetcher } = segment;
    for (;;) {
      const flight = this.#flights.get(keyOf(segment, line)) ?? this.#start(segment, line, 1);
      try {
        const body = await unlessAborted(flight.body, fetcher.signal);
        return lineOf(body, line - flight.first);
      } catch (error) {
        if (flight.fetcher === fetcher || fetcher.signal.aborted) throw error;
      }
    }
  }
}

function keyOf({ object, epoch, sequence }: SegmentRef, line: number): string {
  return `${object}/${epoch}/${sequence}/${line}`;
}

function lineOf(body: Uint8Array, index: number): Uint8Array {
  return body.subarray(index * lineBytes, (index + 1) * lineBytes);
}

/** Ends with the signal, whatever else still waits for the work. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason as Error);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    if (signal.aborted) onAbort();
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
