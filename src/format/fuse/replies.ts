/** Encoders of FUSE replies, into memory of the caller from `at` on; each gives its bytes. */

import type { Attributes, DirectoryEntry, FileType, SpaceReport } from '../../ports/file-system.ts';
import {
  attributesReplyBytes,
  entryBytes,
  initReplyBytes,
  openReplyBytes,
  protocolMajor,
  protocolMinor,
  statfsReplyBytes,
} from './protocol.ts';

/** S_IFMT of stat(2). */
const typeBits = {
  fifo: 0o010000,
  character: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
} as const satisfies Record<FileType, number>;

const nsPerSecond = 1_000_000_000n;
/** What a reader or writer is advised to use, and the unit of st_blocks. */
const preferredBytes = 4096;
const sectorBytes = 512;

/** st_mode. */
export function modeOf({ type, mode }: Attributes): number {
  return typeBits[type] | mode;
}

export function typeOfMode(mode: number): FileType | undefined {
  const bits = mode & 0o170000;
  if (bits === 0) return 'file';
  return (Object.keys(typeBits) as FileType[]).find((type) => typeBits[type] === bits);
}

function setSize(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Seconds in `seconds`, nanoseconds behind all the seconds. */
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

/** struct fuse_attr */
function encodeAttributes(view: DataView, at: number, attributes: Attributes): void {
  setSize(view, at, attributes.ino);
  setSize(view, at + 8, attributes.sizeBytes);
  setSize(view, at + 16, Math.ceil(attributes.allocatedBytes / sectorBytes));
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
  setSize(view, secondsAt, Math.floor(ms / 1000));
  view.setUint32(nanosecondsAt, (ms % 1000) * 1_000_000, true);
}

/** struct fuse_entry_out */
export function encodeEntry(
  view: DataView,
  at: number,
  attributes: Attributes,
  timeoutMs: number,
): number {
  setSize(view, at, attributes.ino);
  // Inode numbers are never used again, so one generation is enough.
  setSize(view, at + 8, 1);
  setValidity(view, at + 16, at + 32, timeoutMs);
  setValidity(view, at + 24, at + 36, timeoutMs);
  encodeAttributes(view, at + 40, attributes);
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
  return attributesReplyBytes;
}

/** struct fuse_open_out, with a handle that carries nothing */
export function encodeOpen(view: DataView, at: number, flags: number): number {
  setSize(view, at, 0);
  view.setUint32(at + 8, flags, true);
  view.setUint32(at + 12, 0, true);
  return openReplyBytes;
}

export interface InitReply {
  readonly readAheadBytesMax: number;
  readonly flags: number;
  readonly flags2: number;
  readonly requestsMax: number;
  readonly writeBytesMax: number;
  readonly pagesMax: number;
}

/** struct fuse_init_out */
export function encodeInit(view: DataView, at: number, init: InitReply): number {
  for (let index = 0; index < initReplyBytes; index += 4) view.setUint32(at + index, 0, true);
  view.setUint32(at, protocolMajor, true);
  view.setUint32(at + 4, protocolMinor, true);
  view.setUint32(at + 8, init.readAheadBytesMax, true);
  view.setUint32(at + 12, init.flags, true);
  view.setUint16(at + 16, init.requestsMax, true);
  view.setUint16(at + 18, init.requestsMax, true);
  view.setUint32(at + 20, init.writeBytesMax, true);
  view.setUint32(at + 24, 1, true);
  view.setUint16(at + 28, init.pagesMax, true);
  view.setUint32(at + 32, init.flags2, true);
  return initReplyBytes;
}

/** struct fuse_statfs_out */
export function encodeStatfs(view: DataView, at: number, space: SpaceReport): number {
  for (let index = 0; index < statfsReplyBytes; index += 4) view.setUint32(at + index, 0, true);
  setSize(view, at, Math.floor(space.totalBytes / preferredBytes));
  setSize(view, at + 8, Math.floor(space.freeBytes / preferredBytes));
  setSize(view, at + 16, Math.floor(space.freeBytes / preferredBytes));
  setSize(view, at + 24, space.inodesTotal);
  setSize(view, at + 32, space.inodesFree);
  view.setUint32(at + 40, preferredBytes, true);
  view.setUint32(at + 44, 255, true);
  view.setUint32(at + 48, preferredBytes, true);
  return statfsReplyBytes;
}

const entryHeadBytes = 24;

/** Bytes of struct fuse_dirent for a name, with padding. */
export function directoryEntryBytes(name: string): number {
  return Math.ceil((entryHeadBytes + name.length) / 8) * 8;
}

/** struct fuse_dirent */
export function encodeDirectoryEntry(view: DataView, at: number, entry: DirectoryEntry): number {
  const bytes = directoryEntryBytes(entry.name);
  setSize(view, at, entry.ino);
  view.setBigUint64(at + 8, entry.cookie, true);
  view.setUint32(at + 16, entry.name.length, true);
  view.setUint32(at + 20, typeBits[entry.type] >> 12, true);
  for (let index = 0; index < bytes - entryHeadBytes; index += 1)
    view.setUint8(at + entryHeadBytes + index, entry.name.charCodeAt(index) || 0);
  return bytes;
}
