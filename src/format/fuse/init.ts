/** The handshake: struct fuse_init_in and struct fuse_init_out. */

import { clear, initFlag, protocolMajor, protocolMinor } from './protocol.ts';
import type { RequestReader } from './requests.ts';

export interface InitRequest {
  readonly major: number;
  readonly minor: number;
  readonly flags: number;
  /** Bits 32 to 63 of the flags; 0 from kernels without them. */
  readonly flags2: number;
}

export interface InitReply {
  readonly minor: number;
  readonly flags: number;
  readonly flags2: number;
  readonly readAheadBytesMax: number;
  readonly writeBytesMax: number;
  readonly pagesMax: number;
  /** Requests that the kernel may have under way on its own account (read-ahead, async I/O). */
  readonly backgroundMax: number;
}

const replyBytes = 64;

export function decodeInit(request: RequestReader): InitRequest {
  const major = request.u32(0);
  const minor = request.u32(4);
  // A kernel of another major version says no more than that.
  if (major !== protocolMajor) return { major, minor, flags: 0, flags2: 0 };
  const flags = request.u32(12);
  const flags2 = (flags & initFlag.initExtended) === 0 ? 0 : request.u32(16);
  return { major, minor, flags, flags2 };
}

export function encodeInit(view: DataView, at: number, init: InitReply): number {
  clear(view, at, replyBytes);
  view.setUint32(at, protocolMajor, true);
  view.setUint32(at + 4, Math.min(init.minor, protocolMinor), true);
  view.setUint32(at + 8, init.readAheadBytesMax, true);
  view.setUint32(at + 12, init.flags, true);
  view.setUint16(at + 16, init.backgroundMax, true);
  // The congestion threshold: equal, so that nobody is held back before the bound.
  view.setUint16(at + 18, init.backgroundMax, true);
  view.setUint32(at + 20, init.writeBytesMax, true);
  // Times are exact to the nanosecond.
  view.setUint32(at + 24, 1, true);
  view.setUint16(at + 28, init.pagesMax, true);
  view.setUint32(at + 32, init.flags2, true);
  return replyBytes;
}
