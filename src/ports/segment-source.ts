/**
 * The segments of one volume as its read path sees them: through the SSD cache, from the backend
 * otherwise. Segments are immutable, so what is cached stays right for ever; a cached byte that
 * fails its checksum is a miss, never a failure.
 * Implementations: the SSD cache's view of a bucket; straight from the bucket (no cache).
 */

import type { Eventually } from '../core/eventually.ts';

/** Chunks that lie one behind another in one segment, and the CRC-32C of each. */
export interface ChunkRun {
  readonly epoch: number;
  readonly sequence: number;
  /** Bytes from the start of the segment. */
  readonly offset: number;
  /** Bytes of each chunk; the run has `into.length / chunkBytes` of them. */
  readonly chunkBytes: number;
  /** CRC-32C of chunk `i` at `checksums[firstChecksum + i]`. */
  readonly checksums: Uint32Array;
  readonly firstChecksum: number;
}

export interface SegmentSource {
  /**
   * Fills `into` with the run's chunks, each verified. Trouble of the backend is waited for.
   * Throws `corrupt` when a chunk is wrong in the cache and on the backend too, or the segment is
   * missing there.
   */
  read(run: ChunkRun, into: Uint8Array): Eventually<void>;

  /** The run will be wanted soon. Bounded: may do nothing. */
  prefetch(epoch: number, sequence: number, offset: number, bytes: number): void;

  /** Remembers a segment that was just put. The buffer is not used after the return. */
  insert(epoch: number, sequence: number, body: Uint8Array): void;
}
