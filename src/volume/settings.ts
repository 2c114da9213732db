/** What a user may tune of the Volume Driver; see config/wharf.yaml for the words of each. */

import type { JournalSettings } from '../log/journal.ts';

export interface VolumeSettings {
  readonly journal: JournalSettings;
  /** Payload of a segment, bytes: a multiple of 4 KiB. */
  readonly segmentBytes: number;
  /** A cut is taken when so many bytes were written since the last one, */
  readonly cutBytes: number;
  /** or when the oldest of them is so old. */
  readonly destageDelayMs: number;
  /** Bytes of segments in memory on their way to the backend, over all volumes. */
  readonly uploadBytesMax: number;
  /** The map is checkpointed when its delta has so many blocks, */
  readonly deltaBlocksMax: number;
  /** or when recovery would have to read the index of so many segments. */
  readonly tailSegmentsMax: number;
  /** or when its oldest change is so old. */
  readonly checkpointDelayMs: number;
  /** Pages of block maps in memory, bytes, over all volumes. */
  readonly mapBytesMax: number;
  /** How far a sequential reader is read ahead of, bytes; 0: not at all. */
  readonly readAheadBytes: number;
}
