/**
 * The right to serve one object, granted by `router/` from the registry. No driver acts without
 * one; the epoch is in every segment name, journal record and head commit.
 */

import type { Epoch, ObjectId } from '../core/units.ts';

export interface Tenure {
  readonly objectId: ObjectId;
  readonly epoch: Epoch;
  /** Fires when the right ends, for whatever reason. */
  readonly signal: AbortSignal;
  /** Throws `fenced` once the right has ended. Cheap enough for every acknowledgement. */
  assertLive(): void;
}
