/**
 * A snapshot as it is read, on any host and without a tenure: nothing of it changes. Its segments
 * stay as long as its record does; reading on after that is `corrupt`.
 */

import { StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import { chain } from '../core/eventually.ts';
import { limits } from '../core/limits.ts';
import type { Head } from '../format/head.ts';
import { decodeHead } from '../format/head.ts';
import type { ObjectId } from '../core/units.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import { BlockMap } from './block-map.ts';
import { BlockReader } from './block-reader.ts';
import { openLineage } from './lineage.ts';
import type { MapState } from './map-diff.ts';
import type { PageBudget } from './page-budget.ts';
import { PageTree } from './page-tree.ts';
import { applyTail } from './recovery.ts';
import { seekInMap } from './seek.ts';
import type { VolumeDriverDeps } from './volume-deps.ts';

const { blockBytes } = limits;

export interface SnapshotViewDeps
  extends Pick<VolumeDriverDeps, 'backend' | 'bucketOf' | 'sources'> {
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly budget: PageBudget;
}

export class SnapshotView implements MapState {
  readonly sizeBytes: number;
  readonly ancestors: readonly ObjectId[];
  readonly #map: BlockMap;
  readonly #reader: BlockReader;
  readonly #clock: Clock;
  readonly #stop: AbortController;

  private constructor(
    map: BlockMap,
    parts: {
      readonly reader: BlockReader;
      readonly clock: Clock;
      readonly stop: AbortController;
      readonly head: Head;
    },
  ) {
    this.#map = map;
    this.#reader = parts.reader;
    this.#clock = parts.clock;
    this.#stop = parts.stop;
    this.sizeBytes = parts.head.volumeBytes;
    this.ancestors = parts.head.ancestors;
  }

  /** `encodedHead`: the one that the snapshot keeps, of volume `id`. */
  static async open(
    deps: SnapshotViewDeps,
    id: ObjectId,
    encodedHead: Uint8Array,
  ): Promise<SnapshotView> {
    const { checksum, clock, budget } = deps;
    const head = decodeHead(encodedHead, checksum);
    const stop = new AbortController();
    const { signal } = stop;
    const { buckets, sources } = openLineage(deps, [id, ...head.ancestors], signal);
    const tree = new PageTree(sources, budget, { place: head.root, level: head.rootLevel });
    const map = new BlockMap(tree, head.dataBlocks);
    await applyTail({ buckets, checksum, signal }, head.tail, map);
    const journal = {
      read(): never {
        throw new StorageError('corrupt', 'a place in the journal stands in a snapshot');
      },
    };
    const reader = new BlockReader({ map, journal, sources, checksum });
    return new SnapshotView(map, { reader, clock, stop, head });
  }

  /** As `DataObject.allocatedBytes`. */
  get allocatedBytes(): number {
    return this.#map.dataBlocks * blockBytes;
  }

  /** The map, for whoever compares two of them. */
  get map(): BlockMap {
    return this.#map;
  }

  /** As `DataObject.read`. */
  read(offset: number, into: Uint8Array): Eventually<number> {
    this.#stop.signal.throwIfAborted();
    const bytes = Math.min(into.length, Math.max(0, this.sizeBytes - offset));
    if (bytes === 0) return 0;
    const area = bytes === into.length ? into : into.subarray(0, bytes);
    return chain(this.#reader.readBytes(offset, area), () => bytes);
  }

  /** As `DataObject.seek`. */
  seek(offset: number, what: 'data' | 'hole'): Eventually<number | undefined> {
    this.#stop.signal.throwIfAborted();
    const yieldTurn = () => this.#clock.sleep(0);
    return seekInMap(this.#map, yieldTurn, { offset, what, size: this.sizeBytes });
  }

  async close(): Promise<void> {
    this.#stop.abort(new StorageError('closed', 'the snapshot is closed'));
    await this.#reader.settled();
    this.#map.tree.close();
  }
}
