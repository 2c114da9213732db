/** What a change of attributes makes of an inode. */

import type { AttributeChange } from '../ports/file-system.ts';
import type { Ino } from '../core/units.ts';
import type { Inode, Namespace } from '../registry/namespace.ts';
import { isAt, keys, putInode } from '../registry/namespace.ts';
import type { DirectoryTimes } from './directory-times.ts';

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
    changedNs: now,
  };
}

/** Writes the change of the inode as it is by then, with the time that its directory was touched. */
export async function writeChange(
  deps: {
    readonly namespace: Namespace;
    readonly directories: DirectoryTimes;
    readonly nowNs: () => bigint;
  },
  ino: Ino,
  change: AttributeChange,
  current: (inode: Inode) => Inode,
): Promise<Inode> {
  const { namespace, directories, nowNs } = deps;
  for (;;) {
    const found = await namespace.changeable(ino);
    directories.take(ino);
    let isCommitted = false;
    const changed = applyChange(current(found.record), change, nowNs());
    try {
      const compares = [isAt(keys.inode(ino), found.revision)];
      const outcome = await namespace.registry.transact({ compares, writes: [putInode(changed)] });
      isCommitted = outcome.committed;
    } finally {
      if (isCommitted) directories.kept(ino);
      else directories.giveBack(ino);
    }
    if (isCommitted) return changed;
  }
}
