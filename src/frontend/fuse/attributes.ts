/** LOOKUP, GETATTR, SETATTR, STATFS. */

import { isStorageError } from '../../core/errors.ts';
import { chain } from '../../core/eventually.ts';
import { encodeAttributesReply, encodeEntry, encodeNoEntry } from '../../format/fuse/attributes.ts';
import { setattrValid } from '../../format/fuse/protocol.ts';
import { encodeStatfs } from '../../format/fuse/replies.ts';
import type { RequestReader } from '../../format/fuse/requests.ts';
import type { AttributeChange, Attributes } from '../../ports/file-system.ts';
import type { Call, Handler } from './call.ts';

const nsPerSecond = 1_000_000_000n;

export function replyEntry(call: Call, attributes: Attributes): number {
  return encodeEntry(call.view, call.at, attributes, call.tell(attributes));
}

function replyAttributes(call: Call, attributes: Attributes): number {
  return encodeAttributesReply(call.view, call.at, attributes, call.tell(attributes));
}

export const lookup: Handler = (call) => {
  const { fileSystem, node } = call;
  const { text } = call.request.text(0);
  // The kernel asks so for what a file handle of NFS names: any inode, not only a directory.
  if (text === '.') return chain(fileSystem.attributes(node), (found) => replyEntry(call, found));
  return lookUp(call, text);
};

/** That there is no such name is believed as well. */
async function lookUp(call: Call, name: string): Promise<number> {
  try {
    return replyEntry(call, await call.fileSystem.lookup(call.node, name));
  } catch (error) {
    if (!isStorageError(error, 'not_found') || call.timeoutMs === 0) throw error;
    return encodeNoEntry(call.view, call.at, call.timeoutMs);
  }
}

export const getattr: Handler = (call) =>
  chain(call.fileSystem.attributes(call.node), (attributes) => replyAttributes(call, attributes));

export const setattr: Handler = async (call) => {
  const change = decodeChange(call.request);
  return replyAttributes(call, await call.fileSystem.change(call.node, change));
};

/** struct fuse_setattr_in */
function decodeChange(request: RequestReader): AttributeChange {
  const valid = request.u32(0);
  const has = (bit: number) => (valid & bit) !== 0;
  const time = (secondsAt: number, nanosecondsAt: number) =>
    request.i64(secondsAt) * nsPerSecond + BigInt(request.u32(nanosecondsAt));
  return {
    ...(has(setattrValid.mode) && { mode: request.u32(68) & 0o7777 }),
    ...(has(setattrValid.uid) && { uid: request.u32(76) }),
    ...(has(setattrValid.gid) && { gid: request.u32(80) }),
    ...(has(setattrValid.size) && { sizeBytes: request.u64(16) }),
    ...(has(setattrValid.accessed) && { accessedNs: time(32, 56) }),
    ...(has(setattrValid.modified) && { modifiedNs: time(40, 60) }),
    ...(has(setattrValid.accessedNow) && { accessedNs: 'now' as const }),
    ...(has(setattrValid.modifiedNow) && { modifiedNs: 'now' as const }),
    ...(has(setattrValid.killSetId) && { dropSetId: true }),
  };
}

export const statfs: Handler = async (call) =>
  encodeStatfs(call.view, call.at, await call.fileSystem.space());
