/** struct fuse_attr and what carries it: fuse_attr_out and fuse_entry_out. */

import type { Attributes, FileType } from '../../ports/file-system.ts';
import { attributesBytes, entryBytes, clear, setU64 } from './protocol.ts';

/** S_IFMT of stat(2). */
export const typeBits = {
  fifo: 0o010000,
  character: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
} as const satisfies Record<FileType, number>;

const typeMask = 0o170000;
const types = new Map<number, FileType>(
  Object.entries(typeBits).map(([type, bits]) => [bits, type as FileType]),
);
const nsPerSecond = 1_000_000_000n;
/** What a reader or writer is advised to use. */
const preferredBytes = 4096;
/** The unit of `blocks`. */
const sectorBytes = 512;

/** Undefined where the bits mean nothing; none at all mean a file. */
export function typeOfMode(mode: number): FileType | undefined {
  const bits = mode & typeMask;
  return bits === 0 ? 'file' : types.get(bits);
}

/** st_mode of stat(2). */
export function modeOf({ type, mode }: Attributes): number {
  return typeBits[type] | mode;
}

/** Whole seconds, rounded down, and the nanoseconds above them. */
function setTime(view: DataView, secondsAt: number, nanosecondsAt: number, ns: bigint): void {
  let seconds = ns / nsPerSecond;
  let rest = ns % nsPerSecond;
  if (rest < 0n) {
    seconds -= 1n;
    rest += nsPerSecond;
  }
  view.setBigInt64(secondsAt, seconds, true);
  view.setUint32(nanosecondsAt, Number(rest), true);
}

function encodeAttributes(view: DataView, at: number, attributes: Attributes): void {
  setU64(view, at, attributes.ino);
  setU64(view, at + 8, attributes.sizeBytes);
  setU64(view, at + 16, Math.ceil(attributes.allocatedBytes / sectorBytes));
  setTime(view, at + 24, at + 48, attributes.accessedNs);
  setTime(view, at + 32, at + 52, attributes.modifiedNs);
  setTime(view, at + 40, at + 56, attributes.changedNs);
  view.setUint32(at + 60, modeOf(attributes), true);
  view.setUint32(at + 64, attributes.linkCount, true);
  view.setUint32(at + 68, attributes.uid, true);
  view.setUint32(at + 72, attributes.gid, true);
  view.setUint32(at + 76, attributes.rdev, true);
  view.setUint32(at + 80, preferredBytes, true);
  view.setUint32(at + 84, 0, true);
}

function setValidity(view: DataView, secondsAt: number, nanosecondsAt: number, ms: number): void {
  setU64(view, secondsAt, Math.floor(ms / 1000));
  view.setUint32(nanosecondsAt, Math.floor((ms % 1000) * 1_000_000), true);
}

/** struct fuse_entry_out */
export function encodeEntry(
  view: DataView,
  at: number,
  attributes: Attributes,
  timeoutMs: number,
): number {
  setU64(view, at, attributes.ino);
  // Inode numbers are never used again, so one generation is enough.
  setU64(view, at + 8, 1);
  setValidity(view, at + 16, at + 32, timeoutMs);
  setValidity(view, at + 24, at + 36, timeoutMs);
  encodeAttributes(view, at + 40, attributes);
  return entryBytes;
}

/** The same for a name that does not exist. */
export function encodeNoEntry(view: DataView, at: number, timeoutMs: number): number {
  clear(view, at, entryBytes);
  setValidity(view, at + 16, at + 32, timeoutMs);
  return entryBytes;
}

/** struct fuse_attr_out */
export function encodeAttributesReply(
  view: DataView,
  at: number,
  attributes: Attributes,
  timeoutMs: number,
): number {
  setValidity(view, at, at + 8, timeoutMs);
  view.setUint32(at + 12, 0, true);
  encodeAttributes(view, at + 16, attributes);
  return 16 + attributesBytes;
}
