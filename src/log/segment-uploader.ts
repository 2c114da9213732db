/**
 * Puts sealed segments, a bounded number of bytes at a time over all volumes of a driver. Trouble
 * of the backend is waited for by the store below; a put that fails here ended with the tenure.
 */

import type { Permits } from '../core/permits.ts';
import { segmentKey } from '../format/segment-key.ts';
import type { BlobStore } from '../ports/blob-store.ts';
import type { SegmentSource } from '../ports/segment-source.ts';

export interface UploaderDeps {
  readonly store: BlobStore;
  readonly source: SegmentSource;
  /** Bytes of segments in memory at once, shared by all volumes. */
  readonly inFlight: Permits;
  readonly signal: AbortSignal;
}

export class SegmentUploader {
  readonly #deps: UploaderDeps;
  #bytes = 0;
  #count = 0;

  constructor(deps: UploaderDeps) {
    this.#deps = deps;
  }

  /** Bytes and segments put since the volume was opened. */
  get statistics(): { readonly bytes: number; readonly segments: number } {
    return { bytes: this.#bytes, segments: this.#count };
  }

  /** Waits for memory to build a segment of so many bytes; `put` gives it back. */
  reserve(bytes: number): Promise<void> {
    return this.#deps.inFlight.acquire(bytes, { signal: this.#deps.signal });
  }

  /** Gives back what was reserved for a segment that came to nothing. */
  release(bytes: number): void {
    this.#deps.inFlight.release(bytes);
  }

  async put(epoch: number, sequence: number, body: Uint8Array, reserved: number): Promise<void> {
    const { store, source, signal } = this.#deps;
    try {
      await store.put(segmentKey(epoch, sequence), body, { signal });
      source.insert(epoch, sequence, body);
      this.#bytes += body.length;
      this.#count += 1;
    } finally {
      this.release(reserved);
    }
  }
}
