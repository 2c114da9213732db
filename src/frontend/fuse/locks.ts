/** GETLK, SETLK, SETLKW, and what FLUSH and RELEASE mean for locks. */

import { isStorageError } from '../../core/errors.ts';
import { decodeLock, encodeLock } from '../../format/fuse/locks.ts';
import { releaseFlag } from '../../format/fuse/protocol.ts';
import type { Call, Handler } from './call.ts';
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
  return unlessFull(async () => ((await locks.set(call.node, handle, wanted)) ? 0 : -errno.EAGAIN));
};

export const setlkw: Handler = async (call) => {
  const { locks, waits } = call.context;
  if (!locks) return -errno.ENOSYS;
  const { handle, wanted } = decodeLock(call.request);
  const { node } = call;
  const { unique } = call.request;
  return unlessFull(() =>
    waits.run(unique, (signal) => locks.setLater(node, handle, wanted, signal)),
  );
};

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
