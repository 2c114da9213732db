/**
 * Locks on files by inode number, and when they end: `posix` locks of a process when it closes any
 * descriptor of the file, those of an open file (OFD) when that is gone. Both come under one kind
 * with an owner that only the kernel can tell, so the owners that came through an open file are
 * noted with it, unless they have been dropped since. What is kept never changes: everybody gets
 * every lock on it.
 */

import { StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import type { Ino, ObjectId } from '../core/units.ts';
import type { FoundLock, Grant, LockRequest, ObjectLocks } from '../ports/object-locks.ts';

const granted: Grant = { isStale: false };

export class FileLocks {
  readonly #objectOf: (ino: Ino) => Eventually<ObjectId | 'kept' | undefined>;
  readonly #locks: ObjectLocks;
  /** Owners of `posix` locks by the handles that they came through, by inode. */
  readonly #owners = new Map<Ino, Map<bigint, Set<bigint>>>();

  constructor(
    objectOf: (ino: Ino) => Eventually<ObjectId | 'kept' | undefined>,
    locks: ObjectLocks,
  ) {
    this.#objectOf = objectOf;
    this.#locks = locks;
  }

  async find(ino: Ino, wanted: LockRequest): Promise<FoundLock | undefined> {
    const id = await this.#object(ino);
    return id === 'kept' ? undefined : this.#locks.find(id, wanted);
  }

  /** As `ObjectLocks.set`; `handle` tells the open files of a mount apart. */
  async set(ino: Ino, handle: bigint, wanted: LockRequest): Promise<Grant | undefined> {
    const id = this.#object(ino);
    if (id === 'kept') return granted;
    this.#note(ino, handle, wanted);
    return this.#locks.set(typeof id === 'string' ? id : await id, wanted);
  }

  async setLater(
    ino: Ino,
    handle: bigint,
    wanted: LockRequest,
    signal: AbortSignal,
  ): Promise<Grant> {
    const id = this.#object(ino);
    if (id === 'kept') return granted;
    this.#note(ino, handle, wanted);
    return this.#locks.setLater(typeof id === 'string' ? id : await id, wanted, signal);
  }

  /** A process, `owner`, has closed a descriptor of the file. */
  async closed(ino: Ino, owner: bigint): Promise<void> {
    for (const owners of this.#owners.get(ino)?.values() ?? []) owners.delete(owner);
    await this.#drop(ino, [['posix', owner]]);
  }

  /** An open file is gone; `flock` is the owner of the lock that flock(2) may have given it. */
  async released(ino: Ino, handle: bigint, flock: bigint | undefined): Promise<void> {
    const handles = this.#owners.get(ino);
    const owners = handles?.get(handle) ?? [];
    handles?.delete(handle);
    if (handles?.size === 0) this.#owners.delete(ino);
    const gone = [...owners].map((owner) => ['posix', owner] as const);
    await this.#drop(ino, flock === undefined ? gone : [...gone, ['flock', flock]]);
  }

  /** Each in the order in which it was asked for: no lock that is asked for later is met. */
  async #drop(ino: Ino, owners: readonly (readonly ['posix' | 'flock', bigint])[]): Promise<void> {
    if (owners.length === 0) return;
    const known = this.#objectOf(ino);
    const id = known instanceof Promise ? await known : known;
    if (id === undefined || id === 'kept') return;
    await Promise.all(owners.map(([kind, owner]) => this.#locks.drop(id, kind, owner)));
  }

  #note(ino: Ino, handle: bigint, { kind, type, owner }: LockRequest): void {
    if (kind === 'flock' || type === 'none') return;
    const handles = this.#owners.get(ino) ?? new Map<bigint, Set<bigint>>();
    this.#owners.set(ino, handles);
    handles.set(handle, (handles.get(handle) ?? new Set()).add(owner));
  }

  #object(ino: Ino): Promise<ObjectId> | ObjectId | 'kept' {
    const refuse = (): never => {
      throw new StorageError('invalid', 'only files have locks');
    };
    const found = this.#objectOf(ino);
    if (found instanceof Promise)
      return found.then((id) => (id === undefined || id === 'kept' ? refuse() : id));
    return found ?? refuse();
  }
}
