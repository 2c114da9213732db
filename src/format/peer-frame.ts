/**
 * Frames between daemons, over one connection after its handshake. Little-endian, 32 bytes and then
 * the head and the payload:
 *
 *     0  u32  magic "WPFR"
 *     4  u8   version (1)
 *     5  u8   type: 1 request, 2 answer, 3 error, 4 ping, 5 pong
 *     6  u8   kind of the message; 0 for pings and pongs
 *     7  u8   reserved, zero
 *     8  u32  number of the request; its answer has the same
 *    12  u32  bytes of head
 *    16  u32  bytes of payload
 *    20  u32  CRC-32C of the payload
 *    24  u32  reserved, zero
 *    28  u32  CRC-32C of bytes 0 to 27 and of the head
 *
 * The head of an error is its code, a zero byte and its message, in UTF-8.
 */

import { StorageError } from '../core/errors.ts';
import { invariant } from '../core/invariant.ts';
import type { Checksum } from '../ports/checksum.ts';
import { peerPayloadBytesMax } from '../ports/peers.ts';
import { isZero } from './fields.ts';

const magic = 0x5246_5057;
const version = 1;
const crcAt = 28;

export const frameBytes = 32;
export const frameHeadBytesMax = 4096;

const types = { request: 1, answer: 2, error: 3, ping: 4, pong: 5 } as const;
export type FrameType = keyof typeof types;
/** The type of number 1 comes first. */
const typeNames = Object.keys(types) as FrameType[];

export interface Frame {
  readonly type: FrameType;
  readonly kind: number;
  readonly number: number;
  readonly head: Uint8Array;
  readonly payload: Uint8Array;
}

/** What stands before the head: how much follows it. */
export interface FrameStart {
  readonly type: FrameType;
  readonly kind: number;
  readonly number: number;
  readonly headBytes: number;
  readonly payloadBytes: number;
  readonly payloadCrc: number;
}

/** Memory for frames, or with frames in it. */
export interface FrameMemory {
  readonly bytes: Uint8Array;
  /** Of the same bytes. */
  readonly view: DataView;
}

export function frameMemory(bytes: Uint8Array): FrameMemory {
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) };
}

/** Writes frame start and head at `at`, and gives their end; the payload is sent behind them. */
export function encodeFrame(
  { type, kind, number, head, payload }: Frame,
  { bytes, view }: FrameMemory,
  at: number,
  checksum: Checksum,
): number {
  invariant(head.length <= frameHeadBytesMax, 'the head of a message is small');
  invariant(payload.length <= peerPayloadBytesMax, 'the payload of a message is bounded');
  view.setUint32(at, magic, true);
  view.setUint8(at + 4, version);
  view.setUint8(at + 5, types[type]);
  view.setUint8(at + 6, kind);
  view.setUint8(at + 7, 0);
  view.setUint32(at + 8, number, true);
  view.setUint32(at + 12, head.length, true);
  view.setUint32(at + 16, payload.length, true);
  view.setUint32(at + 20, payload.length === 0 ? 0 : checksum.crc32c(payload), true);
  view.setUint32(at + 24, 0, true);
  bytes.set(head, at + frameBytes);
  const end = at + frameBytes + head.length;
  view.setUint32(at + crcAt, headCrc(bytes, at, end, checksum), true);
  return end;
}

/** Of the frame start at `at` and the head behind it, which ends at `end`. */
function headCrc(bytes: Uint8Array, at: number, end: number, checksum: Checksum): number {
  const start = checksum.crc32c(bytes.subarray(at, at + crcAt));
  return end === at + frameBytes
    ? start
    : checksum.crc32c(bytes.subarray(at + frameBytes, end), start);
}

function refuse(what: string): never {
  throw new StorageError('corrupt', `not a frame: ${what}`);
}

/** Of 32 bytes at `at`. Throws `corrupt`; what it gives is believed only with `checkHead`. */
export function decodeFrameStart({ view }: FrameMemory, at: number): FrameStart {
  if (view.getUint32(at, true) !== magic) refuse('wrong magic');
  if (view.getUint8(at + 4) !== version) refuse('unknown version');
  const type = typeNames[view.getUint8(at + 5) - 1];
  if (type === undefined) refuse('unknown type');
  if (!isZero(view, at + 7, at + 8) || !isZero(view, at + 24, at + crcAt))
    refuse('reserved bytes are used');
  const headBytes = view.getUint32(at + 12, true);
  const payloadBytes = view.getUint32(at + 16, true);
  if (headBytes > frameHeadBytesMax) refuse('its head is too long');
  if (payloadBytes > peerPayloadBytesMax) refuse('its payload is too long');
  return {
    ...{ type, headBytes, payloadBytes },
    kind: view.getUint8(at + 6),
    number: view.getUint32(at + 8, true),
    payloadCrc: view.getUint32(at + 20, true),
  };
}

/** Of the frame at `at`, whose head ends at `end`. Throws `corrupt`. */
export function checkHead(
  { bytes, view }: FrameMemory,
  at: number,
  end: number,
  checksum: Checksum,
): void {
  if (view.getUint32(at + crcAt, true) !== headCrc(bytes, at, end, checksum))
    refuse('its head is damaged');
}

/** Throws `corrupt`. */
export function checkPayload(
  { payloadCrc }: FrameStart,
  payload: Uint8Array,
  checksum: Checksum,
): void {
  const found = payload.length === 0 ? 0 : checksum.crc32c(payload);
  if (found !== payloadCrc) refuse('its payload is damaged');
}

export function encodeErrorHead(code: string, message: string): Uint8Array {
  return Buffer.from(`${code}\0${message}`).subarray(0, frameHeadBytesMax);
}

export function decodeErrorHead(head: Uint8Array): { code: string; message: string } {
  const [code = '', message = ''] = Buffer.from(head).toString().split('\0', 2);
  return { code, message };
}
