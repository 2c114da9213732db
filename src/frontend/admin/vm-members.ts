/** What belongs to a VM: all vDisks, files and folders below its own. */

import { StorageError } from '../../core/errors.ts';
import { limits } from '../../core/limits.ts';
import type { FileName, Ino, ObjectId } from '../../core/units.ts';
import type { Attributes, FileSystem } from '../../ports/file-system.ts';

const entriesPerTurn = 1000;

/** One name of a VM; folders before what they hold. */
export interface VmMember {
  /** The folder it is in, by its place in the list; none: the VM's own. */
  readonly folder?: number;
  readonly name: FileName;
  readonly attributes: Attributes;
  readonly target?: string;
  /** Of vDisks and files. */
  readonly object?: ObjectId;
}

/** `invalid` where there is no vDisk; `too_large`. Of several names of one file one is taken. */
export async function vmMembers(
  fileSystem: FileSystem,
  objectOf: (file: Attributes) => Promise<ObjectId>,
  path: string,
  folder: Ino,
): Promise<readonly VmMember[]> {
  const members: VmMember[] = [];
  const seen = new Set<Ino>();
  await walk(folder, undefined, 0);
  const vdisks = members.filter(({ attributes }) => attributes.isVolume).length;
  if (vdisks === 0) throw new StorageError('invalid', `${path} has no vDisk`);
  if (vdisks > limits.vmDisksMax)
    throw new StorageError('too_large', `${path} has more than ${limits.vmDisksMax} vDisks`);
  return members;

  async function walk(ino: Ino, at: number | undefined, depth: number): Promise<void> {
    if (depth > limits.vmDepthMax)
      throw new StorageError('too_large', `${path} is more than ${limits.vmDepthMax} folders deep`);
    for (let after = 0n; ; ) {
      const entries = await fileSystem.list(ino, after, entriesPerTurn);
      for (const { name, ino: inside } of entries) {
        if (name === '.' || name === '..' || seen.has(inside)) continue;
        seen.add(inside);
        if (members.length === limits.vmMembersMax)
          throw new StorageError(
            'too_large',
            `${path} has more than ${limits.vmMembersMax} files and folders`,
          );
        const attributes = await fileSystem.attributes(inside);
        const { type } = attributes;
        members.push({
          ...(at !== undefined && { folder: at }),
          ...{ name, attributes },
          ...(type === 'symlink' && { target: await fileSystem.readLink(inside) }),
          ...(type === 'file' && { object: await objectOf(attributes) }),
        });
        if (type === 'directory') await walk(inside, members.length - 1, depth + 1);
      }
      const last = entries.at(-1);
      if (last === undefined || entries.length < entriesPerTurn) return;
      after = last.cookie;
    }
  }
}
