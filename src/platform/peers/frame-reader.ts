/**
 * Finds frames in the chunks of a connection. One that lies in a chunk as a whole is given as it
 * lies there, without a copy. One that does not is put together: its head is small, and its payload
 * is copied once, into memory of its own.
 */

import type { Frame, FrameMemory, FrameStart } from '../../format/peer-frame.ts';
import {
  checkHead,
  checkPayload,
  decodeFrameStart,
  frameBytes,
  frameHeadBytesMax,
  frameMemory,
} from '../../format/peer-frame.ts';
import type { Checksum } from '../../ports/checksum.ts';

const nothing = new Uint8Array(0);

export class FrameReader {
  readonly #checksum: Checksum;
  readonly #onFrame: (frame: Frame) => void;
  /** Start and head of the frame that is put together. */
  readonly #fixed = frameMemory(new Uint8Array(frameBytes + frameHeadBytesMax));
  #fixedBytes = 0;
  #start: FrameStart | undefined;
  #payload: Uint8Array | undefined;
  #payloadBytes = 0;

  constructor(checksum: Checksum, onFrame: (frame: Frame) => void) {
    this.#checksum = checksum;
    this.#onFrame = onFrame;
  }

  /** Frames hold on to the chunk. Throws `corrupt`: nothing more of this connection is believed. */
  take(chunk: Uint8Array): void {
    const memory = frameMemory(chunk);
    for (let at = 0; at < chunk.length; ) {
      if (this.#payload) at += this.#takePayload(this.#payload, chunk.subarray(at));
      else if (this.#fixedBytes > 0) at += this.#takeFixed(chunk.subarray(at));
      else at += this.#takeWhole(memory, at) || this.#takeFixed(chunk.subarray(at));
    }
  }

  /** 0 where the chunk ends before the frame at `at` does. */
  #takeWhole(memory: FrameMemory, at: number): number {
    const { bytes } = memory;
    if (bytes.length - at < frameBytes) return 0;
    const start = decodeFrameStart(memory, at);
    const headAt = at + frameBytes;
    const payloadAt = headAt + start.headBytes;
    const end = payloadAt + start.payloadBytes;
    if (end > bytes.length) return 0;
    checkHead(memory, at, payloadAt, this.#checksum);
    this.#give(start, bytes.subarray(headAt, payloadAt), bytes.subarray(payloadAt, end));
    return end - at;
  }

  #takeFixed(chunk: Uint8Array): number {
    const wanted = frameBytes + (this.#start?.headBytes ?? 0);
    const taken = Math.min(wanted - this.#fixedBytes, chunk.length);
    this.#fixed.bytes.set(chunk.subarray(0, taken), this.#fixedBytes);
    this.#fixedBytes += taken;
    if (this.#fixedBytes < wanted) return taken;
    if (!this.#start) {
      this.#start = decodeFrameStart(this.#fixed, 0);
      if (this.#start.headBytes > 0) return taken;
    }
    checkHead(this.#fixed, 0, this.#fixedBytes, this.#checksum);
    if (this.#start.payloadBytes === 0) this.#end(this.#start, nothing);
    else this.#payload = new Uint8Array(this.#start.payloadBytes);
    return taken;
  }

  #takePayload(payload: Uint8Array, chunk: Uint8Array): number {
    const taken = Math.min(payload.length - this.#payloadBytes, chunk.length);
    payload.set(chunk.subarray(0, taken), this.#payloadBytes);
    this.#payloadBytes += taken;
    if (this.#payloadBytes === payload.length) this.#end(this.#start as FrameStart, payload);
    return taken;
  }

  #end(start: FrameStart, payload: Uint8Array): void {
    const head = this.#fixed.bytes.slice(frameBytes, this.#fixedBytes);
    this.#start = undefined;
    this.#payload = undefined;
    this.#fixedBytes = 0;
    this.#payloadBytes = 0;
    this.#give(start, head, payload);
  }

  #give(start: FrameStart, head: Uint8Array, payload: Uint8Array): void {
    checkPayload(start, payload, this.#checksum);
    const { type, kind, number } = start;
    this.#onFrame({ type, kind, number, head, payload });
  }
}
