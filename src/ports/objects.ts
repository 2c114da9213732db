/**
 * The objects as the front ends see them: by id, wherever they are served. Implementations: the
 * Object Router, and a memory model for tests of the namespace.
 */

import type { Eventually } from '../core/eventually.ts';
import type { ObjectId } from '../core/units.ts';
import type { DataObject } from './data-object.ts';

export type ObjectKind = 'volume' | 'file';

/** An object in use. Its kind may change from file to volume under it, as it grows. */
export interface ObjectHandle extends DataObject {
  kind(): ObjectKind;

  /** Whether this host serves it; otherwise its size here is that of the owner's last answer. */
  isHere(): boolean;

  /** Size and space are what they are at the owner now. */
  refresh(): Eventually<void>;

  /** As `flush`, for who is none of its users: what they have lost, their own flush tells them. */
  harden(): Promise<void>;

  /** Writes at the end: no two appends, of whichever hosts, at one place. */
  append(data: Uint8Array): Promise<void>;
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

  /** Whether a front end of another host has it open; also where one does not say. */
  isUsedElsewhere(id: ObjectId): Promise<boolean>;

  /** The handle where it is open now. */
  opened(id: ObjectId): ObjectHandle | undefined;
}
