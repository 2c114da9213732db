/**
 * The door to the addon (native/). It moves bytes and decides nothing: calls that can fail answer
 * with a count, or with a negative errno.
 */

import { createRequire } from 'node:module';
import { describeError } from '../core/errors.ts';

export interface Native {
  /** Bytes read from memory; -EAGAIN where the device has to be asked; else -errno. */
  readNoWait(fd: number, into: Uint8Array, offset: number): number;
  /** Bytes, or -errno; may block. */
  readBlocking(fd: number, into: Uint8Array, offset: number): number;
  /** The same on the thread pool. */
  readLater(fd: number, into: Uint8Array, offset: number): Promise<number>;
  dataSync(fd: number): Promise<number>;
  /** All parts, one behind another; bytes written. */
  writeParts(fd: number, parts: readonly Uint8Array[], offset: number): number;
  allocate(fd: number, offset: number, length: number, punch: boolean): number;
  /** Where the next data is, or the next hole (lseek(2)), or -errno. */
  seek(fd: number, offset: number, hole: boolean): number;
  lockExclusive(fd: number): number;
  bootTimeMs(): number;
  crc32c(bytes: Uint8Array, seed: number): number;
  crc32cBlocks(bytes: Uint8Array, blockBytes: number, out: Uint32Array, index: number): void;
  /**
   * Serves requests of a FUSE descriptor, which it takes over. `told` gets a number of requests
   * whose slots stand in `ready`, or a negative errno once, at the end. Slots of a ring come behind
   * the others, and are not used before there is one.
   */
  fuseOpen(
    fd: number,
    slotCount: number,
    ringSlotCount: number,
    slotBytes: number,
    pollMicroseconds: number,
    ready: Uint32Array,
    told: (count: number) => void,
  ): { readonly device: NativeDevice; readonly arena: ArrayBuffer } | number;
  /** Prepares io_uring, with so many slots for each processor; 0 or -errno. Before INIT is answered. */
  fuseRingOpen(device: NativeDevice, slotsEach: number): number;
  /** Requests come over it from here on; where not (-errno), as before. After INIT is answered. */
  fuseRingStart(device: NativeDevice): number;
  /** `error` is 0 or -errno. The payload lies 4096 bytes into the slot. */
  fuseReply(device: NativeDevice, slot: number, error: number, payloadBytes: number): number;
  fuseForget(device: NativeDevice, slot: number): void;
  /** On the thread pool: the kernel may wait there for requests that the loop has to answer. */
  fuseNotifyLater(device: NativeDevice, code: number, payload: Uint8Array): Promise<number>;
  fuseClose(device: NativeDevice): void;
  /**
   * Watches a connected socket, through a descriptor of its own; `told` gets what it is ready for
   * (streamEvent).
   */
  streamOpen(fd: number, told: (events: number) => void): NativeStream | number;
  streamWatch(stream: NativeStream, events: number): void;
  /** Bytes, 0 at the end of the stream, -EAGAIN where nothing is there, else -errno. */
  streamReceive(stream: NativeStream, into: Uint8Array): number;
  /** How many bytes of the parts (64 at most) the kernel has taken, or -errno. */
  streamSend(stream: NativeStream, parts: readonly Uint8Array[]): number;
  streamClose(stream: NativeStream): void;
  mount(source: string, target: string, type: string, flags: number, options: string): number;
  /** umount2(2) on the thread pool. */
  unmountLater(target: string, flags: number): Promise<number>;
  /** The same at once, for a process that is about to end. */
  unmountNow(target: string, flags: number): number;
  /** Two connected sockets; children inherit neither by themselves. */
  socketPair(): readonly [number, number] | number;
  /** A descriptor that was sent over a socket (SCM_RIGHTS), or -errno. */
  receiveDescriptor(socket: number): number;
}

/** Opaque. */
export type NativeDevice = object & { readonly __device: never };
export type NativeStream = object & { readonly __stream: never };

/** The first two as libuv has them (enum uv_poll_event); `failed`: nothing more will be told. */
export const streamEvent = { readable: 1, writable: 2, failed: 4 } as const;

export type NativeResult =
  | { readonly native: Native }
  | { readonly native?: undefined; readonly reason: string };

/** The addon, or the reason why there is none. WHARF_ADDON=off does without it. */
export function loadNative(): NativeResult {
  if (process.env['WHARF_ADDON'] === 'off') return { reason: 'switched off by WHARF_ADDON' };
  try {
    const load = createRequire(import.meta.url);
    return { native: load('../../native/build/wharf.node') as Native };
  } catch (error) {
    return { reason: describeError(error).split('\n')[0] ?? 'unknown' };
  }
}
