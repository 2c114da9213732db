/** What differs from seed to seed of sizes, times and ways: no bug lives in one configuration alone. */

import { KiB } from '../../src/core/units.ts';
import type { Random } from '../../src/ports/random.ts';
import type { Settings } from '../../src/daemon/settings.ts';

export interface Tuning {
  readonly replica: 'none' | 'sync';
  readonly handover: { readonly reads: number; readonly writes: number };
  readonly volumes: Partial<Settings['volumes']> & {
    readonly journalFile: number;
    readonly journalMax: number;
  };
  readonly cacheBytes: number;
  readonly requestsMax: number;
  /** How long an fdatasync takes, at most. */
  readonly syncMs: number;
}

export function tuningOf(random: Random): Tuning {
  const any = <T>(...of: readonly T[]) => of[Math.floor(random.fraction() * of.length)] as T;
  const journalFile = any(64, 128, 512) * KiB;
  return {
    replica: any('sync', 'sync', 'none'),
    handover: { reads: any(0, 10, 40), writes: any(0, 10, 40) },
    volumes: {
      journalFile,
      journalMax: journalFile * any(3, 8),
      // Several pages of the map fit, or compaction would find something to win for ever.
      segment: any(32, 32, 128) * KiB,
      cut: any(16, 64, 256) * KiB,
      destageDelay: any(50, 500, 5000),
      uploadMax: any(256, 2048) * KiB,
      deltaBlocks: any(16, 64, 1024),
      tailSegments: any(3, 12, 256),
      checkpointDelay: any(200, 2000, 30_000),
      mapMemory: any(1, 64 * KiB),
      readAhead: any(0, 64 * KiB),
    },
    cacheBytes: any(1024, 1024, 4096) * KiB,
    requestsMax: any(4, 64),
    syncMs: any(1, 1, 30, 200),
  };
}

/** A journal grows by whole files, and one is ready before it is needed. */
export function journalMaxOf({ volumes: { journalFile, journalMax } }: Tuning): number {
  return journalMax + 2 * journalFile;
}
