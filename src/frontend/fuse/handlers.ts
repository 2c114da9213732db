/**
 * What each FUSE request asks of the file system. A handler reads its fields before it waits for
 * anything, writes its reply at `call.at` and gives the reply's bytes.
 */

import { StorageError } from '../../core/errors.ts';
import type { Ino } from '../../core/units.ts';
import { opcode, openFlag, setattrValid } from '../../format/fuse/protocol.ts';
import {
  directoryEntryBytes,
  encodeAttributesReply,
  encodeDirectoryEntry,
  encodeEntry,
  encodeOpen,
  encodeStatfs,
  typeOfMode,
} from '../../format/fuse/replies.ts';
import { entryBytes } from '../../format/fuse/protocol.ts';
import type { RequestReader } from '../../format/fuse/requests.ts';
import type { AttributeChange, Attributes, FileSystem } from '../../ports/file-system.ts';

export interface Call {
  readonly fileSystem: FileSystem;
  readonly request: RequestReader;
  readonly node: Ino;
  /** Of the whole arena; the reply goes to `at`, at most `bytesMax` of it. */
  readonly view: DataView;
  readonly memory: Uint8Array;
  readonly at: number;
  readonly bytesMax: number;
  readonly timeoutMs: number;
}

export type Handler = (call: Call) => Promise<number>;

const openTruncate = 0o1000;
const fallocateFlag = { keepSize: 1, punchHole: 2, zeroRange: 16 } as const;
const renameFlag = { noReplace: 1, exchange: 2 } as const;
const xattrFlag = { create: 1, replace: 2 } as const;
const seekWhence = { data: 3, hole: 4 } as const;
const nsPerSecond = 1_000_000_000n;
const entriesPerTurn = 256;

function callerOf({ request }: Call) {
  return { uid: request.uid, gid: request.gid };
}

function entryReply(call: Call, attributes: Attributes): number {
  return encodeEntry(call.view, call.at, attributes, call.timeoutMs);
}

function openFlagsOf(attributes: Attributes): number {
  return attributes.isVolume ? openFlag.directIo | openFlag.parallelDirectWrites : 0;
}

/** FUSE tells of directories and files alike by S_IFMT bits in `mode`. */
async function make(call: Call, name: string, mode: number, rdev: number): Promise<Attributes> {
  const type = typeOfMode(mode);
  if (type === undefined || type === 'symlink')
    throw new StorageError('invalid', 'not a type of file that can be made');
  const what = { type, mode: mode & 0o7777, rdev };
  return call.fileSystem.make(call.node, name, what, callerOf(call));
}

const lookup: Handler = async (call) => {
  const { text } = call.request.text(0);
  return entryReply(call, await call.fileSystem.lookup(call.node, text));
};

const getattr: Handler = async (call) => {
  const attributes = await call.fileSystem.attributes(call.node);
  return encodeAttributesReply(call.view, call.at, attributes, call.timeoutMs);
};

const setattr: Handler = async (call) => {
  const { request } = call;
  const valid = request.u32(0);
  const time = (secondsAt: number, nanosecondsAt: number) =>
    request.i64(secondsAt) * nsPerSecond + BigInt(request.u32(nanosecondsAt));
  const change: AttributeChange = {
    ...((valid & setattrValid.mode) !== 0 && { mode: request.u32(68) & 0o7777 }),
    ...((valid & setattrValid.uid) !== 0 && { uid: request.u32(76) }),
    ...((valid & setattrValid.gid) !== 0 && { gid: request.u32(80) }),
    ...((valid & setattrValid.size) !== 0 && { sizeBytes: request.u64(16) }),
    ...((valid & setattrValid.accessed) !== 0 && { accessedNs: time(32, 56) }),
    ...((valid & setattrValid.accessedNow) !== 0 && { accessedNs: 'now' as const }),
    ...((valid & setattrValid.modified) !== 0 && { modifiedNs: time(40, 60) }),
    ...((valid & setattrValid.modifiedNow) !== 0 && { modifiedNs: 'now' as const }),
    ...((valid & setattrValid.killSetId) !== 0 && { dropSetId: true }),
  };
  const attributes = await call.fileSystem.change(call.node, change);
  return encodeAttributesReply(call.view, call.at, attributes, call.timeoutMs);
};

const readlink: Handler = async (call) => {
  const target = await call.fileSystem.readLink(call.node);
  return Buffer.from(call.memory.buffer, call.at, call.bytesMax).write(target, 0, 'latin1');
};

const symlink: Handler = async (call) => {
  const { text: name, next } = call.request.text(0);
  const { text: target } = call.request.text(next);
  const what = { type: 'symlink', mode: 0o777, target } as const;
  const made = await call.fileSystem.make(call.node, name, what, callerOf(call));
  return entryReply(call, made);
};

const mknod: Handler = async (call) => {
  const { request } = call;
  return entryReply(call, await make(call, request.text(16).text, request.u32(0), request.u32(4)));
};

const mkdir: Handler = async (call) => {
  const { request } = call;
  const what = { type: 'directory', mode: request.u32(0) & 0o7777 } as const;
  const { text } = request.text(8);
  return entryReply(call, await call.fileSystem.make(call.node, text, what, callerOf(call)));
};

const create: Handler = async (call) => {
  const { request, fileSystem } = call;
  const made = await make(call, request.text(16).text, request.u32(4), 0);
  const attributes = await fileSystem.open(made.ino);
  return (
    entryReply(call, attributes) +
    encodeOpen(call.view, call.at + entryBytes, openFlagsOf(attributes))
  );
};

const unlink: Handler = async (call) => {
  await call.fileSystem.unlink(call.node, call.request.text(0).text);
  return 0;
};

const rmdir: Handler = async (call) => {
  await call.fileSystem.removeDirectory(call.node, call.request.text(0).text);
  return 0;
};

async function renameFrom(call: Call, namesAt: number, flags: number): Promise<number> {
  const { request, fileSystem } = call;
  const parent = request.u64(0) as Ino;
  const { text: from, next } = request.text(namesAt);
  const { text: to } = request.text(next);
  if ((flags & ~(renameFlag.noReplace | renameFlag.exchange)) !== 0 || flags === 3)
    throw new StorageError('invalid', 'unknown flags of rename');
  let how: 'replace' | 'no-replace' | 'exchange' = 'replace';
  if (flags === renameFlag.noReplace) how = 'no-replace';
  if (flags === renameFlag.exchange) how = 'exchange';
  await fileSystem.rename({ parent: call.node, name: from }, { parent, name: to }, how);
  return 0;
}

const link: Handler = async (call) => {
  const { request } = call;
  const linked = request.u64(0) as Ino;
  const { text } = request.text(8);
  return entryReply(call, await call.fileSystem.link(linked, call.node, text));
};

const open: Handler = async (call) => {
  const flags = call.request.u32(0);
  let attributes = await call.fileSystem.open(call.node);
  if ((flags & openTruncate) !== 0) {
    try {
      attributes = await call.fileSystem.change(call.node, { sizeBytes: 0, modifiedNs: 'now' });
    } catch (error) {
      await call.fileSystem.release(call.node);
      throw error;
    }
  }
  return encodeOpen(call.view, call.at, openFlagsOf(attributes));
};

const release: Handler = async (call) => {
  await call.fileSystem.release(call.node);
  return 0;
};

const fsync: Handler = async (call) => {
  await call.fileSystem.flush(call.node);
  return 0;
};

const opendir: Handler = async (call) => encodeOpen(call.view, call.at, 0);

const nothing: Handler = async () => 0;

async function readDirectory(call: Call, withAttributes: boolean): Promise<number> {
  const { fileSystem, request, node } = call;
  let after = request.bigU64(8);
  const bytesMax = Math.min(request.u32(16), call.bytesMax);
  let bytes = 0;
  for (;;) {
    const entries = await fileSystem.list(node, after, entriesPerTurn);
    for (const entry of entries) {
      const needed = directoryEntryBytes(entry.name) + (withAttributes ? entryBytes : 0);
      if (bytes + needed > bytesMax) return bytes;
      const at = call.at + bytes;
      if (withAttributes) {
        // The kernel keeps no reference to `.` and `..`: their node number is zero.
        const isDot = entry.name === '.' || entry.name === '..';
        const found = isDot ? undefined : await attributesOf(fileSystem, entry.ino);
        call.memory.fill(0, at, at + entryBytes);
        if (found) encodeEntry(call.view, at, found, call.timeoutMs);
        encodeDirectoryEntry(call.view, at + entryBytes, entry);
      } else encodeDirectoryEntry(call.view, at, entry);
      bytes += needed;
      after = entry.cookie;
    }
    if (entries.length < entriesPerTurn) return bytes;
  }
}

/** Undefined where the entry went meanwhile. */
async function attributesOf(fileSystem: FileSystem, ino: Ino): Promise<Attributes | undefined> {
  try {
    return await fileSystem.attributes(ino);
  } catch {
    return undefined;
  }
}

const statfs: Handler = async (call) =>
  encodeStatfs(call.view, call.at, await call.fileSystem.space());

const setxattr: Handler = async (call) => {
  const { request } = call;
  const size = request.u32(0);
  const flags = request.u32(4);
  const { text: name, next } = request.text(8);
  const value = request.bytes(next, size).slice();
  let how: 'set' | 'create' | 'replace' = 'set';
  if (flags === xattrFlag.create) how = 'create';
  if (flags === xattrFlag.replace) how = 'replace';
  await call.fileSystem.setAttribute(call.node, name, value, how);
  return 0;
};

/** With size 0 the caller asks how much room it needs. */
function sized(call: Call, size: number, value: Uint8Array): number {
  if (size === 0) {
    call.view.setUint32(call.at, value.length, true);
    call.view.setUint32(call.at + 4, 0, true);
    return 8;
  }
  if (value.length > size) throw new RangeError('value is larger than the room for it');
  call.memory.set(value, call.at);
  return value.length;
}

const getxattr: Handler = async (call) => {
  const size = call.request.u32(0);
  const { text: name } = call.request.text(8);
  return sized(call, size, await call.fileSystem.getAttribute(call.node, name));
};

const listxattr: Handler = async (call) => {
  const size = call.request.u32(0);
  const names = await call.fileSystem.listAttributes(call.node);
  return sized(call, size, Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1'));
};

const removexattr: Handler = async (call) => {
  await call.fileSystem.removeAttribute(call.node, call.request.text(0).text);
  return 0;
};

const fallocate: Handler = async (call) => {
  const { request, fileSystem, node } = call;
  const offset = request.u64(8);
  const length = request.u64(16);
  const flags = request.u32(24);
  const known = fallocateFlag.keepSize | fallocateFlag.punchHole | fallocateFlag.zeroRange;
  if ((flags & ~known) !== 0) throw new StorageError('unsupported', 'unknown mode of fallocate');
  const keepSize = (flags & fallocateFlag.keepSize) !== 0;
  let mode: 'reserve' | 'punch' | 'zero' = 'reserve';
  if ((flags & fallocateFlag.punchHole) !== 0) mode = 'punch';
  else if ((flags & fallocateFlag.zeroRange) !== 0) mode = 'zero';
  await fileSystem.allocate(node, offset, length, { mode, keepSize });
  return 0;
};

const lseek: Handler = async (call) => {
  const { request } = call;
  const offset = request.u64(8);
  const whence = request.u32(16);
  if (whence !== seekWhence.data && whence !== seekWhence.hole)
    throw new StorageError('invalid', 'only SEEK_DATA and SEEK_HOLE come here');
  const what = whence === seekWhence.data ? 'data' : 'hole';
  const found = await call.fileSystem.seek(call.node, offset, what);
  call.view.setBigUint64(call.at, BigInt(found), true);
  return 8;
};

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
  [opcode.rename, (call) => renameFrom(call, 8, 0)],
  [opcode.rename2, (call) => renameFrom(call, 16, call.request.u32(8))],
  [opcode.link, link],
  [opcode.open, open],
  [opcode.create, create],
  [opcode.release, release],
  [opcode.fsync, fsync],
  [opcode.opendir, opendir],
  [opcode.readdir, (call) => readDirectory(call, false)],
  [opcode.readdirplus, (call) => readDirectory(call, true)],
  [opcode.releasedir, nothing],
  [opcode.fsyncdir, fsync],
  [opcode.statfs, statfs],
  [opcode.setxattr, setxattr],
  [opcode.getxattr, getxattr],
  [opcode.listxattr, listxattr],
  [opcode.removexattr, removexattr],
  [opcode.fallocate, fallocate],
  [opcode.lseek, lseek],
  [opcode.destroy, nothing],
]);
