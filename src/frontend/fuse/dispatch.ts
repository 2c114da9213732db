/** Which handler serves which request. What is not here is answered with ENOSYS. */

import { isStorageError } from '../../core/errors.ts';
import { opcode } from '../../format/fuse/protocol.ts';
import { getattr, lookup, setattr, statfs } from './attributes.ts';
import type { Handler } from './call.ts';
import { create, fallocate, flush, fsync, lseek, open, read, release, write } from './data.ts';
import { opendir, readdir, readdirplus, releasedir } from './directory.ts';
import { errno, toErrno } from './errno.ts';
import { getxattr, listxattr, removexattr, setxattr } from './extended-attributes.ts';
import { getlk, setlk, setlkw } from './locks.ts';
import {
  link,
  mkdir,
  mknod,
  readlink,
  rename,
  rename2,
  rmdir,
  symlink,
  unlink,
} from './namespace.ts';

export const handlers: ReadonlyMap<number, Handler> = new Map<number, Handler>([
  [opcode.lookup, lookup],
  [opcode.getattr, getattr],
  [opcode.setattr, setattr],
  [opcode.readlink, readlink],
  [opcode.symlink, symlink],
  [opcode.mknod, mknod],
  [opcode.mkdir, mkdir],
  [opcode.unlink, unlink],
  [opcode.rmdir, rmdir],
  [opcode.rename, rename],
  [opcode.rename2, rename2],
  [opcode.link, link],
  [opcode.open, open],
  [opcode.create, create],
  [opcode.read, read],
  [opcode.write, write],
  [opcode.release, release],
  [opcode.fsync, fsync],
  [opcode.opendir, opendir],
  [opcode.readdir, readdir],
  [opcode.readdirplus, readdirplus],
  [opcode.releasedir, releasedir],
  [opcode.fsyncdir, fsync],
  [opcode.statfs, statfs],
  [opcode.setxattr, setxattr],
  [opcode.getxattr, getxattr],
  [opcode.listxattr, listxattr],
  [opcode.removexattr, removexattr],
  [opcode.fallocate, fallocate],
  [opcode.lseek, lseek],
  [opcode.getlk, getlk],
  [opcode.setlk, setlk],
  [opcode.setlkw, setlkw],
  [opcode.destroy, () => 0],
  [opcode.ioctl, () => -errno.ENOTTY],
  [opcode.flush, flush],
  // Said once, never asked again.
  [opcode.poll, () => -errno.ENOSYS],
  // The kernel then copies by reading and writing.
  [opcode.copyFileRange, () => -errno.ENOSYS],
]);

/**
 * Requests that get no reply. An interrupted request is not torn, unless it waits for a lock: it
 * has been started, and its answer is what ends it.
 */
export const unanswered: ReadonlySet<number> = new Set([
  opcode.forget,
  opcode.batchForget,
  opcode.interrupt,
  opcode.notifyReply,
]);

/** About an inode that the kernel knows, whichever path led there. */
const onInodes: ReadonlySet<number> = new Set([
  ...[opcode.getattr, opcode.setattr, opcode.open, opcode.read, opcode.write, opcode.flush],
  ...[opcode.fsync, opcode.fallocate, opcode.lseek],
]);

/** ESTALE where another host has removed the inode: the kernel looks where the path leads by now. */
export function errnoOf(code: number, error: unknown): number {
  return onInodes.has(code) && isStorageError(error, 'not_found') ? errno.ESTALE : toErrno(error);
}
