/** Names: MKNOD, MKDIR, SYMLINK, LINK, UNLINK, RMDIR, RENAME, RENAME2, READLINK. */

import { limits } from '../../core/limits.ts';
import { StorageError } from '../../core/errors.ts';
import type { Ino } from '../../core/units.ts';
import { typeOfMode } from '../../format/fuse/attributes.ts';
import type { Attributes } from '../../ports/file-system.ts';
import { replyEntry } from './attributes.ts';
import type { Call, Handler } from './call.ts';

/** Flags of renameat2(2). */
const renameFlag = { noReplace: 1, exchange: 2 } as const;

/** A file, pipe, socket or device, as the S_IFMT bits of `mode` say. */
export async function makeFile(
  call: Call,
  name: string,
  mode: number,
  rdev: number,
): Promise<Attributes> {
  const type = typeOfMode(mode);
  if (type === undefined || type === 'symlink' || type === 'directory')
    throw new StorageError('invalid', 'not a type of file that can be made');
  const what = { type, mode: mode & 0o7777, rdev };
  return call.fileSystem.make(call.node, name, what, call.caller);
}

export const mknod: Handler = async (call) => {
  const { request } = call;
  const { text } = request.text(16);
  return replyEntry(call, await makeFile(call, text, request.u32(0), request.u32(4)));
};

export const mkdir: Handler = async (call) => {
  const { request, fileSystem, node, caller } = call;
  const what = { type: 'directory', mode: request.u32(0) & 0o7777 } as const;
  const { text } = request.text(8);
  return replyEntry(call, await fileSystem.make(node, text, what, caller));
};

export const symlink: Handler = async (call) => {
  const { request, fileSystem, node, caller } = call;
  const { text: name, next } = request.text(0);
  const { text: target } = request.text(next);
  if (target.length > limits.symlinkBytesMax)
    throw new StorageError('name_too_long', 'a symlink has at most 4095 bytes');
  const what = { type: 'symlink', mode: 0o777, target } as const;
  return replyEntry(call, await fileSystem.make(node, name, what, caller));
};

export const link: Handler = async (call) => {
  const { request, fileSystem, node } = call;
  const linked = request.u64(0) as Ino;
  const { text } = request.text(8);
  return replyEntry(call, await fileSystem.link(linked, node, text));
};

export const unlink: Handler = async (call) => {
  await call.fileSystem.unlink(call.node, call.request.text(0).text);
  return 0;
};

export const rmdir: Handler = async (call) => {
  await call.fileSystem.removeDirectory(call.node, call.request.text(0).text);
  return 0;
};

export const rename: Handler = (call) => renameAt(call, 8, 0);

export const rename2: Handler = (call) => renameAt(call, 16, call.request.u32(8));

async function renameAt(call: Call, namesAt: number, flags: number): Promise<number> {
  const { request, fileSystem, node } = call;
  const parent = request.u64(0) as Ino;
  const { text: from, next } = request.text(namesAt);
  const { text: to } = request.text(next);
  await fileSystem.rename({ parent: node, name: from }, { parent, name: to }, renameKind(flags));
  return 0;
}

function renameKind(flags: number): 'replace' | 'no-replace' | 'exchange' {
  switch (flags) {
    case 0:
      return 'replace';
    case renameFlag.noReplace:
      return 'no-replace';
    case renameFlag.exchange:
      return 'exchange';
    default:
      throw new StorageError('invalid', 'unknown flags of rename');
  }
}

export const readlink: Handler = async (call) => {
  const target = Buffer.from(await call.fileSystem.readLink(call.node), 'latin1');
  call.room(target.length).set(target);
  return target.length;
};
