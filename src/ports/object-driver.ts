/**
 * The life of one kind of object. Never acts without a live tenure.
 * Implementations: VolumeDriver, FileDriver.
 */

import type { TenureStart } from '../core/changes.ts';
import type { ObjectId } from '../core/units.ts';
import type { DataObject } from './data-object.ts';
import type { Tenure } from './tenure.ts';

/** What has become of an object's changes until now. */
export interface ChangesSoFar {
  /** Number of the last one. */
  readonly last: number;
  readonly starts: readonly TenureStart[];
}

/** An object that this host serves. */
export interface DrivenObject extends DataObject {
  readonly epoch: number;
  readonly changes: ChangesSoFar;

  /**
   * Its tenure is about to end. Where that is for an SSD that fails, whoever goes on gets what it
   * lacks, in bounded time; never rejects.
   */
  handOff?(): Promise<void>;
}

export interface ObjectDriver {
  readonly kind: 'volume' | 'file';

  /**
   * Makes it empty, whatever an attempt that came to nothing left of it; its changes are numbered
   * on from those of the object that it was before.
   */
  create(tenure: Tenure, before?: ChangesSoFar): Promise<void>;

  /**
   * Opens it for I/O, created where that never happened; this is always recovery, there is no
   * separate clean path.
   */
  open(tenure: Tenure): Promise<DrivenObject>;

  /** Removes all its data, local and on the backend. Idempotent; the object is not open. */
  delete(id: ObjectId): Promise<void>;
}
