/** What a change of attributes makes of an inode. Pure. */

import type { AttributeChange } from '../ports/file-system.ts';
import type { Inode } from '../registry/namespace.ts';

const setIdBits = 0o6000;
const executableByGroup = 0o010;

export function applyChange(inode: Inode, change: AttributeChange, now: bigint): Inode {
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
