/**
 * Sees sequential readers and asks for what they will want. A few streams are told apart, as one
 * guest reads several files at a time. The window of a stream doubles from two requests up to the
 * bound, and is asked for again when half of it is consumed.
 */

import { limits } from '../core/limits.ts';

const streamsMax = 8;
const hitsBefore = 2;
const windowBytesAtFirst = 256 * 1024;

interface Stream {
  /** Where the reader is expected next. */
  next: number;
  /** Up to where it has been asked for. */
  ahead: number;
  hits: number;
  windowBytes: number;
}

export class ReadAhead {
  readonly #bytesMax: number;
  readonly #prefetch: (offset: number, bytes: number) => void;
  /** The most recently used first. */
  readonly #streams: Stream[] = [];

  constructor(bytesMax: number, prefetch: (offset: number, bytes: number) => void) {
    this.#bytesMax = bytesMax;
    this.#prefetch = prefetch;
  }

  /** A read of the guest, as it arrives. */
  note(offset: number, bytes: number): void {
    if (this.#bytesMax === 0) return;
    const end = offset + bytes;
    const index = this.#streams.findIndex((stream) => stream.next === offset);
    if (index === -1) {
      this.#streams.unshift({ next: end, ahead: end, hits: 0, windowBytes: windowBytesAtFirst });
      if (this.#streams.length > streamsMax) this.#streams.pop();
      return;
    }
    const stream = this.#streams[index] as Stream;
    if (index > 0) {
      this.#streams.splice(index, 1);
      this.#streams.unshift(stream);
    }
    stream.next = end;
    stream.hits += 1;
    stream.ahead = Math.max(stream.ahead, end);
    if (stream.hits < hitsBefore || stream.ahead - end > stream.windowBytes / 2) return;
    const to = Math.min(end + stream.windowBytes, limits.volumeBytesMax);
    const from = stream.ahead;
    stream.ahead = to;
    stream.windowBytes = Math.min(stream.windowBytes * 2, this.#bytesMax);
    this.#prefetch(from, to - from);
  }
}
