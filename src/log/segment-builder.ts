/**
 * Packs chunks into one segment in memory. Where a chunk will lie is known as soon as it is
 * reserved, so that pages and places can point at it before the segment is put.
 */

import { invariant } from '../core/invariant.ts';
import type { ChunkEntry, ChunkKind, SegmentIdentity, Trim } from '../format/segment.ts';
import { encodeSegmentHead, segmentHeadBytes } from '../format/segment.ts';
import type { Checksum } from '../ports/checksum.ts';

export interface SegmentShape {
  readonly payloadBytesMax: number;
  readonly chunksMax: number;
  readonly trims: readonly Trim[];
}

export class SegmentBuilder {
  readonly epoch: number;
  readonly sequence: number;
  readonly #shape: SegmentShape;
  readonly #headBytes: number;
  readonly #body: Uint8Array;
  readonly #chunks: ChunkEntry[] = [];
  #end: number;

  constructor(epoch: number, sequence: number, shape: SegmentShape) {
    this.epoch = epoch;
    this.sequence = sequence;
    this.#shape = shape;
    this.#headBytes = segmentHeadBytes(shape.trims.length, shape.chunksMax);
    this.#end = this.#headBytes;
    this.#body = new Uint8Array(this.#headBytes + shape.payloadBytesMax);
  }

  get chunkCount(): number {
    return this.#chunks.length;
  }

  hasRoom(bytes: number): boolean {
    return this.#chunks.length < this.#shape.chunksMax && this.#end + bytes <= this.#body.length;
  }

  /** The offset that the next chunk will have. */
  get nextOffset(): number {
    return this.#end;
  }

  /** The area of a new chunk, for the caller to fill before `seal`. */
  reserve(
    chunk: { kind: ChunkKind; level: number; block: number; checksum: number },
    bytes: number,
  ): Uint8Array {
    invariant(this.hasRoom(bytes), 'a chunk fits into its segment');
    const offset = this.#end;
    this.#chunks.push({ ...chunk, offset, bytes });
    this.#end += bytes;
    return this.#body.subarray(offset, this.#end);
  }

  /** The finished segment. The builder is not used after it. */
  seal(identity: Omit<SegmentIdentity, 'epoch' | 'sequence'>, checksum: Checksum): Uint8Array {
    const segment = this.#body.subarray(0, this.#end);
    const { epoch, sequence } = this;
    const { trims } = this.#shape;
    const header = { ...identity, epoch, sequence, trims, chunks: this.#chunks };
    encodeSegmentHead(segment, { ...header, headBytes: this.#headBytes }, checksum);
    return segment;
  }
}
