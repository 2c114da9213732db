/**
 * The locks that this host's processes hold, wherever they were granted. When an owner begins its
 * tenure it asks for them; a grant that is on its way from an owner before that one is worth
 * nothing then, and is asked for again.
 */

import type { ObjectId } from '../../core/units.ts';
import type { HeldLock, WantedLock } from './lock-table.ts';
import { LockTable } from './lock-table.ts';

/** A request that is under way. */
interface Attempt {
  /** The newest tenure that has asked since it began; 0: none. */
  askedEpoch: number;
}

export class HeldLocks {
  readonly #tables = new Map<ObjectId, LockTable>();
  /** One at a time for each object. */
  readonly #attempts = new Map<ObjectId, Attempt>();

  get objects(): readonly ObjectId[] {
    return [...this.#tables.keys()];
  }

  of(id: ObjectId): readonly HeldLock[] {
    return this.#tables.get(id)?.locks ?? [];
  }

  /** For the owner of tenure `epoch`. Locks of earlier sessions are not held any more. */
  tell(id: ObjectId, epoch: number, session: number): readonly HeldLock[] {
    const attempt = this.#attempts.get(id);
    if (attempt) attempt.askedEpoch = Math.max(attempt.askedEpoch, epoch);
    return this.of(id).filter((lock) => lock.session === session);
  }

  begin(id: ObjectId): void {
    this.#attempts.set(id, { askedEpoch: 0 });
  }

  /**
   * Notes what the owner of tenure `epoch` has decided about the request that was begun. False
   * where its word counts no more.
   */
  end(id: ObjectId, epoch: number, wanted: WantedLock, answer: 'granted' | 'refused'): boolean {
    const attempt = this.#attempts.get(id);
    this.#attempts.delete(id);
    if (attempt === undefined || epoch < attempt.askedEpoch) return false;
    const isConversion = answer === 'refused' && wanted.kind === 'flock';
    if (answer === 'granted') this.#set(id, wanted);
    else if (isConversion) this.#set(id, { ...wanted, type: 'none' });
    return true;
  }

  /** Forgets it without a word to anybody. */
  forget(id: ObjectId, lock: HeldLock): void {
    this.#set(id, { ...lock, type: 'none' });
  }

  #set(id: ObjectId, wanted: WantedLock): void {
    const table = this.#tables.get(id) ?? new LockTable();
    // What the owner has granted counts: a lock in its way is one that an earlier session had.
    for (let lost = table.set(wanted); lost !== undefined; lost = table.set(wanted))
      table.remove((lock) => lock === lost);
    if (table.locks.length > 0) this.#tables.set(id, table);
    else this.#tables.delete(id);
  }
}
