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

const magic = 0x5246_5057;
const version = 1;
const crcAt = 28;

export const frameBytes = 32;
export const frameHeadBytesMax = 4096;

const types = { request: 1, answer: 2, error: 3, ping: 4, pong: 5 } as const;
export type FrameType = keyof typeof types;
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

/** Frame start and head in one buffer; the payload is sent behind it as it is. */
export function encodeFrame(frame: Frame, checksum: Checksum): Uint8Array {
  const { type, kind, number, head, payload } = frame;
  invariant(head.length <= frameHeadBytesMax, 'the head of a message is small');
  invariant(payload.length <= peerPayloadBytesMax, 'the payload of a message is bounded');
  const bytes = new Uint8Array(frameBytes + head.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, magic, true);
  view.setUint8(4, version);
  view.setUint8(5, types[type]);
  view.setUint8(6, kind);
  view.setUint32(8, number, true);
  view.setUint32(12, head.length, true);
  view.setUint32(16, payload.length, true);
  view.setUint32(20, checksum.crc32c(payload), true);
  bytes.set(head, frameBytes);
  view.setUint32(crcAt, headCrc(bytes, checksum), true);
  return bytes;
}

function headCrc(bytes: Uint8Array, checksum: Checksum): number {
  return checksum.crc32c(bytes.subarray(frameBytes), checksum.crc32c(bytes.subarray(0, crcAt)));
}

function refuse(what: string): never {
  throw new StorageError('corrupt', `not a frame: ${what}`);
}

/** Of the first 32 bytes. Throws `corrupt`; what it gives is believed only with `checkHead`. */
export function decodeFrameStart(bytes: Uint8Array): FrameStart {
  const view = new DataView(bytes.buffer, bytes.byteOffset, frameBytes);
  if (view.getUint32(0, true) !== magic) refuse('wrong magic');
  if (view.getUint8(4) !== version) refuse('unknown version');
  const type = typeNames.find((name) => types[name] === view.getUint8(5));
  if (type === undefined) refuse('unknown type');
  const headBytes = view.getUint32(12, true);
  const payloadBytes = view.getUint32(16, true);
  if (headBytes > frameHeadBytesMax) refuse('its head is too long');
  if (payloadBytes > peerPayloadBytesMax) refuse('its payload is too long');
  return {
    ...{ type, headBytes, payloadBytes },
    kind: view.getUint8(6),
    number: view.getUint32(8, true),
    payloadCrc: view.getUint32(20, true),
  };
}

/** `bytes`: frame start and head. Throws `corrupt`. */
export function checkHead(bytes: Uint8Array, checksum: Checksum): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(crcAt, true) !== headCrc(bytes, checksum)) refuse('its head is damaged');
}

export function encodeErrorHead(code: string, message: string): Uint8Array {
  return Buffer.from(`${code}\0${message}`).subarray(0, frameHeadBytesMax);
}

export function decodeErrorHead(head: Uint8Array): { code: string; message: string } {
  const [code = '', message = ''] = Buffer.from(head).toString().split('\0', 2);
  return { code, message };
}
