/** What an administrator does to a volume in use: snapshots, space, flattening. */

import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Tenure } from '../ports/tenure.ts';
import type { CareAnswer, SpaceUse, VolumeRequest } from '../ports/volume-care.ts';
import type { SnapshotRecords } from '../registry/snapshot-records.ts';
import { ofTemplate } from '../registry/snapshot-records.ts';
import type { BlockMap } from './block-map.ts';
import type { Checkpointer } from './checkpointer.ts';
import type { Destager } from './destager.ts';
import { flattenSlice } from './flattener.ts';
import type { HeadCommitter } from './head-committer.ts';
import type { SourcesByOrigin } from './page-tree.ts';
import type { SegmentSequencer } from './segment-sequencer.ts';

const { blockBytes } = limits;

export interface VolumeCareDeps {
  readonly tenure: Tenure;
  readonly map: BlockMap;
  readonly sources: SourcesByOrigin;
  readonly destager: Destager;
  readonly checkpointer: Checkpointer;
  readonly committer: HeadCommitter;
  readonly sequencer: SegmentSequencer;
  readonly snapshots: SnapshotRecords;
  /** Bytes. */
  readonly size: () => number;
  readonly assertWritable: () => void;
  /** From now on nothing is written. */
  readonly freeze: () => void;
}

export class VolumeCare {
  readonly #deps: VolumeCareDeps;
  /** By name. */
  readonly #begun = new Map<string, { readonly createdNs: bigint; readonly made: Promise<void> }>();
  /** How far this tenure has looked for what is an ancestor's, from the volume's start. */
  #flattenedBlocks = 0;

  constructor(deps: VolumeCareDeps) {
    this.#deps = deps;
  }

  async act(request: VolumeRequest): Promise<CareAnswer> {
    this.#deps.assertWritable();
    switch (request.do) {
      case 'snapshot':
        await this.snapshot(request.name, BigInt(request.createdNs));
        return {};
      case 'settle':
        return { isKept: await this.#settle(request.name, BigInt(request.createdNs)) };
      case 'collect':
        await this.#deps.checkpointer.collect();
        return {};
      case 'compact':
        if (request.how === 'run') await this.compact();
        else await this.#deps.checkpointer.checkpointNow();
        return { compaction: await this.#deps.checkpointer.plan() };
      case 'flatten':
        return this.#flatten();
      case 'freeze':
        this.#deps.freeze();
        await this.#deps.destager.sync();
        await this.snapshot(ofTemplate, BigInt(request.createdNs));
        return {};
      case 'recount':
        await this.#deps.checkpointer.recount();
        return {};
      case 'space':
        return { space: await this.#space() };
    }
  }

  /**
   * Keeps the volume as it is at one moment after the call: some prefix of its changes, with all that
   * were acknowledged before the call and none that began after the end. Resolves when that is on
   * the backend; a crash before leaves no snapshot. `exists`.
   */
  snapshot(name: string, createdNs: bigint): Promise<void> {
    const begun = this.#begun.get(name);
    if (begun?.createdNs === createdNs) return begun.made;
    if (begun) return Promise.reject(standing(name));
    const made = this.#keep(name, createdNs).finally(() => this.#begun.delete(name));
    this.#begun.set(name, { createdNs, made });
    return made;
  }

  /** The same of this very moment, all of whose changes are acknowledged; `settle` says what became of it. */
  mark(name: string, createdNs: bigint): void {
    this.#deps.assertWritable();
    if (this.#begun.has(name)) throw standing(name);
    const made = this.#freeze(name, createdNs).finally(() => this.#begun.delete(name));
    made.catch(() => {});
    this.#begun.set(name, { createdNs, made });
  }

  /** Wins space back until there is no more worth winning in what is there now. */
  async compact(): Promise<void> {
    const { destager, checkpointer } = this.#deps;
    await destager.sync();
    await checkpointer.compact();
  }

  async #settle(name: string, createdNs: bigint): Promise<boolean> {
    const { snapshots, tenure } = this.#deps;
    await this.#begun.get(name)?.made.catch(() => {});
    return (await snapshots.find(tenure.objectId, name))?.createdNs === createdNs;
  }

  async #keep(name: string, createdNs: bigint): Promise<void> {
    const { snapshots, tenure } = this.#deps;
    const found = await snapshots.find(tenure.objectId, name);
    // The same one, whose answer was lost.
    if (found?.createdNs === createdNs) return;
    if (found) throw standing(name);
    await this.#freeze(name, createdNs);
  }

  #freeze(name: string, createdNs: bigint): Promise<void> {
    const { map, destager, checkpointer, sequencer, snapshots, tenure } = this.#deps;
    const id = tenure.objectId;
    const usedBytes = map.dataBlocks * blockBytes;
    return destager.snapshot((head) => {
      const at = sequencer.last;
      checkpointer.noteSnapshot(at);
      return snapshots.writes(id, { name, createdNs, at, usedBytes, head });
    });
  }

  /**
   * A slice of the copying. A block that is not found in an ancestor's segment, because something
   * newer stands above it, is so on the backend only after the sync at the end. So the whole volume
   * is looked through in one tenure.
   */
  async #flatten(): Promise<CareAnswer> {
    const { map, sources, checkpointer, committer, destager, size } = this.#deps;
    const end = Math.ceil(size() / blockBytes);
    if (committer.head.ancestors.length === 0) {
      await checkpointer.copyHead();
      return flattened(true, end, 0);
    }
    let copiedBlocks = 0;
    if (this.#flattenedBlocks < end)
      await checkpointer.move(async (writer, relocations) => {
        const from = this.#flattenedBlocks;
        const slice = await flattenSlice({ map, sources }, from, end, writer, relocations);
        copiedBlocks = slice.copiedBlocks;
        this.#flattenedBlocks = slice.nextBlock ?? end;
      });
    if (this.#flattenedBlocks < end) return flattened(false, this.#flattenedBlocks, copiedBlocks);
    await destager.sync();
    await committer.commit(
      (head) => ({ ...head, ancestors: [] }),
      () => {},
    );
    // Before what it read until now may go.
    await checkpointer.copyHead();
    return flattened(true, end, copiedBlocks);
  }

  /** An estimate: pages of the map count too, and blocks that were overwritten since the checkpoint. */
  async #space(): Promise<SpaceUse> {
    const { checkpointer, committer, map } = this.#deps;
    const usedBytes = map.dataBlocks * blockBytes;
    if (committer.head.ancestors.length === 0) return { uniqueBytes: usedBytes, sharedBytes: 0 };
    const { liveBytes } = await checkpointer.plan();
    const ownBytes = liveBytes + (map.delta.countOwnRows() + map.journalBlocks) * blockBytes;
    const uniqueBytes = Math.min(usedBytes, ownBytes);
    return { uniqueBytes, sharedBytes: usedBytes - uniqueBytes };
  }
}

function standing(name: string): StorageError {
  return new StorageError('exists', `snapshot ${name} exists already`);
}

function flattened(isDone: boolean, doneBlocks: number, copiedBlocks: number): CareAnswer {
  const [doneBytes, copiedBytes] = [doneBlocks * blockBytes, copiedBlocks * blockBytes];
  return { flattened: { isDone, doneBytes, copiedBytes } };
}
