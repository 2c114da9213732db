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
  /** At most 16 parts. */
  writeParts(fd: number, parts: readonly Uint8Array[], offset: number): number;
  allocate(fd: number, offset: number, length: number, punch: boolean): number;
  lockExclusive(fd: number): number;
  bootTimeMs(): number;
  crc32c(bytes: Uint8Array, seed: number): number;
  crc32cBlocks(bytes: Uint8Array, blockBytes: number, out: Uint32Array, index: number): void;
  /** See frontend/fuse/device.ts. */
  readonly FuseDevice: unknown;
  mount(source: string, target: string, type: string, flags: number, options: string): number;
  unmount(target: string, flags: number): number;
  /** Receives a descriptor over a Unix socket (SCM_RIGHTS): the descriptor, or -errno. */
  receiveDescriptor(socket: number): number;
  socketPair(): readonly [number, number] | number;
  closeDescriptor(fd: number): number;
}

export type NativeResult =
  | { readonly native: Native }
  | { readonly native?: undefined; readonly reason: string };

/** The addon, or the reason why there is none. */
export function loadNative(): NativeResult {
  try {
    const load = createRequire(import.meta.url);
    return { native: load('../../native/build/wharf.node') as Native };
  } catch (error) {
    return { reason: describeError(error).split('\n')[0] ?? 'unknown' };
  }
}
