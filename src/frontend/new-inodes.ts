/** Inodes as they are when they are made: their numbers, and what they take from caller and parent. */

import type { Ino } from '../core/units.ts';
import { ino as toIno, objectId } from '../core/units.ts';
import type { Caller, NewInode } from '../ports/file-system.ts';
import type { Random } from '../ports/random.ts';
import type { Inode, Namespace } from '../registry/namespace.ts';

const numbersPerBatch = 256;
const setGroupId = 0o2000;

export interface NewInodesDeps {
  readonly namespace: Namespace;
  readonly random: Random;
  /** Whether a file of this name is served by the Volume Driver from the start. */
  readonly isVolumeName: (name: string) => boolean;
}

export class NewInodes {
  readonly #deps: NewInodesDeps;
  #next = 0;
  #end = 0;
  #reserving: Promise<void> | undefined;

  constructor(deps: NewInodesDeps) {
    this.#deps = deps;
  }

  /** One that no inode ever had. */
  async takeNumber(): Promise<Ino> {
    while (this.#next >= this.#end) {
      this.#reserving ??= this.#deps.namespace.reserveInos(numbersPerBatch).then((first) => {
        this.#next = first;
        this.#end = first + numbersPerBatch;
        this.#reserving = undefined;
      });
      await this.#reserving;
    }
    this.#next += 1;
    return toIno(this.#next - 1);
  }

  make(
    ino: Ino,
    what: NewInode,
    caller: Caller,
    now: bigint,
    parent?: Inode,
    name?: string,
  ): Inode {
    const { random, isVolumeName } = this.#deps;
    const inherits = parent !== undefined && (parent.mode & setGroupId) !== 0;
    const isDirectory = what.type === 'directory';
    const mode = (what.mode & 0o7777) | (inherits && isDirectory ? setGroupId : 0);
    const isVolume = what.isVolume === true || (name !== undefined && isVolumeName(name));
    const id = () => objectId(Buffer.from(random.bytes(16)).toString('hex'));
    return {
      ...{ ino, type: what.type, mode, linkCount: isDirectory ? 2 : 1, uid: caller.uid },
      gid: inherits ? parent.gid : caller.gid,
      rdev: what.rdev ?? 0,
      sizeBytes: what.begun?.sizeBytes ?? what.target?.length ?? 0,
      allocatedBytes: what.begun?.allocatedBytes ?? 0,
      ...{ accessedNs: now, modifiedNs: now, changedNs: now },
      ...(what.type === 'file' && {
        object: what.begun?.object ?? id(),
        kind: isVolume ? 'volume' : 'file',
      }),
      ...(what.target !== undefined && { target: what.target }),
    };
  }
}
