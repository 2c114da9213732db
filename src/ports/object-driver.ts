/**
 * The life of one kind of object. Never acts without a live tenure.
 * Implementations: VolumeDriver, FileDriver.
 */

import type { ObjectId } from '../core/units.ts';
import type { DataObject } from './data-object.ts';
import type { Tenure } from './tenure.ts';

export interface ObjectDriver {
  readonly kind: 'volume' | 'file';

  /** Prepares an empty object. Idempotent: creating again what was never written is no error. */
  create(tenure: Tenure): Promise<void>;

  /** Opens it for I/O; this is always recovery, there is no separate clean path. */
  open(tenure: Tenure): Promise<DataObject>;

  /** Removes all its data, local and on the backend. Idempotent; the object is not open. */
  delete(id: ObjectId): Promise<void>;
}
