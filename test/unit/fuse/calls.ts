/** Requests as the kernel writes them into a slot, and what handlers answer: without a kernel. */

import type { FileSystem } from '../../../src/ports/file-system.ts';
import { inHeaderBytes } from '../../../src/format/fuse/protocol.ts';
import type { CallContext } from '../../../src/frontend/fuse/call.ts';
import { Call, slotBytes } from '../../../src/frontend/fuse/call.ts';
import { errnoOf, handlers } from '../../../src/frontend/fuse/dispatch.ts';
import { errno } from '../../../src/frontend/fuse/errno.ts';
import type { FileLocks } from '../../../src/frontend/file-locks.ts';
import { LockWaits } from '../../../src/frontend/fuse/lock-waits.ts';
import { OpenHandles } from '../../../src/frontend/fuse/open-handles.ts';
import { SeenVersions } from '../../../src/frontend/fuse/seen-versions.ts';
import { ToldFiles } from '../../../src/frontend/fuse/told-files.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';

/** See native/fuse.h. */
const requestAt = 4096 - 80;

/** Fields one after another: a number is a u32, a bigint a u64, a string has its NUL. */
export function body(...fields: (number | bigint | string | Uint8Array)[]): Uint8Array {
  return Buffer.concat(
    fields.map((field) => {
      if (typeof field === 'string') return Buffer.from(`${field}\0`, 'latin1');
      if (typeof field === 'object') return field;
      const bytes = Buffer.alloc(typeof field === 'bigint' ? 8 : 4);
      if (typeof field === 'bigint') bytes.writeBigUInt64LE(field);
      else bytes.writeUInt32LE(field);
      return bytes;
    }),
  );
}

export interface Answer {
  /** 0 or a positive errno. */
  readonly error: number;
  readonly payload: Buffer;
}

export class FakeKernel {
  readonly #memory = new Uint8Array(slotBytes);
  readonly #view = new DataView(this.#memory.buffer);
  readonly #call: Call;
  timeoutMs = 1500;
  changeCount = 0;
  readonly forgotten: number[] = [];

  readonly told = new ToldFiles({
    clock: new SimulatedClock(),
    filesMax: 100,
    forget: async (ino) => void this.forgotten.push(ino),
  });
  readonly waits = new LockWaits(2);
  /** Files that the kernel was told to look at anew. */
  readonly refreshed: number[] = [];
  /** What an earlier request has left behind. */
  junk = 0xa5;
  /** Of the next request. */
  unique = 1n;
  thread = 1;

  constructor(fileSystem: FileSystem, locks?: FileLocks) {
    const context: CallContext = {
      ...{ fileSystem, locks, handles: new OpenHandles(1), waits: this.waits },
      belief: { timeoutMs: () => this.timeoutMs, changeCount: () => this.changeCount },
      versions: new SeenVersions(100),
      told: this.told,
      refresh: async (ino: number, what: 'stale' | 'fresh') => {
        if (what === 'stale') this.refreshed.push(ino);
      },
    };
    this.#call = new Call(context, this.#view, this.#memory, 0);
  }

  /** `length` cuts the request, or claims more than there is. */
  async ask(
    opcode: number,
    node: number,
    fields: Uint8Array,
    length = inHeaderBytes + fields.length,
  ): Promise<Answer> {
    this.#memory.fill(this.junk, 0, requestAt + inHeaderBytes + fields.length + 4096);
    this.#view.setUint32(requestAt, length, true);
    this.#view.setUint32(requestAt + 4, opcode, true);
    this.#view.setBigUint64(requestAt + 8, this.unique, true);
    this.#view.setBigUint64(requestAt + 16, BigInt(node), true);
    this.#view.setUint32(requestAt + 24, 1000, true);
    this.#view.setUint32(requestAt + 28, 100, true);
    this.#view.setUint32(requestAt + 32, this.thread, true);
    this.#memory.set(fields, requestAt + inHeaderBytes);
    const none = Buffer.alloc(0);
    try {
      this.#call.begin();
      const handler = handlers.get(opcode);
      if (handler === undefined) return { error: errno.ENOSYS, payload: none };
      const result = await handler(this.#call);
      if (result < 0) return { error: -result, payload: none };
      const { at } = this.#call;
      return { error: 0, payload: Buffer.from(this.#memory.slice(at, at + result)) };
    } catch (error) {
      if (error instanceof Error && error.name !== 'StorageError') throw error;
      return { error: errnoOf(opcode, error), payload: none };
    }
  }
}
