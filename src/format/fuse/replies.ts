/**
 * Encoders of the small FUSE replies and of notifications. Replies go into memory of the caller
 * from `at` on; each gives its bytes.
 */

import { limits } from '../../core/limits.ts';
import type { SpaceReport } from '../../ports/file-system.ts';
import { clear, setU64 } from './protocol.ts';

const openBytes = 16;
const statfsBytes = 80;
const u64Bytes = 8;
const blockBytes = limits.blockBytes;

/** struct fuse_open_out */
export function encodeOpen(
  view: DataView,
  at: number,
  { handle, flags }: { readonly handle: bigint; readonly flags: number },
): number {
  clear(view, at, openBytes);
  view.setBigUint64(at, handle, true);
  view.setUint32(at + 8, flags, true);
  return openBytes;
}

/** struct fuse_write_out and struct fuse_getxattr_out: a number of bytes */
export function encodeCount(view: DataView, at: number, bytes: number): number {
  setU64(view, at, bytes);
  return u64Bytes;
}

/** struct fuse_lseek_out */
export function encodeOffset(view: DataView, at: number, offset: number): number {
  setU64(view, at, offset);
  return u64Bytes;
}

/** struct fuse_statfs_out */
export function encodeStatfs(view: DataView, at: number, space: SpaceReport): number {
  clear(view, at, statfsBytes);
  setU64(view, at, Math.floor(space.totalBytes / blockBytes));
  setU64(view, at + 8, Math.floor(space.freeBytes / blockBytes));
  setU64(view, at + 16, Math.floor(space.freeBytes / blockBytes));
  setU64(view, at + 24, space.inodesTotal);
  setU64(view, at + 32, space.inodesFree);
  view.setUint32(at + 40, blockBytes, true);
  view.setUint32(at + 44, limits.fileNameBytesMax, true);
  view.setUint32(at + 48, blockBytes, true);
  return statfsBytes;
}

/** struct fuse_notify_inval_inode_out: attributes, and data from `offset` on (negative: none). */
export function invalidateInodePayload(ino: number, offset: bigint): Uint8Array {
  const payload = Buffer.alloc(24);
  payload.writeBigUInt64LE(BigInt(ino), 0);
  payload.writeBigInt64LE(offset, 8);
  return payload;
}

/** struct fuse_notify_inval_entry_out and the name with its NUL */
export function invalidateEntryPayload(parent: number, name: string): Uint8Array {
  const payload = Buffer.alloc(16 + name.length + 1);
  payload.writeBigUInt64LE(BigInt(parent), 0);
  payload.writeUInt32LE(name.length, 8);
  payload.write(name, 16, 'latin1');
  return payload;
}
