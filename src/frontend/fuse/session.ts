/**
 * One mount's conversation with the kernel. Slots are the bound of what is under way: without a
 * free one nothing more is read from the device. A request that the file system answers at once is
 * answered at once; the others hold their slot until their answer is there.
 *
 *   starting   waits for INIT; a resumed session begins as serving
 *   serving    answers
 *   draining   answers what was under way and refuses what comes (ENOTCONN)
 *   ended      the kernel has let go of the mount, or this end of the descriptor
 */

import { describeError, isStorageError } from '../../core/errors.ts';
import { isPending } from '../../core/eventually.ts';
import { InvariantError } from '../../core/invariant.ts';
import type { Ino } from '../../core/units.ts';
import { decodeInit, encodeInit } from '../../format/fuse/init.ts';
import { notifyCode, opcode } from '../../format/fuse/protocol.ts';
import { invalidateEntryPayload, invalidateInodePayload } from '../../format/fuse/replies.ts';
import { errnoName } from '../../platform/errno.ts';
import type { Native, NativeDevice } from '../../platform/native.ts';
import type { Clock } from '../../ports/clock.ts';
import type { FileSystem } from '../../ports/file-system.ts';
import type { Log } from '../../ports/log.ts';
import type { Belief, CallContext } from './call.ts';
import { Call, slotBytes } from './call.ts';
import type { FileLocks } from '../file-locks.ts';
import { errnoOf, handlers, unanswered } from './dispatch.ts';
import { errno } from './errno.ts';
import { negotiate } from './negotiation.ts';
import { foldersOf, HeldFolders } from './held-folders.ts';
import { LockWaits } from './lock-waits.ts';
import { OpenHandles } from './open-handles.ts';
import type { RingPlan } from './ring-plan.ts';
import { SeenVersions } from './seen-versions.ts';
import { ToldFiles } from './told-files.ts';
import { Transport } from './transport.ts';

/** Files of which is remembered what they were at their last OPEN, and what the kernel was told. */
const seenFilesMax = 10_000;
/** How a device ends: unmounted (also as libuv tells it), or aborted by an administrator. */
const ordinaryEnds: ReadonlySet<number> = new Set([errno.ENODEV, errno.EBADF, errno.ECONNABORTED]);
/** All that the protocol has so far are below. */
const countedOpcodes = 64;
/** The bound of the device's batches; see native/fuse-device.h. */
const batchMax = 64;

export interface SessionSettings {
  /** Requests under way at once. */
  readonly requestsMax: number;
  /** How long the loop turns before it sleeps, microseconds; 0: not at all. */
  readonly pollMicroseconds: number;
  /** Wanted in place of /dev/fuse; or why it is not to be had. */
  readonly ring?: RingPlan | string | undefined;
}

export interface SessionDeps {
  readonly native: Native;
  readonly fileSystem: FileSystem;
  readonly locks?: FileLocks;
  readonly belief: Belief;
  readonly clock: Clock;
  readonly log: Log;
}

type State = 'starting' | 'serving' | 'draining' | 'ended';

export class FuseSession {
  readonly #native: Native;
  readonly #log: Log;
  readonly #settings: SessionSettings;
  readonly #device: NativeDevice;
  readonly #transport: Transport;
  readonly #calls: readonly Call[];
  readonly #locks: 'served' | 'of kernel';
  readonly #waits: LockWaits;
  readonly #ready: Uint32Array;
  readonly #started = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  #state: State;
  /** Requests by opcode. */
  readonly #counts = new Float64Array(countedOpcodes);
  #underWay = 0;
  #whenIdle: (() => void) | undefined;
  readonly #toldFiles: ToldFiles;
  readonly #folders = new HeldFolders();
  readonly #refreshing = new Map<Ino, Promise<void>>();
  #notifying = Promise.resolve();

  /** Takes over the descriptor. A `resumed` one has been through INIT with another process. */
  constructor(deps: SessionDeps, settings: SessionSettings, fd: number, how: 'new' | 'resumed') {
    const { native, fileSystem, belief, locks, clock, log } = deps;
    this.#native = native;
    this.#log = log;
    this.#settings = settings;
    this.#state = how === 'new' ? 'starting' : 'serving';
    if (how === 'resumed') this.#started.resolve();
    this.#started.promise.catch(() => {});
    this.#ready = new Uint32Array(batchMax);
    this.#transport = new Transport(native, log, settings.ring);
    const { requestsMax, pollMicroseconds } = settings;
    const { ringSlots } = this.#transport;
    const opened = native.fuseOpen(
      ...([fd, requestsMax, ringSlots, slotBytes, pollMicroseconds, this.#ready] as const),
      (count) => this.#told(count),
    );
    if (typeof opened === 'number')
      throw new Error(`no memory for FUSE requests: ${errnoName(-opened)}`);
    this.#device = opened.device;
    const memory = new Uint8Array(opened.arena);
    const view = new DataView(opened.arena);
    this.#locks = locks ? 'served' : 'of kernel';
    this.#waits = new LockWaits(Math.floor(requestsMax / 2));
    this.#toldFiles = new ToldFiles({
      clock,
      filesMax: seenFilesMax,
      forget: (ino) => this.#invalidateNow(ino, 'attributes'),
    });
    const context: CallContext = {
      ...{ fileSystem, belief, locks, waits: this.#waits },
      handles: new OpenHandles(process.pid),
      refresh: (ino: Ino, what: 'stale' | 'fresh') => this.#refresh(ino, what),
      versions: new SeenVersions(seenFilesMax),
      told: this.#toldFiles,
    };
    this.#calls = Array.from(
      { length: requestsMax + ringSlots },
      (_, slot) => new Call(context, view, memory, slot),
    );
  }

  /** Resolves when the kernel and this end agree on the protocol. */
  get started(): Promise<void> {
    return this.#started.promise;
  }

  /** What carries its requests, and why where that is not what was asked for: for people. */
  get transport(): string {
    return this.#transport.text;
  }

  /** Resolves when the mount is no longer served. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  get hasEnded(): boolean {
    return this.#state === 'ended';
  }

  /** Requests that came so far, by the name of what they ask. */
  requestCounts(): Readonly<Record<string, number>> {
    const names = Object.entries(opcode).map(([name, code]) => [name, this.#counts[code] ?? 0]);
    return Object.fromEntries(names.filter(([, count]) => count !== 0)) as Record<string, number>;
  }

  /** Requests that wait for their answer. */
  get underWay(): number {
    return this.#underWay;
  }

  /**
   * The kernel forgets a file's attributes, and its data unless `attributes` alone are named; where
   * it asks for them anyway, it finds out by itself. The promise waits for requests on that file, so
   * no request may wait for the promise.
   */
  invalidateInode(ino: Ino, what: 'all' | 'attributes'): Promise<void> {
    return this.#inTurn(() => this.#toldFiles.changed(ino, () => this.#invalidateNow(ino, what)));
  }

  /** The kernel forgets a name. The same holds for requests on names of `parent`. */
  invalidateEntry(parent: Ino, name: string): Promise<void> {
    const payload = invalidateEntryPayload(parent, name);
    return this.#inTurn(async () => {
      await this.#folders.free(parent);
      await this.#notifyNow(notifyCode.invalidateEntry, payload);
    });
  }

  /** The kernel sends again what another process had read and not answered (Linux 6.9). */
  resend(): Promise<void> {
    return this.#inTurn(() => this.#notifyNow(notifyCode.resend, new Uint8Array(0)));
  }

  /** Resolves when nothing is under way any more; what comes meanwhile is refused. */
  async drain(): Promise<void> {
    if (this.#state !== 'ended') this.#state = 'draining';
    this.#waits.end();
    await this.#notifying;
    if (this.#underWay === 0) return;
    await new Promise<void>((resolve) => (this.#whenIdle = resolve));
  }

  /**
   * Lets go of the descriptor. What is under way is answered by the kernel with ECONNABORTED, and
   * users of a mount that is still there see ENOTCONN.
   */
  close(): void {
    this.#native.fuseClose(this.#device);
    this.#end();
  }

  #told(count: number): void {
    if (count < 0) {
      if (!ordinaryEnds.has(-count))
        this.#log.error({ error: errnoName(-count) }, 'FUSE device failed');
      return this.#end();
    }
    for (let index = 0; index < count; index += 1) this.#serve(this.#ready[index] as number);
  }

  #end(): void {
    this.#state = 'ended';
    this.#started.reject(new Error('the kernel let go of the mount'));
    this.#ended.resolve();
  }

  #serve(slot: number): void {
    this.#underWay += 1;
    const call = this.#calls[slot] as Call;
    const code = call.request.opcode;
    this.#counts[code] = (this.#counts[code] ?? 0) + 1;
    try {
      call.begin();
      const handler = handlers.get(code);
      if (handler === undefined || this.#state !== 'serving') return this.#control(slot, code);
      const folders = foldersOf(call);
      const result = handler(call);
      if (!isPending(result)) return this.#reply(slot, result);
      this.#folders.hold(folders, result);
      result.then(
        (bytes) => this.#reply(slot, bytes),
        (error: unknown) => this.#fail(slot, code, error),
      );
    } catch (error) {
      this.#fail(slot, code, error);
    }
  }

  /** What is not about files: the beginning, the end, and what nobody answers. */
  #control(slot: number, code: number): void {
    if (code === opcode.interrupt)
      this.#waits.interrupt((this.#calls[slot] as Call).request.bigU64(0));
    if (unanswered.has(code)) return this.#forget(slot);
    if (code === opcode.init && this.#state === 'starting') return this.#init(slot);
    if (this.#state === 'draining') return this.#reply(slot, -errno.ENOTCONN);
    this.#reply(slot, this.#state === 'serving' ? -errno.ENOSYS : -errno.EIO);
  }

  #init(slot: number): void {
    const call = this.#calls[slot] as Call;
    const offer = decodeInit(call.request);
    const ring = this.#transport.open(this.#device, offer);
    const { requestsMax } = this.#settings;
    const reply = negotiate(offer, { requestsMax, locks: this.#locks, ring });
    if (typeof reply === 'string') {
      this.#reply(slot, -errno.EPROTO);
      return this.#started.reject(new Error(reply));
    }
    this.#reply(slot, encodeInit(call.view, call.at, reply));
    const slotsEach = ring ? this.#transport.start(this.#device) : undefined;
    if (slotsEach !== undefined) this.#waits.narrow(Math.floor(slotsEach / 2));
    this.#state = 'serving';
    const { text: transport } = this.#transport;
    const protocol = `${offer.major}.${reply.minor}`;
    this.#log.info({ protocol, transport }, 'FUSE session begins');
    this.#started.resolve();
  }

  /** `result` is the payload's bytes, or a negative errno. */
  #reply(slot: number, result: number): void {
    if (result >= 0) this.#native.fuseReply(this.#device, slot, 0, result);
    else this.#native.fuseReply(this.#device, slot, result, 0);
    this.#finish();
  }

  #forget(slot: number): void {
    this.#native.fuseForget(this.#device, slot);
    this.#finish();
  }

  #finish(): void {
    this.#underWay -= 1;
    if (this.#underWay === 0 && this.#whenIdle !== undefined) this.#whenIdle();
  }

  #fail(slot: number, code: number, error: unknown): void {
    if (!isStorageError(error))
      this.#log.error({ error: describeError(error), opcode: code }, 'request failed by a bug');
    if (unanswered.has(code)) this.#forget(slot);
    else this.#reply(slot, -errnoOf(code, error));
    // Nobody may go on with a state that is not understood: this ends the process.
    if (error instanceof InvariantError)
      queueMicrotask(() => {
        throw error;
      });
  }

  /** A lock is granted only when the kernel has forgotten what it had of the file before. */
  async #refresh(ino: Ino, what: 'stale' | 'fresh'): Promise<void> {
    if (what === 'stale') {
      const drop = () => this.#toldFiles.drop(ino, () => this.#invalidateNow(ino, 'all'));
      const refreshing = this.#inTurn(drop).finally(() => {
        if (this.#refreshing.get(ino) === refreshing) this.#refreshing.delete(ino);
      });
      this.#refreshing.set(ino, refreshing);
    }
    await this.#refreshing.get(ino);
  }

  /** One at a time: each may wait in the kernel, on a thread of the pool that others need. */
  async #inTurn(notify: () => Promise<void>): Promise<void> {
    this.#notifying = this.#notifying.then(notify);
    await this.#notifying;
  }

  #invalidateNow(ino: Ino, what: 'all' | 'attributes'): Promise<void> {
    const payload = invalidateInodePayload(ino, what === 'all' ? 0n : -1n);
    return this.#notifyNow(notifyCode.invalidateInode, payload);
  }

  /** For what waits for no request: also a request may wait for that. */
  async #notifyNow(code: number, payload: Uint8Array): Promise<void> {
    if (this.#state === 'ended') return;
    const status = await this.#native.fuseNotifyLater(this.#device, code, payload);
    // ENOENT: the kernel does not know that inode or name, which is what was wanted.
    if (status < 0 && ![-errno.ENOENT, -errno.ENODEV, -errno.ENOTCONN].includes(status))
      this.#log.warn({ code, error: errnoName(-status) }, 'FUSE notification failed');
  }
}
