/**
 * Locks in the payload of messages between hosts, one after another. Little-endian, 32 bytes each:
 *
 *     0  u8   type: 0 read, 1 write, 2 none
 *     1  u8   kind: 0 posix, 1 flock
 *     2  2 B  reserved, zero
 *     4  u32  pid
 *     8  u64  owner
 *    16  u64  first byte
 *    24  u64  last byte
 */

import { StorageError } from '../core/errors.ts';
import type { LockRequest } from '../ports/object-locks.ts';
import { lastByte } from '../ports/object-locks.ts';

export const lockBytes = 32;
const types = ['read', 'write', 'none'] as const;
const kinds = ['posix', 'flock'] as const;

export function encodeLocks(locks: readonly LockRequest[]): Uint8Array {
  const bytes = Buffer.alloc(locks.length * lockBytes);
  for (const [index, { type, kind, pid, owner, start, end }] of locks.entries()) {
    const at = index * lockBytes;
    bytes.writeUInt8(types.indexOf(type), at);
    bytes.writeUInt8(kinds.indexOf(kind), at + 1);
    bytes.writeUInt32LE(pid, at + 4);
    bytes.writeBigUInt64LE(owner, at + 8);
    bytes.writeBigUInt64LE(start, at + 16);
    bytes.writeBigUInt64LE(end, at + 24);
  }
  return bytes;
}

/** Throws `invalid`. */
export function decodeLocks(payload: Uint8Array): LockRequest[] {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  if (bytes.length % lockBytes !== 0) refuse();
  return Array.from({ length: bytes.length / lockBytes }, (_, index) => {
    const at = index * lockBytes;
    const type = types[bytes.readUInt8(at)];
    const kind = kinds[bytes.readUInt8(at + 1)];
    const start = bytes.readBigUInt64LE(at + 16);
    const end = bytes.readBigUInt64LE(at + 24);
    const isKnown = type !== undefined && kind !== undefined && bytes.readUInt16LE(at + 2) === 0;
    if (!isKnown || start > end || end > lastByte) refuse();
    const pid = bytes.readUInt32LE(at + 4);
    return { type, kind, pid, owner: bytes.readBigUInt64LE(at + 8), start, end };
  });
}

function refuse(): never {
  throw new StorageError('invalid', 'a peer sent a lock that is not well formed');
}
