/** struct fuse_lk_in and struct fuse_lk_out. Types are those of fcntl.h on Linux. */

import { StorageError } from '../../core/errors.ts';
import type { FoundLock, LockRequest } from '../../ports/object-locks.ts';
import { lastByte } from '../../ports/object-locks.ts';
import { clear } from './protocol.ts';
import type { RequestReader } from './requests.ts';

const types = ['read', 'write', 'none'] as const;
/** `lk_flags`: of flock(2). */
const flockFlag = 1 << 0;
const replyBytes = 24;

export interface LockCall {
  /** Of the open file through which it came. */
  readonly handle: bigint;
  readonly wanted: LockRequest;
}

export function decodeLock(request: RequestReader): LockCall {
  const type = types[request.u32(32)];
  const start = request.bigU64(16);
  const end = request.bigU64(24);
  const kind = (request.u32(40) & flockFlag) === 0 ? 'posix' : 'flock';
  if (type === undefined || start > end || end > lastByte)
    throw new StorageError('invalid', 'a lock that is not well formed');
  const wanted = {
    kind,
    type,
    start,
    end,
    owner: request.bigU64(8),
    pid: request.u32(36),
  } as const;
  return { handle: request.bigU64(0), wanted };
}

/** What stands in the way, or that nothing does. */
export function encodeLock(view: DataView, at: number, found: FoundLock | undefined): number {
  clear(view, at, replyBytes);
  view.setBigUint64(at, found?.start ?? 0n, true);
  view.setBigUint64(at + 8, found?.end ?? 0n, true);
  view.setUint32(at + 16, types.indexOf(found?.type ?? 'none'), true);
  view.setUint32(at + 20, found?.pid ?? 0, true);
  return replyBytes;
}
