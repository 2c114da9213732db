/**
 * Files in use: their objects, and the attributes that are newer than the registry's. Times and
 * sizes are written behind, so that an I/O costs the registry nothing; `settle` writes them.
 */

import type { Ino } from '../core/units.ts';
import type { ObjectHandle, Objects } from '../ports/objects.ts';
import type { Inode, Namespace } from '../registry/namespace.ts';
import { isAt, keys, putInode } from '../registry/namespace.ts';
import { withTime } from './directory-times.ts';
import { isStorageError, StorageError } from '../core/errors.ts';

/** Clocks may not tell apart what happens within it. */
const tickNs = 1_000_000n;

export interface OpenFile {
  readonly ino: Ino;
  readonly handle: ObjectHandle;
  uses: number;
  /** Of the last change of data that the registry has not got yet. */
  modifiedNs: bigint | undefined;
  /** Of the last change of data that this host has made. */
  latestNs: bigint;
  /** The size that this host has last brought to the registry, or found there. */
  settledBytes: number;
  /** As the registry had it when the owner was last asked for the size. */
  asOf: Inode | undefined;
}

export class OpenFiles {
  readonly #namespace: Namespace;
  readonly #objects: Objects;
  readonly #files = new Map<Ino, OpenFile>();
  readonly #opening = new Map<Ino, Promise<OpenFile>>();

  constructor(namespace: Namespace, objects: Objects) {
    this.#namespace = namespace;
    this.#objects = objects;
  }

  get(ino: Ino): OpenFile | undefined {
    return this.#files.get(ino);
  }

  all(): Iterable<OpenFile> {
    return this.#files.values();
  }

  /** One more use of the file, paired with a `release`. Its object is made where it was never used. */
  async acquire(ino: Ino): Promise<OpenFile> {
    let file = this.#files.get(ino);
    if (!file) {
      let opening = this.#opening.get(ino);
      if (!opening) {
        opening = this.#open(ino).finally(() => this.#opening.delete(ino));
        this.#opening.set(ino, opening);
      }
      file = await opening;
    }
    file.uses += 1;
    return file;
  }

  /** True when nobody uses the file any more; its attributes are in the registry then. */
  async release(file: OpenFile): Promise<boolean> {
    if (file.uses === 1) await this.settle(file);
    file.uses -= 1;
    if (file.uses > 0) return false;
    this.#files.delete(file.ino);
    const { object } = (await this.#namespace.findInode(file.ino))?.record ?? {};
    this.#objects.release(object ?? file.handle.id);
    return true;
  }

  /** Size and space are the owner's of now; `inode` was read before. */
  async refresh(file: OpenFile, inode: Inode): Promise<void> {
    await file.handle.refresh();
    file.asOf = inode;
  }

  /** Its data has been changed. No two changes have one time, or one would be taken for the other. */
  noteChange(file: OpenFile, nowNs: bigint): void {
    const { latestNs } = file;
    const isSameTick = latestNs >= nowNs && latestNs - nowNs < tickNs;
    file.latestNs = isSameTick ? latestNs + 1n : nowNs;
    file.modifiedNs = file.latestNs;
  }

  /** Brings the registry's record of the file up to date. */
  async settle(file: OpenFile): Promise<void> {
    for (;;) {
      const found = await this.#namespace.findInode(file.ino);
      if (!found) return;
      // Another host has changed it in the same tick: data with the same time is taken for the same.
      if (file.modifiedNs === found.record.modifiedNs) this.noteChange(file, file.modifiedNs);
      const { modifiedNs, handle } = file;
      // What this host has neither written nor serves, others bring up to date.
      if (modifiedNs === undefined && !handle.isHere()) return;
      await this.refresh(file, found.record);
      const now = this.current(found.record);
      const { record } = found;
      const isSame =
        modifiedNs === undefined &&
        now.sizeBytes === record.sizeBytes &&
        now.allocatedBytes === record.allocatedBytes;
      if (isSame) {
        file.settledBytes = now.sizeBytes;
        return;
      }
      const outcome = await this.#namespace.registry.transact({
        compares: [isAt(keys.inode(file.ino), found.revision)],
        writes: [putInode(now)],
      });
      if (!outcome.committed) continue;
      file.settledBytes = now.sizeBytes;
      if (file.modifiedNs === modifiedNs) file.modifiedNs = undefined;
      return;
    }
  }

  /** The inode as it is now, where its file is in use. */
  current(inode: Inode): Inode {
    const file = this.#files.get(inode.ino);
    if (!file) return inode;
    const { handle, modifiedNs, asOf } = file;
    const isNewer = inode.modifiedNs !== asOf?.modifiedNs || inode.sizeBytes !== asOf.sizeBytes;
    // Another host has changed it since the owner was asked.
    if (!handle.isHere() && modifiedNs === undefined && isNewer) return inode;
    const sizeBytes = handle.size();
    const allocatedBytes = handle.allocatedBytes();
    return { ...withTime(inode, modifiedNs), sizeBytes, allocatedBytes };
  }

  async #open(ino: Ino): Promise<OpenFile> {
    const { record } = await this.#namespace.fresh.changeable(ino);
    const { object, kind } = record;
    if (object === undefined || kind === undefined)
      throw new StorageError(
        record.type === 'directory' ? 'is_directory' : 'invalid',
        'only files hold data',
      );
    let handle: ObjectHandle;
    try {
      handle = await this.#objects.open(object);
    } catch (error) {
      if (!isStorageError(error, 'not_found')) throw error;
      await this.#objects.create(object, kind);
      if (!(await this.#namespace.fresh.findInode(ino))) {
        // It was not missing, but deleted.
        await this.#objects.delete(object);
        throw error;
      }
      handle = await this.#objects.open(object);
    }
    const file = {
      ...{ ino, handle, uses: 0, modifiedNs: undefined, settledBytes: record.sizeBytes },
      ...{ latestNs: 0n, asOf: undefined },
    };
    this.#files.set(ino, file);
    return file;
  }
}
