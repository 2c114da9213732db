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
 *    32  u64  offset, sequence, or number of a change
 *    40  u64  length, or size
 *
 * Answer, 32 bytes:
 *
 *     0  u64  size of the object, bytes
 *     8  u64  bytes that it takes
 *    16  f64  the result: a count, an offset, a sequence, the number of the change that was made;
 *             -1: none
 *    24  u32  epoch of the tenure that answers (0: not told)
 *    28  u8   1: a volume, 0: a file
 *    29  3 B  reserved, zero
 */

import { StorageError } from '../core/errors.ts';
import { invariant } from '../core/invariant.ts';
import type { ObjectId } from '../core/units.ts';
import { objectId } from '../core/units.ts';
import { countAt } from './fields.ts';

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
  /**
   * Writes at `offset` if that is the end; the result is 0 otherwise, else the number of the change;
   * 1 for a sender whose `length` is 0: it knows no numbers of changes.
   */
  append: 10,
  /** Whether the change of that epoch, with the number `offset`, is there still: 1, or 0. */
  hasChange: 11,
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
  /** To any host: whether it may own volumes; `failed` where its SSD has failed. */
  mayOwn: 29,
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

const wordSize = 2 ** 32;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** A count of bytes or records, as u64. */
function setCount(view: DataView, at: number, value: number): void {
  invariant(Number.isSafeInteger(value) && value >= 0, 'a count is a natural number');
  view.setUint32(at, value % wordSize, true);
  view.setUint32(at + 4, Math.floor(value / wordSize), true);
}

/** One that this program can hold exactly. */
function getCount(view: DataView, at: number): number {
  const value = countAt(view, at);
  if (value === undefined)
    throw new StorageError('invalid', 'a peer sent a number that is too large');
  return value;
}

export function encodeRequestHead(head: RequestHead): Uint8Array {
  const bytes = Buffer.allocUnsafe(requestBytes);
  const view = viewOf(bytes);
  bytes.write(head.id, 0, 16, 'hex');
  view.setFloat64(16, head.session, true);
  view.setUint32(24, head.generation, true);
  view.setUint32(28, head.epoch, true);
  setCount(view, 32, head.offset);
  setCount(view, 40, head.length);
  return bytes;
}

/** Throws `invalid`. */
export function decodeRequestHead(head: Uint8Array): RequestHead {
  if (head.length !== requestBytes)
    throw new StorageError('invalid', 'a peer sent a request head of a wrong length');
  const view = viewOf(head);
  const session = view.getFloat64(16, true);
  if (!Number.isSafeInteger(session))
    throw new StorageError('invalid', 'a peer sent a session that is no number');
  return {
    id: objectId(Buffer.from(head.buffer, head.byteOffset, 16).toString('hex')),
    session,
    generation: view.getUint32(24, true),
    epoch: view.getUint32(28, true),
    offset: getCount(view, 32),
    length: getCount(view, 40),
  };
}

export function encodeAnswerHead(head: AnswerHead): Uint8Array {
  const bytes = Buffer.allocUnsafe(answerBytes);
  const view = viewOf(bytes);
  setCount(view, 0, head.sizeBytes);
  setCount(view, 8, head.allocatedBytes);
  view.setFloat64(16, head.result, true);
  view.setUint32(24, head.epoch, true);
  view.setUint32(28, head.isVolume ? 1 : 0, true);
  return bytes;
}

/** Throws `invalid`. */
export function decodeAnswerHead(head: Uint8Array): AnswerHead {
  if (head.length !== answerBytes)
    throw new StorageError('invalid', 'a peer sent an answer of a wrong length');
  const view = viewOf(head);
  const result = view.getFloat64(16, true);
  if (!Number.isSafeInteger(result))
    throw new StorageError('invalid', 'a peer sent a result that is no number');
  const kind = view.getUint32(28, true);
  if (kind > 1) throw new StorageError('invalid', 'a peer sent an object of an unknown kind');
  return {
    sizeBytes: getCount(view, 0),
    allocatedBytes: getCount(view, 8),
    result,
    epoch: view.getUint32(24, true),
    isVolume: kind === 1,
  };
}
