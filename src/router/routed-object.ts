/**
 * An object as the front ends hold it: it stays while what serves it changes. A request that this
 * host may serve at once goes to the driver's object at once. What serves the object may change for
 * three reasons: a file becomes a volume, the object moves to another host, a tenure ends.
 *
 *   here     this host drives it, and requests pass while its lease is fresh
 *   there    another host does, and requests go to it
 *   held     what serves it is changing: new requests wait, those under way finish first
 *
 * A request that met the end of a tenure, or an owner that does not answer, has not been
 * acknowledged. It is made again with whoever serves the object then: requests say where they read
 * and write, so making one again is as good as making it once.
 */

import { isStorageError, StorageError } from '../core/errors.ts';
import { isThere } from '../core/changes.ts';
import type { Eventually } from '../core/eventually.ts';
import { isPending } from '../core/eventually.ts';
import { limits } from '../core/limits.ts';
import type { ObjectId } from '../core/units.ts';
import type { DataObject } from '../ports/data-object.ts';
import type { DrivenObject } from '../ports/object-driver.ts';
import type { ObjectHandle, ObjectKind } from '../ports/objects.ts';
import type { Backing, Change, Here, RoutedDeps, There } from './backing.ts';
import { isReroutable } from './backing.ts';
import { RemoteObject } from './peers/remote-object.ts';
import type { Claim } from './unflushed.ts';
import { Unflushed } from './unflushed.ts';

type Request<T> = (object: Backing['object']) => Eventually<T>;

export class RoutedObject implements ObjectHandle {
  readonly id: ObjectId;
  readonly #deps: RoutedDeps;
  #backing: Backing;
  #underWay = 0;
  #idle: (() => void) | undefined;
  #held: Promise<void> | undefined;
  #isClosed = false;
  #localRequests = 0;
  readonly #unflushed = new Unflushed();
  /** The end of the appends that are under way. */
  #appending = Promise.resolve();

  constructor(id: ObjectId, backing: Backing, deps: RoutedDeps) {
    this.id = id;
    this.#backing = this.#known(backing);
    this.#deps = deps;
  }

  get backing(): Backing {
    return this.#backing;
  }

  /** Requests wait while what serves it changes. */
  get isHeld(): boolean {
    return this.#held !== undefined;
  }

  /** Requests of this host's front ends so far. */
  get localRequests(): number {
    return this.#localRequests;
  }

  /** Nothing that was acknowledged to this host's front ends waits for a flush. */
  get isFlushed(): boolean {
    return this.#unflushed.isEmpty;
  }

  kind(): ObjectKind {
    const backing = this.#backing;
    return backing.where === 'here' ? backing.kind : backing.object.kind();
  }

  size(): number {
    return this.#backing.object.size();
  }

  allocatedBytes(): number {
    return this.#backing.object.allocatedBytes();
  }

  isHere(): boolean {
    return this.#backing.where === 'here';
  }

  refresh(): Eventually<void> {
    const backing = this.#backing;
    if (backing.where === 'here' && backing.lease.isFresh() && !this.#held) return;
    return this.#runLater('look', (object) =>
      object instanceof RemoteObject ? object.refresh() : undefined,
    );
  }

  /**
   * An attempt that was not acknowledged may have been made all the same: the next one looks. What
   * other hosts append comes between by `serveAppend`.
   */
  async append(data: Uint8Array): Promise<void> {
    if (data.length === 0) return;
    let tried: number | undefined;
    const attempt = async (object: DataObject): Promise<number> => {
      const isMade = tried !== undefined && (await holds(object, tried, data));
      if (!isMade) tried = object.size();
      if (!isMade && object instanceof RemoteObject) return object.appendAt(tried as number, data);
      // What has been made already is made again, to know of which tenure it is.
      return object.write(tried as number, data);
    };
    return this.#appendInTurn(async () => {
      for (let isDone = false; !isDone; ) {
        while (this.#held || this.#outgrows(this.size() + data.length))
          await (this.#held ?? this.#grow());
        isDone = (await this.#run('write', attempt)) > 0;
        // Another host was faster: nothing was written.
        if (!isDone) tried = undefined;
      }
    });
  }

  /** An append of another host, which believes that the end is there; undefined where it is not. */
  serveAppend<T>(
    offset: number,
    bytes: number,
    append: (object: DrivenObject) => Eventually<T>,
  ): Promise<T | undefined> {
    return this.#appendInTurn(() =>
      this.serve(
        (object) => (object.size() === offset ? append(object) : undefined),
        offset + bytes,
      ),
    );
  }

  #appendInTurn<T>(append: () => Eventually<T>): Promise<T> {
    const turn = this.#appending.then(append);
    this.#appending = turn.then(
      () => {},
      () => {},
    );
    return turn;
  }

  read(offset: number, into: Uint8Array): Eventually<number> {
    return this.#run('read', (object) => object.read(offset, into));
  }

  write(offset: number, data: Uint8Array): Eventually<number> {
    if (this.#held) return this.#held.then(() => this.write(offset, data));
    if (this.#outgrows(offset + data.length))
      return this.#grow().then(() => this.write(offset, data));
    return this.#run('write', (object) => object.write(offset, data));
  }

  trim(offset: number, length: number): Eventually<number> {
    return this.#run('write', (object) => object.trim(offset, length));
  }

  resize(bytes: number): Eventually<number> {
    if (this.#held) return this.#held.then(() => this.resize(bytes));
    if (this.#outgrows(bytes)) return this.#grow().then(() => this.resize(bytes));
    return this.#run('write', (object) => object.resize(bytes));
  }

  seek(offset: number, what: 'data' | 'hole'): Eventually<number | undefined> {
    return this.#run('read', (object) => object.seek(offset, what));
  }

  async flush(): Promise<void> {
    await this.#promise((object) => object.flush());
  }

  async sync(): Promise<void> {
    await this.#promise((object) => object.sync());
  }

  async harden(): Promise<void> {
    await this.#run('write', (object) => object.flush());
  }

  /** As `sync`, where no user waits for it, and so nobody is promised anything. */
  async settle(): Promise<void> {
    await this.#run('write', (object) => object.sync());
  }

  /** `failed`, once, where some of what was acknowledged before is lost. */
  async #promise(flush: Request<void>): Promise<void> {
    const claims = this.#unflushed.claims();
    await this.#run('write', flush);
    const lost: Claim[] = [];
    for (const claim of claims) {
      // Most times it is one tenure that has acknowledged and flushed.
      const isServing = this.#backing.object.epoch === claim.epoch;
      if (!isServing && !(await this.#isThere(claim))) lost.push(claim);
    }
    this.#unflushed.settle(claims);
    if (lost.length === 0) return;
    const hosts = [...new Set(lost.map(({ host }) => host))].join(' and ');
    const what = `changes that were acknowledged and not flushed are lost with host ${hosts}`;
    this.#deps.log.error({ object: this.id }, what);
    throw new StorageError('failed', what);
  }

  /** Of a change that was acknowledged before a flush that has been done. */
  #isThere(claim: Claim): Promise<boolean> {
    return this.#runLater('look', (object) =>
      object instanceof RemoteObject
        ? object.hasChange(claim)
        : isThere(object.changes.starts, claim),
    );
  }

  /** No request passes any more; resolves when none is under way. */
  async retire(): Promise<void> {
    while (this.#held) await this.#held;
    this.#isClosed = true;
    await this.#settled();
  }

  /** Flushes what this host drives, and lets it go. */
  async close(): Promise<void> {
    await this.retire();
    if (this.#backing.where === 'here') await this.#backing.object.close();
  }

  async abandon(): Promise<void> {
    this.#isClosed = true;
    await this.#backing.object.abandon();
  }

  /**
   * A request of another host, which makes the object reach `endBytes` at least. `not_owner` where
   * this host does not drive the object any more, `unavailable` where it may not know that yet: the
   * other host looks at the registry then.
   */
  serve<T>(request: (object: DrivenObject) => Eventually<T>, endBytes = 0): Eventually<T> {
    const backing = this.#backing;
    if (this.#held || this.#outgrows(endBytes))
      return (this.#held ?? this.#grow()).then(() => this.serve(request, endBytes));
    if (backing.where === 'there' || this.#isClosed)
      throw new StorageError('not_owner', `object ${this.id} is not served here any more`);
    let result: Eventually<T>;
    try {
      backing.lease.assertFresh();
      result = request(backing.object);
      if (!isPending(result)) {
        backing.lease.assertFresh();
        return result;
      }
    } catch (error) {
      result = Promise.reject(error as Error);
    }
    return this.#serveOn(request, endBytes, backing, result);
  }

  async #serveOn<T>(
    request: (object: DrivenObject) => Eventually<T>,
    endBytes: number,
    backing: Here,
    result: Promise<T>,
  ): Promise<T> {
    try {
      const value = await this.#count(result);
      backing.lease.assertFresh();
      return value;
    } catch (error) {
      if (this.#isClosed || !isReroutable(backing, error)) {
        if (!this.#isClosed) backing.lease.assertFresh();
        throw error;
      }
      await this.#reroute(backing);
      return this.serve(request, endBytes);
    }
  }

  /**
   * A question that touches no data, for whoever serves the object: it holds up no change. Where it
   * meets one (`busy`, see `isServedBy`) it is put again afterwards. Of another host's front end,
   * as `serve`: `not_owner`.
   */
  async ask<T>(
    question: (backing: Backing) => Promise<T>,
    by: 'this host' | 'another host',
  ): Promise<T> {
    for (;;) {
      while (this.#held) await this.#held;
      const backing = this.#backing;
      if (this.#isClosed) throw new StorageError('closed', 'the object is closed');
      if (by === 'another host' && backing.where === 'there')
        throw new StorageError('not_owner', `object ${this.id} is not served here any more`);
      try {
        if (backing.where === 'here') await backing.lease.fresh();
        const answer = await question(backing);
        if (backing.where === 'here') await backing.lease.fresh();
        return answer;
      } catch (error) {
        const metChange = backing.where === 'here' && isStorageError(error, 'busy');
        if (metChange) continue;
        if (!(await this.#isToBeMadeAgain(backing, error))) throw error;
        await this.#reroute(backing);
      }
    }
  }

  /** Whether `backing` serves the object now: true until something is awaited. */
  isServedBy(backing: Here): boolean {
    return this.#backing === backing && !this.#held && !this.#isClosed;
  }

  /**
   * Holds all requests, waits for those under way, and goes on with what `change` gives; as before
   * where it rejects, which this does then too. One change at a time; `busy` otherwise.
   */
  change(change: Change): Promise<void> {
    if (this.#held) return Promise.reject(new StorageError('busy', 'the object is changing hands'));
    const changing = this.#change(change).finally(() => {
      this.#held = undefined;
    });
    this.#held = changing.catch(() => {});
    return changing;
  }

  async #change(change: Change): Promise<void> {
    await this.#settled();
    this.#backing = this.#known(await change(this.#backing, this.#deps.resolve));
  }

  async #settled(): Promise<void> {
    if (this.#underWay === 0) return;
    await new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
    this.#idle = undefined;
  }

  #run<T>(what: 'read' | 'write', request: Request<T>): Eventually<T> {
    const backing = this.#backing;
    this.#localRequests += 1;
    if (this.#isClosed) throw new StorageError('closed', 'the object is closed');
    if (this.#held) return this.#runLater(what, request);
    if (backing.where === 'there') return this.#forward(what, request, backing);
    if (!backing.lease.isFresh()) return this.#runLater(what, request);
    let result: Eventually<T>;
    try {
      result = request(backing.object);
    } catch (error) {
      if (this.#isClosed || !isReroutable(backing, error)) throw error;
      return this.#runLater(what, request);
    }
    if (!isPending(result)) return this.#noted(what, backing, result);
    return this.#confirm(what, request, backing, result);
  }

  /** The acknowledgement waits until nobody can have taken the object while it was served. */
  async #confirm<T>(
    what: 'read' | 'write',
    request: Request<T>,
    backing: Here,
    result: Promise<T>,
  ): Promise<T> {
    try {
      const value = await this.#count(result);
      if (!backing.lease.isFresh()) await backing.lease.fresh();
      return this.#noted(what, backing, value);
    } catch (error) {
      if (!(await this.#isToBeMadeAgain(backing, error))) throw error;
      return this.#runLater(what, request);
    }
  }

  /** The straight course to another host: it costs one promise more than the request itself. */
  #forward<T>(what: 'read' | 'write', request: Request<T>, backing: There): Eventually<T> {
    const result = request(backing.object);
    if (!isPending(result)) return result;
    this.#underWay += 1;
    return result.then(
      (value) => {
        this.#uncount();
        this.#deps.noteForwarded(what, backing);
        return value;
      },
      async (error: unknown) => {
        this.#uncount();
        if (this.#isClosed || !isReroutable(backing, error)) throw error;
        await this.#reroute(backing);
        return this.#runLater(what, request);
      },
    );
  }

  async #runLater<T>(what: 'read' | 'write' | 'look', request: Request<T>): Promise<T> {
    for (;;) {
      while (this.#held) await this.#held;
      const backing = this.#backing;
      try {
        if (backing.where === 'here') await backing.lease.fresh();
        const value = await this.#count(request(backing.object));
        if (backing.where === 'here') await backing.lease.fresh();
        else if (what !== 'look') this.#deps.noteForwarded(what, backing);
        return backing.where === 'here' ? this.#noted(what, backing, value) : value;
      } catch (error) {
        if (!(await this.#isToBeMadeAgain(backing, error))) throw error;
        await this.#reroute(backing);
      }
    }
  }

  /**
   * Nor is a failure believed before it is known that nobody can have taken the object: what was read may
   * have been deleted by who serves it now.
   */
  async #isToBeMadeAgain(backing: Backing, error: unknown): Promise<boolean> {
    if (this.#isClosed) return false;
    if (isReroutable(backing, error)) return true;
    if (backing.where === 'there' || backing.lease.isFresh()) return false;
    return backing.lease.fresh().then(
      () => false,
      () => true,
    );
  }

  /** Its owner is looked up anew, where that is another host as far as is known here. */
  async renew(): Promise<void> {
    const backing = this.#backing;
    if (backing.where === 'there' && !this.#isClosed) await this.#reroute(backing);
  }

  async #reroute(stale: Backing): Promise<void> {
    if (this.#held || this.#backing !== stale) return;
    // Others under way with the same backing come here by themselves.
    const resolved = this.#deps.resolve(stale).then((backing) => {
      this.#backing = this.#known(backing);
    });
    const held = resolved.catch(() => {});
    this.#held = held;
    try {
      await resolved;
    } finally {
      if (this.#held === held) this.#held = undefined;
    }
  }

  /** Of a change that this host acknowledges. */
  #noted<T>(what: 'read' | 'write' | 'look', { object }: Here, result: T): T {
    if (what === 'write' && typeof result === 'number')
      this.#unflushed.note(object.epoch, result, this.#deps.host);
    return result;
  }

  /** What another host acknowledges from now on is noted. */
  #known(backing: Backing): Backing {
    if (backing.where === 'there') backing.object.noteIn(this.#unflushed);
    return backing;
  }

  #outgrows(bytes: number): boolean {
    const backing = this.#backing;
    return backing.where === 'here' && backing.kind === 'file' && bytes >= limits.promoteBytes;
  }

  #count<T>(result: Eventually<T>): Eventually<T> {
    if (!isPending(result)) return result;
    this.#underWay += 1;
    return result.finally(() => this.#uncount());
  }

  #uncount(): void {
    this.#underWay -= 1;
    if (this.#underWay === 0) this.#idle?.();
  }

  /**
   * The file has become too large for its driver. One promotion, whoever asks; the others wait for
   * it, find the file as it was where it failed, and try by themselves.
   */
  #grow(): Promise<void> {
    return this.change((backing) =>
      backing.where === 'here' && backing.kind === 'file'
        ? this.#deps.promote(backing)
        : Promise.resolve(backing),
    );
  }
}

async function holds(object: DataObject, offset: number, data: Uint8Array): Promise<boolean> {
  const found = new Uint8Array(data.length);
  const count = await object.read(offset, found);
  return count === data.length && Buffer.compare(found, data) === 0;
}
