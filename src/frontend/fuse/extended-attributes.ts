/** SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR. */

import { StorageError } from '../../core/errors.ts';
import { encodeCount } from '../../format/fuse/replies.ts';
import type { Call, Handler } from './call.ts';
import { errno } from './errno.ts';

/** Flags of setxattr(2). */
const setFlag = { create: 1, replace: 2 } as const;

export const setxattr: Handler = async (call) => {
  const { request, fileSystem, node } = call;
  const bytes = request.u32(0);
  const how = setKind(request.u32(4));
  const { text: name, next } = request.text(8);
  await fileSystem.setAttribute(node, name, call.payload(next, bytes).slice(), how);
  return 0;
};

function setKind(flags: number): 'set' | 'create' | 'replace' {
  switch (flags) {
    case 0:
      return 'set';
    case setFlag.create:
      return 'create';
    case setFlag.replace:
      return 'replace';
    default:
      throw new StorageError('invalid', 'unknown flags of setxattr');
  }
}

export const getxattr: Handler = async (call) => {
  const { request, fileSystem, node } = call;
  const bytesMax = request.u32(0);
  const { text: name } = request.text(8);
  return replySized(call, bytesMax, await fileSystem.getAttribute(node, name));
};

export const listxattr: Handler = async (call) => {
  const bytesMax = call.request.u32(0);
  const names = await call.fileSystem.listAttributes(call.node);
  return replySized(
    call,
    bytesMax,
    Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1'),
  );
};

/** With no room at all the caller asks how much is needed. */
function replySized(call: Call, bytesMax: number, value: Uint8Array): number {
  if (bytesMax === 0) return encodeCount(call.view, call.at, value.length);
  if (value.length > bytesMax) return -errno.ERANGE;
  call.room(value.length).set(value);
  return value.length;
}

export const removexattr: Handler = async (call) => {
  await call.fileSystem.removeAttribute(call.node, call.request.text(0).text);
  return 0;
};
