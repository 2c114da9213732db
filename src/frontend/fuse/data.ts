/** What is done to an open file: OPEN, CREATE, READ, WRITE, RELEASE, FSYNC, FALLOCATE, LSEEK. */

import { isStorageError, StorageError } from '../../core/errors.ts';
import { chain, isPending } from '../../core/eventually.ts';
import type { Ino } from '../../core/units.ts';
import { entryBytes, openKillSetId, openReplyFlag, writeFlag } from '../../format/fuse/protocol.ts';
import { encodeCount, encodeOffset, encodeOpen } from '../../format/fuse/replies.ts';
import type { Attributes, FileSystem } from '../../ports/file-system.ts';
import { replyEntry } from './attributes.ts';
import type { Call, CallContext, Handler } from './call.ts';
import { replyBytesMax } from './call.ts';
import { dropAtFlush, dropAtRelease } from './locks.ts';
import { makeFile } from './namespace.ts';

/** Flags of open(2) on Linux (asm-generic/fcntl.h). */
const openFlag = { access: 0o3, exclusive: 0o200, truncate: 0o1000, append: 0o2000 } as const;
/** Modes of fallocate(2). */
const fallocateFlag = { keepSize: 1, punchHole: 2, zeroRange: 16 } as const;
const seekWhence = { data: 3, hole: 4 } as const;

/** A volume is never kept in the kernel's page cache, another file as long as it is unchanged. */
function openReply({ versions }: CallContext, handle: bigint, attributes: Attributes) {
  if (attributes.isVolume)
    return { handle, flags: openReplyFlag.directIo | openReplyFlag.parallelDirectWrites };
  return { handle, flags: versions.note(attributes) ? openReplyFlag.keepCache : 0 };
}

interface OpenRequest {
  readonly intent: 'read' | 'write';
  readonly truncate: boolean;
  readonly dropSetId: boolean;
}

function openRequest(flags: number, fuseFlags: number): OpenRequest {
  const truncate = (flags & openFlag.truncate) !== 0;
  const intent = (flags & openFlag.access) === 0 ? 'read' : 'write';
  return { intent, truncate, dropSetId: (fuseFlags & openKillSetId) !== 0 };
}

async function openFile(
  fileSystem: FileSystem,
  ino: Ino,
  { intent, truncate, dropSetId }: OpenRequest,
): Promise<Attributes> {
  const attributes = await fileSystem.open(ino, intent);
  if (!truncate) return attributes;
  try {
    const change = { sizeBytes: 0, modifiedNs: 'now', ...(dropSetId && { dropSetId }) } as const;
    return await fileSystem.change(ino, change);
  } catch (error) {
    await fileSystem.release(ino);
    throw error;
  }
}

export const open: Handler = async (call) => {
  const { request, fileSystem, node, context } = call;
  const how = openRequest(request.u32(0), request.u32(4));
  const attributes = await openFile(fileSystem, node, how);
  // Others may have changed it since: who opens it sees its size and content as they are.
  const handle = context.handles.next();
  if (how.truncate) context.told.noteOwn(node, 'cut', 0);
  else await context.told.opened(handle, attributes);
  return encodeOpen(call.view, call.at, openReply(context, handle, attributes));
};

export const create: Handler = async (call) => {
  const { request, fileSystem, node, context } = call;
  const flags = request.u32(0);
  const how = openRequest(flags, request.u32(12));
  const { text: name } = request.text(16);
  let attributes: Attributes;
  try {
    const made = await makeFile(call, name, request.u32(4), 0);
    attributes = await fileSystem.open(made.ino);
  } catch (error) {
    // Another host made it after the kernel had looked: what open(2) without O_EXCL opens.
    if (!isStorageError(error, 'exists') || (flags & openFlag.exclusive) !== 0) throw error;
    const { ino, type } = await fileSystem.lookup(node, name);
    if (type !== 'file') throw error;
    attributes = await openFile(fileSystem, ino, how);
  }
  const at = call.at + replyEntry(call, attributes);
  const reply = openReply(context, context.handles.next(), attributes);
  return entryBytes + encodeOpen(call.view, at, reply);
};

export const read: Handler = (call) => {
  const { request } = call;
  const bytes = Math.min(request.u32(16), replyBytesMax);
  return call.fileSystem.read(call.node, request.u64(8), call.room(bytes));
};

export const write: Handler = (call) => {
  const { request, fileSystem, node } = call;
  const offset = request.u64(8);
  const bytes = request.u32(16);
  const flags = request.u32(20);
  const data = call.payload(40, bytes);
  const append = (request.u32(32) & openFlag.append) !== 0 && (flags & writeFlag.cache) === 0;
  const dropSetId = (flags & writeFlag.killSetId) !== 0;
  const written =
    append || dropSetId
      ? fileSystem.write(node, offset, data, { append, dropSetId })
      : fileSystem.write(node, offset, data);
  // A page that is written back tells the kernel nothing of the size.
  const end = (flags & writeFlag.cache) === 0 ? offset + bytes : 0;
  if (isPending(written)) return written.then(() => wrote(call, end, bytes));
  return wrote(call, end, bytes);
};

function wrote({ context, node, view, at }: Call, end: number, bytes: number): number {
  if (end > 0) context.told.noteOwn(node, 'written', end);
  return encodeCount(view, at, bytes);
}

export const release: Handler = async (call) => {
  const { fileSystem, node, context, request } = call;
  context.told.released(node, request.bigU64(0));
  try {
    await dropAtRelease(call);
  } finally {
    await fileSystem.release(node);
  }
  return 0;
};

/** FLUSH: a descriptor is closed. */
export const flush: Handler = async (call) => {
  await dropAtFlush(call);
  await call.fileSystem.settle(call.node);
  return 0;
};

/** FSYNC and FSYNCDIR: also of data alone, attributes come with it. */
export const fsync: Handler = async (call) => {
  await call.fileSystem.flush(call.node);
  return 0;
};

export const fallocate: Handler = async (call) => {
  const { request, fileSystem, node } = call;
  const offset = request.u64(8);
  const length = request.u64(16);
  await fileSystem.allocate(node, offset, length, fallocateKind(request.u32(24)));
  return 0;
};

function fallocateKind(flags: number): Parameters<FileSystem['allocate']>[3] {
  const keepSize = (flags & fallocateFlag.keepSize) !== 0;
  switch (flags & ~fallocateFlag.keepSize) {
    case 0:
      return { mode: 'reserve', keepSize };
    case fallocateFlag.punchHole:
      return { mode: 'punch', keepSize: true };
    case fallocateFlag.zeroRange:
      return { mode: 'zero', keepSize };
    default:
      throw new StorageError('unsupported', 'a mode of fallocate that is not served');
  }
}

export const lseek: Handler = (call) => {
  const { request } = call;
  const whence = request.u32(16);
  if (whence !== seekWhence.data && whence !== seekWhence.hole)
    throw new StorageError('invalid', 'only SEEK_DATA and SEEK_HOLE come here');
  const what = whence === seekWhence.data ? 'data' : 'hole';
  return chain(call.fileSystem.seek(call.node, request.u64(8), what), (found) =>
    encodeOffset(call.view, call.at, found),
  );
};
