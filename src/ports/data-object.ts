/**
 * Random access by bytes to one object: what the router routes and the front ends drive.
 * Implementations: Volume, SmallFile, and a model for tests; later an object on another host.
 *
 * Contract (test/conformance/data-object.ts):
 * - A write that has returned or resolved is seen by every read that starts after it.
 * - After `flush` resolves, everything that had resolved before it was called is durable.
 * - Requests may overlap; of two overlapping writes in flight at once either order is right, but
 *   no write is ever torn below a block and none undoes bytes outside its own range.
 * - Memory: the callee may use a buffer until the result is there, and never after.
 * - A call after `close` or `abandon` throws or rejects with `closed`.
 * - Errors: `corrupt` (only for the damaged blocks), `no_space`, `too_large`, `failed`, `fenced`,
 *   `closed`. Trouble that can get better is waited for, not reported.
 */

import type { Eventually } from '../core/eventually.ts';
import type { ObjectId } from '../core/units.ts';

export interface DataObject {
  readonly id: ObjectId;

  /** Bytes; the end of the object. */
  size(): number;

  /** Bytes that are stored; holes take none. An estimate that is right when nothing is in flight. */
  allocatedBytes(): number;

  /**
   * Fills `into` from `offset`; what was never written reads as zeroes. Gives the number of bytes
   * filled: fewer than asked only at the end of the object, 0 beyond it.
   */
  read(offset: number, into: Uint8Array): Eventually<number>;

  /**
   * Writes all of `data`; grows the object where the range passes its end. This and the other
   * changes give their number (core/changes.ts), 0 where nothing had to be changed.
   */
  write(offset: number, data: Uint8Array): Eventually<number>;

  /**
   * The range reads as zeroes afterwards and its space is given back. Size stays; what lies
   * beyond the end is ignored.
   */
  trim(offset: number, length: number): Eventually<number>;

  /** Sets the size in bytes. What is cut off is gone: growing again shows zeroes. */
  resize(bytes: number): Eventually<number>;

  /**
   * The first offset at or after `offset` that lies in data, or in a hole; `undefined` where there
   * is none before the end. The end itself counts as a hole. Never says hole for written bytes.
   */
  seek(offset: number, what: 'data' | 'hole'): Eventually<number | undefined>;

  /** The durability barrier of the guest. */
  flush(): Promise<void>;

  /** Resolves when all that was written before the call is on the backend and committed there. */
  sync(): Promise<void>;

  /** Flushes, then lets go. Idempotent. */
  close(): Promise<void>;

  /** Lets go without flushing, because the right to serve has ended. Idempotent. */
  abandon(): Promise<void>;
}
