/**
 * Heads of the messages between routers. Little-endian.
 *
 * Request, 48 bytes:
 *
 *     0  16 B object id
 *    16  f64  session of the sender: grows with each time that it joins the vPool
 *    24  u32  generation: grows whenever the sender lost the answer of a request; of a replica: the
 *             number of its copy
 *    28  u32  epoch (of some kinds)
 *    32  u64  offset, or sequence
 *    40  u64  length, or size
 *
 * Answer, 32 bytes:
 *
 *     0  u64  size of the object, bytes
 *     8  u64  bytes that it takes
 *    16  f64  the result: a count, an offset, a sequence; -1: none
 *    24  u32  epoch
 *    28  u8   1: a volume, 0: a file
 *    29  3 B  reserved, zero
 */

import { StorageError } from '../core/errors.ts';
import type { ObjectId } from '../core/units.ts';
import { objectId } from '../core/units.ts';

/** What a router asks another one. */
export const peerKind = {
  open: 1,
  read: 2,
  write: 3,
  trim: 4,
  resize: 5,
  seekData: 6,
  seekHole: 7,
  flush: 8,
  sync: 9,
  /** Writes at `offset` if that is the end; the result is 1 then, and 0 otherwise. */
  append: 10,
  /** Of a move, from the owner-to-be to the owner. */
  movePrepare: 16,
  movePark: 17,
  moveGive: 18,
  moveCancel: 19,
  tailRead: 20,
  /** To the owner-to-be: it shall fetch the object. */
  moveFetch: 21,
  /** To the owner: the object has no name any more. */
  delete: 22,
  /** To the owner, who decides about locks: what stands in the way, grant it, wait until nothing does. */
  lockFind: 23,
  lockSet: 24,
  lockWait: 25,
  /** From an owner in its new tenure, to every host: which locks do your processes hold? */
  locksHeld: 26,
  /** To any host: the result is 1 where its front ends have the object open. */
  inUse: 27,
  /** To the owner: what an administrator asks of a volume (care-message.ts). */
  care: 28,
  /** Of a replica, from the owner to its host: a copy begins. */
  replicaBegin: 32,
  /** Records of the journal; `offset`: the sequence up to which all are on the backend. */
  replicaAppend: 33,
  /** What was appended before shall be durable. */
  replicaSync: 34,
  /** The copy is not needed any more. */
  replicaEnd: 35,
} as const;

/** Whether it goes to the keeper of copies, not to the router. */
export function isOfReplica(kind: number): boolean {
  return kind >= peerKind.replicaBegin && kind <= peerKind.replicaEnd;
}

const requestBytes = 48;
const answerBytes = 32;

export interface RequestHead {
  readonly id: ObjectId;
  readonly session: number;
  readonly generation: number;
  readonly epoch: number;
  readonly offset: number;
  readonly length: number;
}

export interface AnswerHead {
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  readonly result: number;
  readonly epoch: number;
  readonly isVolume: boolean;
}

export function encodeRequestHead(head: RequestHead): Uint8Array {
  const bytes = Buffer.alloc(requestBytes);
  bytes.write(head.id, 0, 16, 'hex');
  bytes.writeDoubleLE(head.session, 16);
  bytes.writeUInt32LE(head.generation, 24);
  bytes.writeUInt32LE(head.epoch, 28);
  bytes.writeBigUInt64LE(BigInt(head.offset), 32);
  bytes.writeBigUInt64LE(BigInt(head.length), 40);
  return bytes;
}

/** A count of bytes or records that this program can hold exactly. */
function exact(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    throw new StorageError('invalid', 'a peer sent a number that is too large');
  return Number(value);
}

/** Throws `invalid`. */
export function decodeRequestHead(head: Uint8Array): RequestHead {
  if (head.length !== requestBytes)
    throw new StorageError('invalid', 'a peer sent a request head of a wrong length');
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.length);
  const session = bytes.readDoubleLE(16);
  if (!Number.isSafeInteger(session))
    throw new StorageError('invalid', 'a peer sent a session that is no number');
  return {
    id: objectId(bytes.toString('hex', 0, 16)),
    session,
    generation: bytes.readUInt32LE(24),
    epoch: bytes.readUInt32LE(28),
    offset: exact(bytes.readBigUInt64LE(32)),
    length: exact(bytes.readBigUInt64LE(40)),
  };
}

export function encodeAnswerHead(head: AnswerHead): Uint8Array {
  const bytes = Buffer.alloc(answerBytes);
  bytes.writeBigUInt64LE(BigInt(head.sizeBytes), 0);
  bytes.writeBigUInt64LE(BigInt(head.allocatedBytes), 8);
  bytes.writeDoubleLE(head.result, 16);
  bytes.writeUInt32LE(head.epoch, 24);
  bytes.writeUInt8(head.isVolume ? 1 : 0, 28);
  return bytes;
}

/** Throws `invalid`. */
export function decodeAnswerHead(head: Uint8Array): AnswerHead {
  if (head.length !== answerBytes)
    throw new StorageError('invalid', 'a peer sent an answer of a wrong length');
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.length);
  const result = bytes.readDoubleLE(16);
  if (!Number.isSafeInteger(result))
    throw new StorageError('invalid', 'a peer sent a result that is no number');
  return {
    sizeBytes: exact(bytes.readBigUInt64LE(0)),
    allocatedBytes: exact(bytes.readBigUInt64LE(8)),
    result,
    epoch: bytes.readUInt32LE(24),
    isVolume: bytes.readUInt8(28) === 1,
  };
}
