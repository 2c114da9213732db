/**
 * Locks that hold on all hosts (port ObjectLocks). A lock lives with the host whose process holds
 * it; the object's owner decides who gets one (lock-arbiter.ts).
 *
 *   held       granted in this session of the host: the owner of each new tenure is told of it
 *   doubtful   this host was out of the vPool since: asked for again as soon as it is back
 *   lost       another host's process has got it meanwhile, which the log tells
 */

import { aborted } from '../../core/aborted.ts';
import { describeError, isStorageError, StorageError } from '../../core/errors.ts';
import { limits } from '../../core/limits.ts';
import { TaskGroup } from '../../core/task-group.ts';
import type { HostId, ObjectId } from '../../core/units.ts';
import type {
  FoundLock,
  Grant,
  LockRange,
  LockRequest,
  ObjectLocks,
} from '../../ports/object-locks.ts';
import { lastByte } from '../../ports/object-locks.ts';
import type { PeerMessage } from '../../ports/peers.ts';
import { HeldLocks } from './held-locks.ts';
import type { HostLease } from '../members/host-lease.ts';
import type { LockServiceDeps } from './lock-service.ts';
import { LockService } from './lock-service.ts';

export class ClusterLocks implements ObjectLocks {
  readonly #deps: LockServiceDeps;
  readonly #held = new HeldLocks();
  readonly #service: LockService;
  /** Changes of an object's locks, one after another. */
  readonly #turns = new Map<ObjectId, Promise<void>>();
  /** An owner has said of them what `Grant.isStale` says, and nobody has been told so far. */
  readonly #stale = new Set<ObjectId>();
  readonly #closing = new AbortController();
  readonly #tasks: TaskGroup;

  constructor(deps: LockServiceDeps) {
    this.#deps = deps;
    const { signal } = this.#closing;
    this.#service = new LockService(deps, this.#held, signal);
    this.#tasks = new TaskGroup((error) => {
      if (signal.aborted) return;
      deps.log.error({ error: describeError(error) }, 'locks could not be asked for again');
    });
    this.#tasks.run(() => this.#keep());
  }

  /** A lock message of another host. */
  handle(from: HostId, message: PeerMessage): Promise<PeerMessage> {
    return this.#service.handle(from, message);
  }

  async find(id: ObjectId, wanted: LockRequest): Promise<FoundLock | undefined> {
    const { host, membership } = this.#deps;
    const { session } = await membership.current();
    const { signal } = this.#closing;
    return (await this.#service.ask(id, 'find', { ...wanted, host, session }, signal)).found;
  }

  set(id: ObjectId, wanted: LockRequest): Promise<Grant | undefined> {
    return this.#inTurn(id, async () => {
      await this.#reclaim(id);
      // To give a part of a lock back may make two of it.
      const locksMax = limits.locksPerObjectMax * (wanted.type === 'none' ? 2 : 1);
      if (this.#held.of(id).length >= locksMax)
        throw new StorageError('no_space', 'too many locks on one object');
      if (!(await this.#request(id, wanted))) return undefined;
      if (wanted.type === 'none' || !this.#stale.has(id)) return { isStale: false };
      await this.#service.refresh(id);
      this.#stale.delete(id);
      return { isStale: true };
    });
  }

  async setLater(id: ObjectId, wanted: LockRequest, signal: AbortSignal): Promise<Grant> {
    const { host, membership } = this.#deps;
    const given = AbortSignal.any([signal, this.#closing.signal]);
    const givenUp = aborted(given);
    givenUp.catch(() => {});
    for (;;) {
      const grant = await this.set(id, wanted);
      if (grant) return grant;
      const { session } = membership;
      const wait = this.#service.ask(id, 'wait', { ...wanted, host, session }, given);
      await Promise.race([wait, givenUp]);
    }
  }

  async drop(id: ObjectId, kind: LockRange['kind'], owner: bigint): Promise<void> {
    if (this.#held.of(id).length === 0 && !this.#turns.has(id)) return;
    await this.#inTurn(id, async () => {
      const locks = this.#held.of(id).filter((lock) => lock.kind === kind && lock.owner === owner);
      if (locks.length === 0) return;
      const all = { kind, owner, pid: 0, type: 'none', start: 0n, end: lastByte } as const;
      try {
        await this.#request(id, all);
      } catch (error) {
        if (!isStorageError(error, 'not_found')) throw error;
        // The object is gone, and with it whatever its owner knew.
        for (const lock of locks) this.#held.forget(id, lock);
      }
    });
  }

  /** Who still waits for a lock gets an error. */
  async close(): Promise<void> {
    this.#closing.abort(new StorageError('failed', 'this host is stopping'));
    await this.#tasks.drained();
  }

  /** Asks until an owner has decided whose word counts, in a session that this host is in. */
  async #request(id: ObjectId, wanted: LockRequest): Promise<boolean> {
    const { host, membership } = this.#deps;
    const { signal } = this.#closing;
    for (;;) {
      signal.throwIfAborted();
      const lease = await membership.current();
      const asked = { ...wanted, host, session: lease.session };
      this.#held.begin(id);
      const { found, isStale, epoch } = await this.#service.ask(id, 'set', asked, signal);
      if (isStale && !found && wanted.type !== 'none') this.#stale.add(id);
      if (!(await isKept(lease))) continue;
      if (!this.#held.end(id, epoch, asked, found ? 'refused' : 'granted')) continue;
      return !found;
    }
  }

  /** Locks of an earlier session are asked for again. */
  async #reclaim(id: ObjectId): Promise<void> {
    const { membership, log } = this.#deps;
    if (this.#held.of(id).length === 0) return;
    const { session } = await membership.current();
    for (const lock of this.#held.of(id)) {
      if (lock.session === session || (await this.#request(id, lock))) continue;
      this.#held.forget(id, lock);
      log.error({ object: id, pid: lock.pid }, 'lock is lost: another host got it meanwhile');
    }
  }

  async #keep(): Promise<void> {
    const { signal } = this.#closing;
    const closed = aborted(signal);
    for (;;) {
      const lease = await Promise.race([this.#deps.membership.current(), closed]);
      for (const id of this.#held.objects)
        this.#tasks.run(() => this.#inTurn(id, () => this.#reclaim(id)));
      await Promise.race([aborted(lease.lost).catch(() => {}), closed]);
    }
  }

  #inTurn<T>(id: ObjectId, action: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(id) ?? Promise.resolve()).then(action);
    const settled = turn
      .catch(() => {})
      .then(() => {
        if (this.#turns.get(id) === settled) this.#turns.delete(id);
      });
    this.#turns.set(id, settled);
    return turn as Promise<T>;
  }
}

/** Whether nobody can have declared this host's locks void so far. */
function isKept(lease: HostLease): Promise<boolean> {
  return lease.fresh().then(
    () => true,
    () => false,
  );
}
