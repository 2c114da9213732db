/**
 * The locks on one object. Pure.
 *
 * - Locks of one owner never conflict; nor do two for readers, nor locks of different kinds.
 * - A new lock takes the place of what its owner had in its range: the old one is cut, or split in
 *   two; neighbours of one type become one (fcntl(2)).
 * - A flock of another type takes the place of the old one in two steps: refused, the old one is
 *   gone (flock(2)).
 */

import type { HostId } from '../../core/units.ts';
import type { FoundLock, LockRange, LockRequest } from '../../ports/object-locks.ts';

/** Whose process it is. */
interface OnHost {
  readonly host: HostId;
  /** Of the time that the host was in the vPool when the lock was granted: it ends with that. */
  readonly session: number;
}

export type HeldLock = FoundLock & OnHost;
export type WantedLock = LockRequest & OnHost;

type Ranged = LockRange & OnHost;

export class LockTable {
  #locks: HeldLock[] = [];

  get locks(): readonly HeldLock[] {
    return this.#locks;
  }

  /** A lock that stands in the way of `wanted`. */
  conflict(wanted: WantedLock): HeldLock | undefined {
    if (wanted.type === 'none') return undefined;
    return this.#locks.find(
      (lock) =>
        lock.kind === wanted.kind &&
        !isOwnerOf(wanted, lock) &&
        overlap(wanted, lock) &&
        (lock.type === 'write' || wanted.type === 'write'),
    );
  }

  /** Does it, or gives what stands in the way. */
  set(wanted: WantedLock): HeldLock | undefined {
    const { type, kind } = wanted;
    const conflict = this.conflict(wanted);
    if (conflict && kind === 'flock') this.#convert(wanted);
    if (conflict) return conflict;
    this.#clear(wanted);
    if (type !== 'none') this.#add({ ...wanted, type });
    return undefined;
  }

  /** Removes all of which `isGone` is true. */
  remove(isGone: (lock: HeldLock) => boolean): void {
    this.#locks = this.#locks.filter((lock) => !isGone(lock));
  }

  #convert(wanted: WantedLock): void {
    this.remove((lock) => isOwnerOf(wanted, lock) && lock.type !== wanted.type);
  }

  /** Its owner has nothing in the range any more. */
  #clear(wanted: Ranged): void {
    const isCut = (lock: HeldLock) => isOwnerOf(wanted, lock) && overlap(wanted, lock);
    const cut = this.#locks.filter(isCut);
    if (cut.length === 0) return;
    const left = cut.flatMap((lock) => {
      const before = { ...lock, end: wanted.start - 1n };
      const after = { ...lock, start: wanted.end + 1n };
      return [before, after].filter(({ start, end }) => start <= end);
    });
    this.remove(isCut);
    this.#locks.push(...left);
  }

  /** Into a range that is clear. */
  #add(added: HeldLock): void {
    const [before, after] = [added.start - 1n, added.end + 1n];
    const isNeighbour = (lock: HeldLock) =>
      isOwnerOf(added, lock) &&
      lock.type === added.type &&
      lock.session === added.session &&
      (lock.end === before || lock.start === after);
    const merged = [added, ...this.#locks.filter(isNeighbour)];
    const start = merged.reduce(
      (least, lock) => (lock.start < least ? lock.start : least),
      added.start,
    );
    const end = merged.reduce((most, lock) => (lock.end > most ? lock.end : most), added.end);
    this.remove(isNeighbour);
    this.#locks.push({ ...added, start, end });
  }
}

/** Of the same owner and kind. The session is not a part of it: an owner may ask again in the next. */
function isOwnerOf(wanted: Ranged, lock: HeldLock): boolean {
  return lock.owner === wanted.owner && lock.kind === wanted.kind && lock.host === wanted.host;
}

function overlap(one: LockRange, other: LockRange): boolean {
  return one.start <= other.end && other.start <= one.end;
}
