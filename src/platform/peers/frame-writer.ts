/**
 * Gathers the frames that are sent in one turn of the loop: what is small lies one behind another
 * in memory that serves again and again, so that many frames are one part for the socket. Large
 * payloads go as they are.
 */

import type { Frame, FrameMemory } from '../../format/peer-frame.ts';
import {
  encodeFrame,
  frameBytes,
  frameHeadBytesMax,
  frameMemory,
} from '../../format/peer-frame.ts';
import { KiB } from '../../core/units.ts';
import type { Checksum } from '../../ports/checksum.ts';

const memoryBytes = 256 * KiB;
/** Copying more costs more than another part does. */
const copiedBytesMax = 16 * KiB;
const frameBytesMax = frameBytes + frameHeadBytesMax + copiedBytesMax;

export class FrameWriter {
  readonly #checksum: Checksum;
  #memory: FrameMemory | undefined;
  /** Of the memory: what is gathered and in no part yet. */
  #from = 0;
  #to = 0;
  #parts: Uint8Array[] = [];
  #bytes = 0;

  constructor(checksum: Checksum) {
    this.#checksum = checksum;
  }

  /** Gathered so far. */
  get bytes(): number {
    return this.#bytes;
  }

  add(frame: Frame): void {
    const { payload } = frame;
    const memory = this.#room();
    const before = this.#to;
    this.#to = encodeFrame(frame, memory, before, this.#checksum);
    this.#bytes += this.#to - before + payload.length;
    if (payload.length <= copiedBytesMax) {
      memory.bytes.set(payload, this.#to);
      this.#to += payload.length;
      return;
    }
    this.#endPart();
    this.#parts.push(payload);
  }

  /** All that is gathered, in its order. */
  take(): readonly Uint8Array[] {
    this.#endPart();
    const parts = this.#parts;
    this.#parts = [];
    this.#bytes = 0;
    return parts;
  }

  /** Nobody reads any more in what was taken. */
  reuse(): void {
    this.#from = 0;
    this.#to = 0;
  }

  #room(): FrameMemory {
    if (this.#memory && memoryBytes - this.#to >= frameBytesMax) return this.#memory;
    this.#endPart();
    this.reuse();
    this.#memory = frameMemory(Buffer.allocUnsafeSlow(memoryBytes));
    return this.#memory;
  }

  #endPart(): void {
    if (this.#from === this.#to || !this.#memory) return;
    this.#parts.push(this.#memory.bytes.subarray(this.#from, this.#to));
    this.#from = this.#to;
  }
}
