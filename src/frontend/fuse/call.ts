/**
 * One slot of the device as handlers see it: the request that is in it, and the room for its
 * reply. Made once for each slot, so that a request costs no allocation of its own.
 *
 * The room for the reply begins where the payload of a WRITE does, and may overlap what a request
 * carries behind its first 40 bytes: a handler has read all fields before it writes there.
 */

import { limits } from '../../core/limits.ts';
import type { Eventually } from '../../core/eventually.ts';
import type { Ino } from '../../core/units.ts';
import { RequestReader } from '../../format/fuse/requests.ts';
import type { Attributes, Caller, FileSystem } from '../../ports/file-system.ts';
import type { FileLocks } from '../file-locks.ts';
import type { LockWaits } from './lock-waits.ts';
import type { OpenHandles } from './open-handles.ts';
import type { SeenVersions } from './seen-versions.ts';
import type { ToldFiles } from './told-files.ts';

/** See native/fuse.h. */
const replyAt = 4096;
const requestAt = replyAt - 80;
export const replyBytesMax = limits.requestBytesMax;
/** Behind the largest payload is room for what surrounds it. */
export const slotBytes = replyAt + replyBytesMax + 4096;

/** What the kernel may go by without asking again. */
export interface Belief {
  /** How long it may believe names and attributes that it is told now, ms. */
  timeoutMs(): number;
  /** Grows with each change of others of which it is told. */
  changeCount(): number;
}

/** What all calls of a mount share. */
export interface CallContext {
  readonly fileSystem: FileSystem;
  readonly belief: Belief;
  /** Of files as they were opened last. */
  readonly versions: SeenVersions;
  readonly handles: OpenHandles;
  /** Without them the kernel arbitrates locks by itself, for this host alone. */
  readonly locks: FileLocks | undefined;
  readonly waits: LockWaits;
  /** The kernel looks at a file anew where it knows it from before (`stale`); awaits who said so. */
  readonly refresh: (ino: Ino, what: 'stale' | 'fresh') => Promise<void>;
  readonly told: ToldFiles;
}

/** Gives the bytes of the reply's payload, or a negative errno. Throws what the file system does. */
export type Handler = (call: Call) => Eventually<number>;

export class Call {
  readonly context: CallContext;
  readonly request: RequestReader;
  /** Of the whole arena; the reply goes to `at`. */
  readonly view: DataView;
  readonly at: number;
  readonly #memory: Uint8Array;
  #changesBefore = 0;
  #forgetsBefore = 0;
  #payload: Uint8Array;

  constructor(context: CallContext, view: DataView, memory: Uint8Array, slot: number) {
    const base = slot * slotBytes;
    this.context = context;
    this.view = view;
    this.at = base + replyAt;
    this.request = new RequestReader(view, memory, base + requestAt, slotBytes - requestAt);
    this.#memory = memory;
    this.#payload = memory.subarray(this.at, this.at);
  }

  /** A request has come into the slot. Throws what is wrong with it. */
  begin(): void {
    this.request.begin();
    this.#changesBefore = this.context.belief.changeCount();
    this.context.told.came(this.request.thread);
    this.#forgetsBefore = this.context.told.forgets;
  }

  /**
   * How long the kernel may believe this reply. Not at all where it was told of a change meanwhile:
   * the reply may be older, and come later.
   */
  get timeoutMs(): number {
    const { belief } = this.context;
    return belief.changeCount() === this.#changesBefore ? belief.timeoutMs() : 0;
  }

  /** The reply says this of a file or folder. How long the kernel may believe it, ms. */
  tell(attributes: Attributes): number {
    const asked = { thread: this.request.thread, forgets: this.#forgetsBefore };
    return this.context.told.note(attributes, asked) === 'new' ? this.timeoutMs : 0;
  }

  get fileSystem(): FileSystem {
    return this.context.fileSystem;
  }

  get node(): Ino {
    return this.request.node as Ino;
  }

  get caller(): Caller {
    return { uid: this.request.uid, gid: this.request.gid };
  }

  /** Memory from `at` on. Requests of one size follow each other, so the last view serves again. */
  room(bytes: number): Uint8Array {
    return this.#view(this.at, bytes);
  }

  /** Bytes of the request, counted from the end of its header; no copy. */
  payload(at: number, bytes: number): Uint8Array {
    return this.#view(this.request.place(at, bytes), bytes);
  }

  #view(from: number, bytes: number): Uint8Array {
    const { byteOffset, length } = this.#payload;
    if (byteOffset - this.#memory.byteOffset !== from || length !== bytes)
      this.#payload = this.#memory.subarray(from, from + bytes);
    return this.#payload;
  }
}
