/**
 * Numbers of the FUSE protocol, 7.31 to 7.45 (linux/fuse.h of Linux 6.18). Those that are newer
 * than 7.38 are marked with the version that brought them. All fields are in the byte order of the
 * machine, which is little-endian wherever this runs.
 */

export const opcode = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  readlink: 5,
  symlink: 6,
  mknod: 8,
  mkdir: 9,
  unlink: 10,
  rmdir: 11,
  rename: 12,
  link: 13,
  open: 14,
  read: 15,
  write: 16,
  statfs: 17,
  release: 18,
  fsync: 20,
  setxattr: 21,
  getxattr: 22,
  listxattr: 23,
  removexattr: 24,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  fsyncdir: 30,
  getlk: 31,
  setlk: 32,
  setlkw: 33,
  create: 35,
  interrupt: 36,
  destroy: 38,
  ioctl: 39,
  poll: 40,
  notifyReply: 41,
  batchForget: 42,
  fallocate: 43,
  readdirplus: 44,
  rename2: 45,
  lseek: 46,
  copyFileRange: 47,
} as const;

export const protocolMajor = 7;
/** The newest minor version whose rules are known here. */
export const protocolMinor = 45;
export const protocolMinorMin = 31;

/** Flags of INIT; those of 32 and above stand in `flags2`. */
export const initFlag = {
  asyncRead: 1 << 0,
  posixLocks: 1 << 1,
  atomicTruncate: 1 << 3,
  exportSupport: 1 << 4,
  bigWrites: 1 << 5,
  flockLocks: 1 << 10,
  autoInvalidate: 1 << 12,
  doReaddirplus: 1 << 13,
  readdirplusAuto: 1 << 14,
  asyncDirectIo: 1 << 15,
  parallelDirectoryOperations: 1 << 18,
  maxPages: 1 << 22,
  handleKillPrivV2: 1 << 28,
  initExtended: 1 << 30,
} as const;

export const initFlag2 = {
  /** 7.39: FUSE_DIRECT_IO_ALLOW_MMAP, bit 36. */
  directIoAllowMmap: 1 << (36 - 32),
  /** 7.40: FUSE_HAS_RESEND, bit 39. */
  hasResend: 1 << (39 - 32),
  /** 7.42: FUSE_OVER_IO_URING, bit 41. */
  overIoUring: 1 << (41 - 32),
} as const;

/** `open_flags` of the reply to OPEN and CREATE. */
export const openReplyFlag = {
  directIo: 1 << 0,
  keepCache: 1 << 1,
  parallelDirectWrites: 1 << 6,
} as const;

/** `open_flags` of OPEN and CREATE: a truncation drops set-id bits. */
export const openKillSetId = 1 << 0;

/** `release_flags` of RELEASE. */
export const releaseFlag = { flockUnlock: 1 << 1 } as const;

/** `valid` of SETATTR. */
export const setattrValid = {
  mode: 1 << 0,
  uid: 1 << 1,
  gid: 1 << 2,
  size: 1 << 3,
  accessed: 1 << 4,
  modified: 1 << 5,
  accessedNow: 1 << 7,
  modifiedNow: 1 << 8,
  killSetId: 1 << 11,
} as const;

/** `write_flags`. */
export const writeFlag = {
  /** From the page cache, where it was put long ago: its offset counts. */
  cache: 1 << 0,
  killSetId: 1 << 2,
} as const;

/** enum fuse_notify_code; RESEND is of 7.40. */
export const notifyCode = { invalidateInode: 2, invalidateEntry: 3, resend: 7 } as const;

export const inHeaderBytes = 40;
export const attributesBytes = 88;
export const entryBytes = 40 + attributesBytes;

/** Where the fields of struct fuse_in_header are. */
export const headerAt = {
  length: 0,
  opcode: 4,
  unique: 8,
  node: 16,
  uid: 24,
  gid: 28,
  thread: 32,
} as const;

/** A number of up to 53 bits as a u64. */
export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

export function clear(view: DataView, at: number, bytes: number): void {
  for (let index = 0; index < bytes; index += 4) view.setUint32(at + index, 0, true);
}
