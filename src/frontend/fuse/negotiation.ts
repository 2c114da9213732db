/** What this end wants of the protocol, and what comes of a kernel's offer. Pure. */

import { limits } from '../../core/limits.ts';
import type { InitReply, InitRequest } from '../../format/fuse/init.ts';
import {
  initFlag,
  initFlag2,
  protocolMajor,
  protocolMinorMin,
} from '../../format/fuse/protocol.ts';

// Not wanted: the write-back cache (a write that the kernel alone knows of is lost with the host)
// and opening without OPEN (unlinked files live until their last RELEASE).
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
const lockFlags = initFlag.posixLocks | initFlag.flockLocks;
const wantedFlags2 = initFlag2.directIoAllowMmap | initFlag2.hasResend;
const pageBytes = 4096;

interface Wanted {
  readonly requestsMax: number;
  readonly locks: 'served' | 'of kernel';
  /** The kernel then waits with all requests until it has the ring's slots. */
  readonly ring: boolean;
}

/** The reply, or a sentence that says why there is no talking to this kernel. */
export function negotiate(offer: InitRequest, wanted: Wanted): InitReply | string {
  const { requestsMax, locks, ring } = wanted;
  const { major, minor } = offer;
  if (major !== protocolMajor || minor < protocolMinorMin)
    return `the kernel speaks FUSE ${major}.${minor}; ${protocolMajor}.${protocolMinorMin} is needed`;
  return {
    minor,
    flags: offer.flags & (locks === 'served' ? wantedFlags | lockFlags : wantedFlags),
    flags2: offer.flags2 & (ring ? wantedFlags2 | initFlag2.overIoUring : wantedFlags2),
    readAheadBytesMax: limits.requestBytesMax,
    writeBytesMax: limits.requestBytesMax,
    pagesMax: limits.requestBytesMax / pageBytes,
    backgroundMax: requestsMax,
  };
}
