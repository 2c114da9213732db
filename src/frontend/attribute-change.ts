/** What a change of attributes makes of an inode. */

import type { AttributeChange } from '../ports/file-system.ts';
import type { Ino } from '../core/units.ts';
import type { Inode, Namespace } from '../registry/namespace.ts';
import { isAt, keys, putInode } from '../registry/namespace.ts';
import type { DirectoryTimes } from './directory-times.ts';
import { changedAt } from './directory-times.ts';
import type { OpenFiles } from './open-files.ts';

const setIdBits = 0o6000;
const executableByGroup = 0o010;

function applyChange(inode: Inode, change: AttributeChange, now: bigint): Inode {
  const time = (given: bigint | 'now' | undefined, old: bigint) =>
    given === 'now' ? now : (given ?? old);
  let mode = change.mode === undefined ? inode.mode : change.mode & 0o7777;
  if (change.dropSetId === true && inode.type !== 'directory') {
    const keepsGroup = (mode & executableByGroup) === 0;
    mode &= ~setIdBits | (keepsGroup ? 0o2000 : 0);
  }
  return {
    ...inode,
    mode,
    uid: change.uid ?? inode.uid,
    gid: change.gid ?? inode.gid,
    accessedNs: time(change.accessedNs, inode.accessedNs),
    modifiedNs: time(change.modifiedNs, inode.modifiedNs),
    changedNs: changedAt(inode, now),
  };
}

/**
 * Writes the change of the inode as it is by then, with the time that its directory was touched, and
 * with what was written to the file here.
 */
export async function writeChange(
  deps: {
    readonly namespace: Namespace;
    readonly files: OpenFiles;
    readonly directories: DirectoryTimes;
    readonly nowNs: () => bigint;
  },
  ino: Ino,
  change: AttributeChange,
): Promise<Inode> {
  const { namespace, files, directories, nowNs } = deps;
  for (;;) {
    const found = await namespace.changeable(ino);
    const file = files.get(ino);
    const modifiedNs = file?.modifiedNs;
    // Its size is the owner's: another host may have written since.
    if (file && modifiedNs !== undefined) await files.refresh(file, found.record);
    directories.take(ino);
    let isCommitted = false;
    const current = directories.current(files.current(found.record));
    const changed = applyChange(current, change, nowNs());
    try {
      const compares = [isAt(keys.inode(ino), found.revision)];
      const outcome = await namespace.registry.transact({ compares, writes: [putInode(changed)] });
      isCommitted = outcome.committed;
    } finally {
      if (isCommitted) directories.kept(ino);
      else directories.giveBack(ino);
    }
    if (!isCommitted) continue;
    if (file && file.modifiedNs === modifiedNs) file.modifiedNs = undefined;
    return changed;
  }
}
