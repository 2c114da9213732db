/** OPENDIR, READDIR, READDIRPLUS, RELEASEDIR. Handles carry nothing: a listing goes on by cookie. */

import { isStorageError } from '../../core/errors.ts';
import { limits } from '../../core/limits.ts';
import { DirectoryWriter, entriesMax } from '../../format/fuse/directory-entries.ts';
import { encodeOpen } from '../../format/fuse/replies.ts';
import type { Attributes, DirectoryEntry, FileSystem } from '../../ports/file-system.ts';
import type { Call, Handler } from './call.ts';
import { replyBytesMax } from './call.ts';
import { errno } from './errno.ts';

export const opendir: Handler = (call) => encodeOpen(call.view, call.at, { handle: 0n, flags: 0 });

export const releasedir: Handler = () => 0;

export const readdir: Handler = (call) => list(call, 'plain');

export const readdirplus: Handler = (call) => list(call, 'plus');

async function list(call: Call, kind: 'plain' | 'plus'): Promise<number> {
  const { request, fileSystem, node } = call;
  const tell = (attributes: Attributes) => call.tell(attributes);
  let after = request.bigU64(8);
  const bytesMax = Math.min(request.u32(16), replyBytesMax);
  const writer = new DirectoryWriter(call.view, call.at, bytesMax);
  for (;;) {
    const wanted = entriesMax(bytesMax - writer.bytes, kind);
    const limit = Math.max(1, Math.min(wanted, limits.listEntriesMax));
    const entries = await fileSystem.list(node, after, limit);
    const attributes = kind === 'plus' ? await attributesOf(fileSystem, entries) : [];
    for (const [index, entry] of entries.entries()) {
      const added =
        kind === 'plain' ? writer.add(entry) : writer.addPlus(entry, attributes[index], tell);
      // An empty listing would mean its end.
      if (!added) return writer.bytes === 0 ? -errno.EINVAL : writer.bytes;
      after = entry.cookie;
    }
    if (entries.length < limit) return writer.bytes;
  }
}

function attributesOf(
  fileSystem: FileSystem,
  entries: readonly DirectoryEntry[],
): Promise<(Attributes | undefined)[]> {
  return Promise.all(entries.map((entry) => attributesIfAny(fileSystem, entry)));
}

/** None of `.` and `..`, which the kernel looks up itself, nor of what went after it was listed. */
async function attributesIfAny(
  fileSystem: FileSystem,
  { name, ino }: DirectoryEntry,
): Promise<Attributes | undefined> {
  if (name === '.' || name === '..') return undefined;
  try {
    return await fileSystem.attributes(ino);
  } catch (error) {
    if (isStorageError(error, 'not_found')) return undefined;
    throw error;
  }
}
