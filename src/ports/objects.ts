/**
 * The objects as the front ends see them: by id, wherever they are served. Implementations: the
 * Object Router, and a memory model for tests of the namespace.
 */

import type { ObjectId } from '../core/units.ts';
import type { DataObject } from './data-object.ts';

export type ObjectKind = 'volume' | 'file';

/** An object in use. Its kind may change from file to volume under it, as it grows. */
export interface ObjectHandle extends DataObject {
  kind(): ObjectKind;
}

export interface Objects {
  /**
   * A new empty object of this host. Idempotent for the same id; what was created and never named
   * by an inode is an orphan that `delete` removes.
   */
  create(id: ObjectId, kind: ObjectKind): Promise<void>;

  /** Opens the object, or shares it where it is open already. Each open is paired with a release. */
  open(id: ObjectId): Promise<ObjectHandle>;

  /** Gives one `open` back. The object may stay open for a while, flushed. */
  release(id: ObjectId): void;

  /** Its data is gone, here and on the backend. Idempotent; nobody has it open. */
  delete(id: ObjectId): Promise<void>;

  /** The handle where it is open now. */
  opened(id: ObjectId): ObjectHandle | undefined;
}
