/**
 * The right to serve one object, granted by `router/` from the registry. No driver acts without
 * one; the epoch is in every segment name, journal record and head commit.
 */

import type { Epoch, ObjectId } from '../core/units.ts';

export interface Tenure {
  readonly objectId: ObjectId;
  readonly epoch: Epoch;
  /**
   * The tenure before this one was this host's as well, so the journal it left here is the newest
   * state. Where it is false, local state of the object is old and is discarded.
   */
  readonly resumed: boolean;
  /** Fires when the right ends, for whatever reason. */
  readonly signal: AbortSignal;
  /** Throws `fenced` once the right has ended. Cheap enough for every acknowledgement. */
  assertLive(): void;
}
