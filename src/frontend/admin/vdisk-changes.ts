/**
 * The life of a vDisk as an administrator changes it: made, resized, renamed, removed, by path. What
 * is changed here has not come through this host's mount, so its kernel is told.
 */

import { isStorageError, StorageError } from '../../core/errors.ts';
import { limits } from '../../core/limits.ts';
import type { FileName, Ino } from '../../core/units.ts';
import { fileName } from '../../core/units.ts';
import type { Attributes, Caller, FileSystem, NewInode } from '../../ports/file-system.ts';
import type { NamespaceChange } from '../../registry/namespace-changes.ts';
import type { WharfFileSystem } from '../filesystem.ts';
import { findPath } from './vdisks.ts';

/** What every guest counts in. */
const sectorBytes = 512;
/** Of what a shrinking loses: a disk may be in millions of pieces. */
const countedExtentsMax = 1000;
const diskMode = 0o600;

export interface VdiskChangesDeps {
  readonly fileSystem: FileSystem & Pick<WharfFileSystem, 'isInUse' | 'resize'>;
  /** Resolves when this host's kernel knows. */
  readonly tellKernel: (change: NamespaceChange) => Promise<void>;
  /** Whose the new disks are. */
  readonly caller: Caller;
}

/** A name in a folder. */
export interface NamePlace {
  readonly parent: Ino;
  readonly name: FileName;
}

export class VdiskChanges {
  readonly #deps: VdiskChangesDeps;

  constructor(deps: VdiskChangesDeps) {
    this.#deps = deps;
  }

  /** Thin: takes no space. `exists`, `not_found`, `not_directory`, `invalid`, `too_large`. */
  async create(path: string, sizeBytes: number): Promise<Attributes> {
    refuseSize(sizeBytes);
    const { fileSystem, caller } = this.#deps;
    const place = await this.placeOf(path);
    const what = { type: 'file', mode: diskMode, isVolume: true } as const;
    const made = await explainStanding(path, () =>
      fileSystem.make(place.parent, place.name, what, caller),
    );
    try {
      return await fileSystem.resize(made.ino, sizeBytes);
    } catch (error) {
      await fileSystem.unlink(place.parent, place.name);
      throw error;
    } finally {
      await this.#tellOf(place);
    }
  }

  /** Makes what has its object already. `exists`, `not_found`, `not_directory`. */
  async place(path: string, what: NewInode): Promise<Attributes> {
    const { fileSystem, caller } = this.#deps;
    const place = await this.placeOf(path);
    const made = await explainStanding(path, () =>
      fileSystem.make(place.parent, place.name, what, caller),
    );
    await this.#tellOf(place);
    return made;
  }

  /** `exists`, `not_directory`, `invalid`. */
  async refuseStanding(path: string): Promise<void> {
    const { parent, name } = await this.placeOf(path);
    const standing = await this.#deps.fileSystem.lookup(parent, name).catch((error: unknown) => {
      if (!isStorageError(error, 'not_found')) throw error;
    });
    if (standing) throw new StorageError('exists', `${path} exists already`);
  }

  /** Whether somebody has it open, on whichever host. */
  isInUse({ ino }: Attributes): Promise<boolean> {
    return this.#deps.fileSystem.isInUse(ino);
  }

  /** Its content and size are others, and nobody has written them through a file system. */
  async noteReplaced({ ino }: Attributes): Promise<void> {
    const { fileSystem, tellKernel } = this.#deps;
    await fileSystem.open(ino);
    try {
      await fileSystem.change(ino, { modifiedNs: 'now' });
    } finally {
      await fileSystem.release(ino);
    }
    await tellKernel({ kind: 'inode', ino, what: 'data' });
  }

  /** Online. To shrink has to be forced: `busy`. Says how much data was cut off. */
  async resize(
    path: string,
    sizeBytes: number,
    { force }: { readonly force: boolean },
  ): Promise<{ readonly lostBytes: number }> {
    refuseSize(sizeBytes);
    const { fileSystem, tellKernel } = this.#deps;
    const { ino, sizeBytes: before } = await fileSystem.open((await this.find(path)).ino);
    try {
      const lost = sizeBytes < before ? await this.#dataBehind(ino, sizeBytes) : undefined;
      if (lost && !force)
        throw new StorageError(
          'busy',
          `${path} has ${before} bytes: to shrink it to ${sizeBytes} loses what lies behind, ` +
            `${describeLoss(lost)}; --force does it`,
        );
      await fileSystem.resize(ino, sizeBytes);
      await tellKernel({ kind: 'inode', ino, what: 'data' });
      return { lostBytes: lost?.bytes ?? 0 };
    } finally {
      await fileSystem.release(ino);
    }
  }

  /** `replace`: what stands at the new name goes, unless it is no file or is in use. */
  async rename(path: string, newPath: string, how: 'replace' | 'no-replace'): Promise<void> {
    const { fileSystem } = this.#deps;
    await this.find(path);
    const [from, to] = [await this.placeOf(path), await this.placeOf(newPath)];
    if (how === 'replace') await this.#refuseReplacing(newPath);
    await explainStanding(newPath, () => fileSystem.rename(from, to, how));
    await this.#tellOf(from);
    await this.#tellOf(to);
  }

  /** Says whether it is in use: then its data goes when the last user closes it. */
  async remove(path: string): Promise<{ readonly wasInUse: boolean }> {
    const { fileSystem } = this.#deps;
    const { ino } = await this.find(path);
    const wasInUse = await fileSystem.isInUse(ino);
    const place = await this.placeOf(path);
    await fileSystem.unlink(place.parent, place.name);
    await this.#tellOf(place);
    return { wasInUse };
  }

  /** `not_found`, `invalid`. */
  async find(path: string): Promise<Attributes> {
    const attributes = await findPath(this.#deps.fileSystem, path);
    if (!attributes.isVolume) throw new StorageError('invalid', `${path} is not a vDisk`);
    return attributes;
  }

  /** `busy`, `is_directory`, `invalid`. */
  async #refuseReplacing(path: string): Promise<void> {
    const { fileSystem } = this.#deps;
    const standing = await findPath(fileSystem, path).catch((error: unknown) => {
      if (!isStorageError(error, 'not_found')) throw error;
    });
    if (!standing) return;
    if (standing.type !== 'file')
      throw new StorageError('invalid', `${path} is no file: it is not replaced`);
    if (await fileSystem.isInUse(standing.ino))
      throw new StorageError('busy', `${path} is open: it is not replaced`);
  }

  /** `invalid`, `not_found`, `not_directory`. The name itself may be free. */
  async placeOf(path: string): Promise<NamePlace> {
    const parts = path.split('/').slice(1);
    const name = parts.pop() ?? '';
    if (
      !path.startsWith('/') ||
      name === '' ||
      [...parts, name].some((part) => /^\.\.?$/.test(part))
    )
      throw new StorageError(
        'invalid',
        `${path} is no name in the vPool: give it as /vm1/disk.raw`,
      );
    const bytes = fileName(Buffer.from(name, 'utf8').toString('latin1'));
    const folder = `/${parts.join('/')}`;
    const { ino, type } = await findPath(this.#deps.fileSystem, folder);
    if (type !== 'directory') throw new StorageError('not_directory', `${folder} is not a folder`);
    return { parent: ino, name: bytes };
  }

  /** The kernel of this host knows of them when this resolves. */
  async tell(changes: readonly NamespaceChange[]): Promise<void> {
    for (const change of changes) await this.#deps.tellKernel(change);
  }

  async #tellOf({ parent, name }: NamePlace): Promise<void> {
    const { tellKernel } = this.#deps;
    await tellKernel({ kind: 'entry', parent, name });
    await tellKernel({ kind: 'inode', ino: parent, what: 'attributes' });
  }

  async #dataBehind(ino: Ino, offset: number): Promise<Loss> {
    const { fileSystem } = this.#deps;
    let bytes = 0;
    try {
      for (let at = offset, extents = 0; extents < countedExtentsMax; extents += 1) {
        const data = await fileSystem.seek(ino, at, 'data');
        at = await fileSystem.seek(ino, data, 'hole');
        bytes += at - data;
      }
    } catch (error) {
      if (!isStorageError(error, 'no_data')) throw error;
      return { bytes, isAll: true };
    }
    return { bytes, isAll: false };
  }
}

interface Loss {
  readonly bytes: number;
  readonly isAll: boolean;
}

function describeLoss({ bytes, isAll }: Loss): string {
  return `${isAll ? '' : 'at least '}${bytes} bytes of data`;
}

function refuseSize(bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes < sectorBytes || bytes % sectorBytes !== 0)
    throw new StorageError(
      'invalid',
      `a disk of ${bytes} bytes makes no sense: it is whole sectors of ${sectorBytes} bytes, 1 or more`,
    );
  if (bytes > limits.volumeBytesMax)
    throw new StorageError('too_large', 'a disk has at most 64 TiB');
}

async function explainStanding<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (!isStorageError(error, 'exists')) throw error;
    throw new StorageError('exists', `${path} exists already`);
  }
}
