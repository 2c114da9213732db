/**
 * One mount's conversation with the kernel: reads and writes are answered in place, all else goes
 * to a handler. Slots are the bound of what is under way: without a free one nothing more is read
 * from the device.
 *
 *   starting   waits for INIT
 *   serving    answers
 *   ended      the kernel has let go of the mount
 */

import { describeError, isStorageError } from '../../core/errors.ts';
import type { Eventually } from '../../core/eventually.ts';
import { isPending } from '../../core/eventually.ts';
import { limits } from '../../core/limits.ts';
import type { Ino } from '../../core/units.ts';
import {
  initFlag,
  initFlag2,
  notifyCode,
  opcode,
  protocolMajor,
  protocolMinorMin,
  writeKillSetId,
} from '../../format/fuse/protocol.ts';
import { encodeInit } from '../../format/fuse/replies.ts';
import { RequestReader } from '../../format/fuse/requests.ts';
import type { Native, NativeDevice } from '../../platform/native.ts';
import type { FileSystem } from '../../ports/file-system.ts';
import type { Log } from '../../ports/log.ts';
import { errno, toErrno } from './errno.ts';
import { handlers } from './handlers.ts';

/** The request, then room for the reply's payload; see native/fuse-device.cc. */
const replyAt = 4096;
const slotBytes = replyAt + limits.requestBytesMax + 4096;
const openAppend = 0o2000;

const wantedFlags =
  initFlag.asyncRead |
  initFlag.atomicTruncate |
  initFlag.exportSupport |
  initFlag.bigWrites |
  initFlag.autoInvalidate |
  initFlag.doReaddirplus |
  initFlag.readdirplusAuto |
  initFlag.asyncDirectIo |
  initFlag.parallelDirectoryOperations |
  initFlag.maxPages |
  initFlag.handleKillPrivV2 |
  initFlag.initExtended;
const wantedFlags2 = initFlag2.directIoAllowMmap | initFlag2.hasResend;

export interface SessionSettings {
  /** Requests under way at once. */
  readonly requestsMax: number;
  /** How long the device is polled before the loop sleeps, microseconds; 0: not at all. */
  readonly pollMicroseconds: number;
  /** How long the kernel may believe names and attributes, ms. */
  readonly timeoutMs: number;
}

export class FuseSession {
  readonly #native: Native;
  readonly #fileSystem: FileSystem;
  readonly #log: Log;
  readonly #settings: SessionSettings;
  readonly #device: NativeDevice;
  readonly #memory: Uint8Array;
  readonly #view: DataView;
  readonly #request: RequestReader;
  readonly #ready: Uint32Array;
  readonly #started = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();

  constructor(
    native: Native,
    fileSystem: FileSystem,
    log: Log,
    fd: number,
    settings: SessionSettings,
  ) {
    this.#native = native;
    this.#fileSystem = fileSystem;
    this.#log = log;
    this.#settings = settings;
    this.#ready = new Uint32Array(settings.requestsMax);
    const opened = native.fuseOpen(
      fd,
      settings.requestsMax,
      slotBytes,
      settings.pollMicroseconds,
      this.#ready,
      (count) => this.#told(count),
    );
    if (typeof opened === 'number') throw new Error(`no memory for FUSE requests (${opened})`);
    this.#device = opened.device;
    this.#memory = new Uint8Array(opened.arena);
    this.#view = new DataView(opened.arena);
    this.#request = new RequestReader(opened.arena);
    this.#started.promise.catch(() => {});
  }

  /** Resolves when the kernel and this end agree on the protocol. */
  get started(): Promise<void> {
    return this.#started.promise;
  }

  /** Resolves when the file system is unmounted. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** The kernel forgets what it has cached of the file's data and attributes. */
  invalidateInode(ino: Ino): void {
    const payload = Buffer.alloc(24);
    payload.writeBigUInt64LE(BigInt(ino), 0);
    this.#native.fuseNotify(this.#device, notifyCode.invalidateInode, payload);
  }

  /** The kernel forgets a name. */
  invalidateEntry(parent: Ino, name: string): void {
    const payload = Buffer.alloc(16 + name.length + 1);
    payload.writeBigUInt64LE(BigInt(parent), 0);
    payload.writeUInt32LE(name.length, 8);
    payload.write(name, 16, 'latin1');
    this.#native.fuseNotify(this.#device, notifyCode.invalidateEntry, payload);
  }

  #told(count: number): void {
    if (count < 0) {
      this.#started.reject(new Error('the kernel let go of the mount'));
      this.#ended.resolve();
      return;
    }
    for (let index = 0; index < count; index += 1) this.#serve(this.#ready[index] as number);
  }

  #serve(slot: number): void {
    const base = slot * slotBytes;
    try {
      const request = this.#request.at(base, slotBytes);
      const code = request.opcode;
      if (code === opcode.read) return this.#read(slot, request);
      if (code === opcode.write) return this.#write(slot, request);
      this.#handle(slot, code, request);
    } catch (error) {
      this.#fail(slot, error);
    }
  }

  #read(slot: number, request: RequestReader): void {
    const offset = request.u64(8);
    const bytes = Math.min(request.u32(16), limits.requestBytesMax);
    const at = slot * slotBytes + replyAt;
    const into = this.#memory.subarray(at, at + bytes);
    const read = this.#fileSystem.read(request.node as Ino, offset, into);
    if (!isPending(read)) this.#reply(slot, read);
    else this.#replyLater(slot, read);
  }

  #write(slot: number, request: RequestReader): void {
    const offset = request.u64(8);
    const bytes = request.u32(16);
    const data = request.bytes(40, bytes);
    const dropSetId = (request.u32(20) & writeKillSetId) !== 0;
    const append = (request.u32(32) & openAppend) !== 0;
    const node = request.node as Ino;
    const written: Eventually<void> =
      dropSetId || append
        ? this.#fileSystem.write(node, offset, data, { dropSetId, append })
        : this.#fileSystem.write(node, offset, data);
    if (!isPending(written)) this.#replyWritten(slot, bytes);
    else
      this.#replyLater(
        slot,
        written.then(() => this.#setWritten(slot, bytes)),
      );
  }

  #replyWritten(slot: number, bytes: number): void {
    this.#reply(slot, this.#setWritten(slot, bytes));
  }

  #setWritten(slot: number, bytes: number): number {
    const at = slot * slotBytes + replyAt;
    this.#view.setUint32(at, bytes, true);
    this.#view.setUint32(at + 4, 0, true);
    return 8;
  }

  #handle(slot: number, code: number, request: RequestReader): void {
    if (code === opcode.init) return this.#init(slot, request);
    if (code === opcode.forget || code === opcode.batchForget || code === opcode.interrupt)
      return this.#native.fuseForget(this.#device, slot);
    const handler = handlers.get(code);
    if (handler === undefined)
      return this.#replyError(slot, code === opcode.ioctl ? errno.enotty : errno.enosys);
    const call = {
      fileSystem: this.#fileSystem,
      request,
      node: request.node as Ino,
      view: this.#view,
      memory: this.#memory,
      at: slot * slotBytes + replyAt,
      bytesMax: limits.requestBytesMax,
      timeoutMs: this.#settings.timeoutMs,
    };
    this.#replyLater(slot, handler(call));
  }

  #init(slot: number, request: RequestReader): void {
    const major = request.u32(0);
    const minor = request.u32(4);
    if (major !== protocolMajor || minor < protocolMinorMin) {
      this.#replyError(slot, errno.einval);
      this.#started.reject(new Error(`the kernel speaks FUSE ${major}.${minor}; 7.31 is needed`));
      return;
    }
    const offered = request.u32(12);
    const offered2 = (offered & initFlag.initExtended) === 0 ? 0 : request.u32(16);
    const bytes = encodeInit(this.#view, slot * slotBytes + replyAt, {
      readAheadBytesMax: limits.requestBytesMax,
      flags: offered & wantedFlags,
      flags2: offered2 & wantedFlags2,
      requestsMax: this.#settings.requestsMax,
      writeBytesMax: limits.requestBytesMax,
      pagesMax: limits.requestBytesMax / 4096,
    });
    this.#reply(slot, bytes);
    this.#log.info({ protocol: `${major}.${minor}` }, 'FUSE session begins');
    this.#started.resolve();
  }

  #replyLater(slot: number, result: Promise<number>): void {
    result.then(
      (bytes) => this.#reply(slot, bytes),
      (error: unknown) => this.#fail(slot, error),
    );
  }

  #reply(slot: number, payloadBytes: number): void {
    this.#native.fuseReply(this.#device, slot, 0, payloadBytes);
  }

  #replyError(slot: number, code: number): void {
    this.#native.fuseReply(this.#device, slot, -code, 0);
  }

  #fail(slot: number, error: unknown): void {
    // An attribute that does not fit into the caller's buffer.
    if (error instanceof RangeError) return this.#replyError(slot, errno.erange);
    if (!isStorageError(error)) this.#log.error({ error: describeError(error) }, 'request failed');
    this.#replyError(slot, toErrno(error));
  }
}
