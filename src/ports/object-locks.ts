/**
 * Advisory locks of processes on objects, the same for all hosts of a vPool. Implementation:
 * `router/locks/cluster-locks.ts`.
 *
 * Two kinds, which never stand in each other's way: `posix` has byte ranges as fcntl(2) says (its
 * owner is a process, or an open file for OFD locks), `flock` the whole file as flock(2) says.
 */

import type { ObjectId } from '../core/units.ts';

/** The last byte that a lock may cover: what `l_len` 0 means. */
export const lastByte = 2n ** 63n - 1n;

export interface LockRange {
  readonly kind: 'posix' | 'flock';
  /** As the kernel of the host names it: locks of one owner never stand in each other's way. */
  readonly owner: bigint;
  readonly pid: number;
  /** Inclusive, both: 0 to `lastByte`. */
  readonly start: bigint;
  readonly end: bigint;
}

/** What an owner wants of a range: a lock for readers, one for a writer, or none any more. */
export interface LockRequest extends LockRange {
  readonly type: 'read' | 'write' | 'none';
}

export interface FoundLock extends LockRange {
  readonly type: 'read' | 'write';
}

/** A lock was granted. */
export interface Grant {
  /** Others may have changed the object since this host had its last lock: caches are too old. */
  readonly isStale: boolean;
}

export interface ObjectLocks {
  /** A lock that stands in the way; its pid is 0 where that process is on another host. */
  find(id: ObjectId, wanted: LockRequest): Promise<FoundLock | undefined>;

  /**
   * Undefined where another's lock stands in the way; `no_space` where the object has too many. A
   * `flock` that is refused has lost what lock it had, as flock(2) says of conversions.
   */
  set(id: ObjectId, wanted: LockRequest): Promise<Grant | undefined>;

  /** As `set`, and waits for its turn. Rejects with the signal's reason, then without the lock. */
  setLater(id: ObjectId, wanted: LockRequest, signal: AbortSignal): Promise<Grant>;

  /** Drops all locks of one kind of an owner; at once where the object has none. */
  drop(id: ObjectId, kind: LockRange['kind'], owner: bigint): Promise<void>;
}
