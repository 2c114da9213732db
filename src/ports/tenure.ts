/**
 * The right to serve one object, granted by `router/` from the registry. No driver acts without
 * one; the epoch is in every segment name, journal record and head commit.
 */

import type { Epoch, HostId, ObjectId } from '../core/units.ts';

/** One copy of the journal's tail of one object; no two have the same name. */
export interface ReplicaCopy {
  readonly host: HostId;
  /** Epoch and number of the attempt of its owner that began it, as `12.3`. */
  readonly copy: string;
}

/**
 * Where the changes of an object are that may not be on the backend yet: nowhere else, on the SSD
 * of the owner alone, or on that of a replica's host as well.
 */
export type Tail = 'backend' | 'owner' | ReplicaCopy;

export interface Tenure {
  readonly objectId: ObjectId;
  readonly epoch: Epoch;
  /**
   * Where the state is found that the tenure begins with: what lies elsewhere of it is old. A copy
   * is one on this host.
   */
  readonly tail: Tail;
  /** The object is a template: it is not written. */
  readonly isFrozen?: boolean;
  /** Fires when the right ends, for whatever reason. */
  readonly signal: AbortSignal;
  /** Throws `fenced` once the right has ended. Cheap enough for every acknowledgement. */
  assertLive(): void;
}
