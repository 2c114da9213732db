/** GETLK, SETLK, SETLKW, and what FLUSH and RELEASE mean for locks. */

import { isStorageError } from '../../core/errors.ts';
import type { Ino } from '../../core/units.ts';
import { decodeLock, encodeLock } from '../../format/fuse/locks.ts';
import { releaseFlag } from '../../format/fuse/protocol.ts';
import type { Grant } from '../../ports/object-locks.ts';
import type { Call, CallContext, Handler } from './call.ts';
import { errno } from './errno.ts';

export const getlk: Handler = async (call) => {
  const { locks } = call.context;
  if (!locks) return -errno.ENOSYS;
  const found = await locks.find(call.node, decodeLock(call.request).wanted);
  return encodeLock(call.view, call.at, found);
};

export const setlk: Handler = async (call) => {
  const { locks } = call.context;
  if (!locks) return -errno.ENOSYS;
  const { handle, wanted } = decodeLock(call.request);
  const { node, context } = call;
  return unlessFull(async () => {
    const grant = await locks.set(node, handle, wanted);
    return grant ? granted(context, node, grant) : -errno.EAGAIN;
  });
};

export const setlkw: Handler = async (call) => {
  const { node, context } = call;
  const { locks, waits } = context;
  if (!locks) return -errno.ENOSYS;
  const { handle, wanted } = decodeLock(call.request);
  const { unique } = call.request;
  return unlessFull(() =>
    waits.run(unique, async (signal) => {
      const grant = await locks.setLater(node, handle, wanted, signal);
      return granted(context, node, grant);
    }),
  );
};

/** What the kernel has of the file may be older than what others wrote while they had it locked. */
async function granted({ refresh }: CallContext, node: Ino, { isStale }: Grant): Promise<number> {
  await refresh(node, isStale ? 'stale' : 'fresh');
  return 0;
}

async function unlessFull(action: () => Promise<number>): Promise<number> {
  try {
    return await action();
  } catch (error) {
    if (isStorageError(error, 'no_space')) return -errno.ENOLCK;
    throw error;
  }
}

/** Of FLUSH: a process has closed a descriptor. */
export async function dropAtFlush({ context, node, request }: Call): Promise<void> {
  await context.locks?.closed(node, request.bigU64(16));
}

/** Of RELEASE: an open file is gone. */
export async function dropAtRelease({ context, node, request }: Call): Promise<void> {
  const { locks } = context;
  if (!locks) return;
  const hasFlock = (request.u32(12) & releaseFlag.flockUnlock) !== 0;
  const flock = hasFlock ? request.bigU64(16) : undefined;
  await locks.released(node, request.bigU64(0), flock);
}
