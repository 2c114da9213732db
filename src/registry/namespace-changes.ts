/** What a change of a registry key means for whoever has names and inodes in memory. Pure. */

import type { FileName, Ino } from '../core/units.ts';
import type { ForeignChange } from './cached-registry.ts';
import type { Inode } from './namespace.ts';
import { decodeEntry, decodeInode, inoOfKey } from './namespace.ts';

export type NamespaceChange =
  | { readonly kind: 'entry'; readonly parent: Ino; readonly name: FileName }
  /** `data`: a file's content may be another. */
  | { readonly kind: 'inode'; readonly ino: Ino; readonly what: 'attributes' | 'data' };

export function changesOf({ key, value, before }: ForeignChange): readonly NamespaceChange[] {
  const ino = inoOfKey(key.slice(1, 9));
  if (key[0] === 'i') {
    const now = value && decodeInode(ino, value);
    const isOtherData = now?.type === 'file' && isChanged(before && decodeInode(ino, before), now);
    return [{ kind: 'inode', ino, what: isOtherData ? 'data' : 'attributes' }];
  }
  // A name that collides with one that went may have taken its key.
  const names = [before, value].flatMap((bytes) => (bytes ? decodeEntry(key, bytes).name : []));
  return [...new Set(names)].map((name) => ({ kind: 'entry', parent: ino, name }));
}

function isChanged(before: Inode | undefined, now: Inode): boolean {
  return before?.sizeBytes !== now.sizeBytes || before.modifiedNs !== now.modifiedNs;
}
