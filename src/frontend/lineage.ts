/**
 * What clones and what they were made of owe each other. The data of a volume stays while a clone
 * of it lives, whatever becomes of its name; the snapshot that was made for one clone goes with it.
 */

import { isStorageError, StorageError } from '../core/errors.ts';
import type { ObjectId } from '../core/units.ts';
import type { Compare } from '../ports/registry.ts';
import type { CareAnswer, CareRequest } from '../ports/volume-care.ts';
import { isForClone, type SnapshotRecords } from '../registry/snapshot-records.ts';

export interface LineageDeps {
  readonly snapshots: SnapshotRecords;
  readonly care: { ask(id: ObjectId, request: CareRequest): Promise<CareAnswer> };
  readonly collect: (id: ObjectId) => void;
}

export class Lineage {
  readonly #deps: LineageDeps;

  constructor(deps: LineageDeps) {
    this.#deps = deps;
  }

  /**
   * That nothing but its name holds the volume, for the transaction that takes the last one to
   * compare. `busy` where it has snapshots: who removes it would lose them unawares.
   */
  async unkept(id: ObjectId): Promise<Compare> {
    const compare = await this.#deps.snapshots.none(id);
    if (compare) return compare;
    throw new StorageError('busy', 'it is a template or has snapshots, which have to go first');
  }

  /** Whether the volume's data has to stay although it has no name. */
  async isNeeded(id: ObjectId): Promise<boolean> {
    return (await this.#deps.snapshots.clones(id)).length > 0;
  }

  /** Of a volume without a name, what no clone reads goes. Idempotent; `busy`. */
  async empty(id: ObjectId): Promise<void> {
    try {
      await this.#deps.care.ask(id, { do: 'empty' });
    } catch (error) {
      // The last clone went meanwhile, and all of it.
      if (!isStorageError(error, 'not_found')) throw error;
    }
  }

  /** The volume's data is gone. Gives what it was a clone of, if it was one. Idempotent. */
  async forget(id: ObjectId): Promise<ObjectId | undefined> {
    await this.#deps.snapshots.forget(id);
    return this.detach(id);
  }

  /** The volume reads nothing of what it was a clone of any more; gives that one. Idempotent. */
  async detach(clone: ObjectId): Promise<ObjectId | undefined> {
    const { snapshots } = this.#deps;
    const descent = await snapshots.detach(clone);
    if (!descent) return undefined;
    const { parent, snapshot } = descent;
    if (isForClone(snapshot)) await snapshots.delete(parent, snapshot);
    return parent;
  }

  /** What nobody reaches any more of the volume may be deleted: soon, and not waited for. */
  collect(id: ObjectId): void {
    this.#deps.collect(id);
  }
}
