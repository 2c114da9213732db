/**
 * The life of one kind of object. Never acts without a live tenure.
 * Implementations: VolumeDriver, FileDriver.
 */

import type { ObjectId } from '../core/units.ts';
import type { DataObject } from './data-object.ts';
import type { Tenure } from './tenure.ts';

export interface ObjectDriver {
  readonly kind: 'volume' | 'file';

  /** Makes it empty, whatever an attempt that came to nothing left of it. */
  create(tenure: Tenure): Promise<void>;

  /**
   * Opens it for I/O, created where that never happened; this is always recovery, there is no
   * separate clean path.
   */
  open(tenure: Tenure): Promise<DataObject>;

  /** Removes all its data, local and on the backend. Idempotent; the object is not open. */
  delete(id: ObjectId): Promise<void>;
}
