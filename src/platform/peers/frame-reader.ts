/**
 * Puts frames together from the chunks of a connection. It holds at most one frame: the head is
 * small, and a payload is copied once, into memory of its own.
 */

import { StorageError } from '../../core/errors.ts';
import type { Frame, FrameStart } from '../../format/peer-frame.ts';
import {
  checkHead,
  decodeFrameStart,
  frameBytes,
  frameHeadBytesMax,
} from '../../format/peer-frame.ts';
import type { Checksum } from '../../ports/checksum.ts';

export class FrameReader {
  readonly #checksum: Checksum;
  readonly #onFrame: (frame: Frame) => void;
  readonly #fixed = new Uint8Array(frameBytes + frameHeadBytesMax);
  #fixedBytes = 0;
  #start: FrameStart | undefined;
  #payload: Uint8Array | undefined;
  #payloadBytes = 0;

  constructor(checksum: Checksum, onFrame: (frame: Frame) => void) {
    this.#checksum = checksum;
    this.#onFrame = onFrame;
  }

  /** Throws `corrupt`: nothing more of this connection is to be believed. */
  take(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#payload) at += this.#takePayload(this.#payload, chunk.subarray(at));
      else at += this.#takeFixed(chunk.subarray(at));
    }
  }

  #takeFixed(chunk: Uint8Array): number {
    const wanted = frameBytes + (this.#start?.headBytes ?? 0);
    const taken = Math.min(wanted - this.#fixedBytes, chunk.length);
    this.#fixed.set(chunk.subarray(0, taken), this.#fixedBytes);
    this.#fixedBytes += taken;
    if (this.#fixedBytes < wanted) return taken;
    if (!this.#start) {
      this.#start = decodeFrameStart(this.#fixed);
      if (this.#start.headBytes > 0) return taken;
    }
    checkHead(this.#fixed.subarray(0, this.#fixedBytes), this.#checksum);
    if (this.#start.payloadBytes === 0) this.#end(this.#start, new Uint8Array(0));
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

  #end({ type, kind, number, payloadCrc }: FrameStart, payload: Uint8Array): void {
    if (this.#checksum.crc32c(payload) !== payloadCrc)
      throw new StorageError('corrupt', 'not a frame: its payload is damaged');
    const head = this.#fixed.slice(frameBytes, this.#fixedBytes);
    this.#start = undefined;
    this.#payload = undefined;
    this.#fixedBytes = 0;
    this.#payloadBytes = 0;
    this.#onFrame({ type, kind, number, head, payload });
  }
}
