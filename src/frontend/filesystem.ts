/**
 * The file system of a vPool: inodes, names and data by inode number, one semantics for every
 * protocol in front of it (port FileSystem). Names live in the registry, data in objects; this
 * brings them together and decides what a POSIX user expects.
 */

import { describeError, StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import { chain } from '../core/eventually.ts';
import { limits } from '../core/limits.ts';
import type { Ino, ObjectId } from '../core/units.ts';
import { fileName } from '../core/units.ts';
import { within } from '../core/within.ts';
import type {
  AttributeChange,
  Attributes,
  Caller,
  DirectoryEntry,
  FileSystem,
  NewInode,
  SpaceReport,
} from '../ports/file-system.ts';
import { rootIno } from '../ports/file-system.ts';
import type { Random } from '../ports/random.ts';
import type { Inode } from '../registry/namespace.ts';
import { writeChange } from './attribute-change.ts';
import type { DeletionDeps, DeletionSettings } from './deletion.ts';
import { Deletion } from './deletion.ts';
import { ExtendedAttributes } from './extended-attributes.ts';
import { Names } from './names.ts';
import type { OpenFile } from './open-files.ts';
import { OpenFiles } from './open-files.ts';
import { volumeNameMatcher } from './volume-names.ts';
import { DirectoryTimes } from './directory-times.ts';
import type { KeptFiles, View } from './kept-files.ts';
import { readersOf } from './kept-files.ts';
import { listDirectory } from './listing.ts';

/** How long the last flush of a file may take when the file system is closed. */
const flushMsMax = 10_000;
/** Of a name whose inode is gone whenever it is looked at. */
const lookupsMax = 100;

export interface FileSystemSettings extends DeletionSettings {
  /** Globs of names whose files are volumes from the start. */
  readonly volumeNames: readonly string[];
  /** How long times and sizes may be newer here than in the registry, ms. */
  readonly attributeDelayMs: number;
}

export interface FileSystemDeps extends Omit<DeletionDeps, 'isOpen'> {
  readonly kept: KeptFiles;
  readonly random: Random;
  readonly space: () => Promise<SpaceReport>;
}

export class WharfFileSystem implements FileSystem {
  readonly #deps: FileSystemDeps;
  readonly #settings: FileSystemSettings;
  readonly #files: OpenFiles;
  readonly #names: Names;
  readonly #deletion: Deletion;
  readonly #directories: DirectoryTimes;
  readonly #extended: ExtendedAttributes;
  readonly #kept: KeptFiles;
  readonly #stop = new AbortController();
  #writingBehind: Promise<void> | undefined;

  private constructor(deps: FileSystemDeps, settings: FileSystemSettings) {
    const { namespace, objects, clock, random } = deps;
    this.#deps = deps;
    this.#settings = settings;
    this.#files = new OpenFiles(namespace, objects);
    this.#kept = deps.kept;
    this.#directories = new DirectoryTimes(namespace);
    this.#extended = new ExtendedAttributes(namespace);
    const isOpen = (ino: Ino) => this.#files.get(ino) !== undefined;
    this.#deletion = new Deletion({ ...deps, isOpen }, settings);
    this.#names = new Names({
      ...{ namespace, clock, random, deletion: this.#deletion },
      touch: (ino) => this.#directories.touch(ino, clock.wallNs()),
      isVolumeName: volumeNameMatcher(settings.volumeNames),
    });
  }

  /** Makes the root where there is none, and goes on with what a crash left undone. */
  static async open(deps: FileSystemDeps, settings: FileSystemSettings, owner: Caller) {
    const fileSystem = new WharfFileSystem(deps, settings);
    await fileSystem.#names.makeRoot(owner);
    await fileSystem.#deletion.resume();
    fileSystem.#writingBehind = fileSystem.#writeBehind();
    return fileSystem;
  }

  /** All that is in use is durable and its attributes are in the registry. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#writingBehind;
    const { clock, log } = this.#deps;
    const settled = [...this.#files.all()].map(async (file) => {
      const flushed = await within(clock, flushMsMax, file.handle.flush()).catch(describeError);
      // What is not flushed may never be: its attributes stay what they were.
      if (flushed === 'done') await this.#files.settle(file);
      else
        log.error(
          { inode: file.ino, why: flushed },
          'changes of a file in use could not be flushed',
        );
    });
    await Promise.all(settled);
    await this.#directories.settle();
    await this.#kept.close();
    await this.#deletion.close();
  }

  /** The object that holds a file's data. */
  objectOf(ino: Ino): Eventually<ObjectId | undefined> {
    const file = this.#files.get(ino);
    if (file) return file.handle.id;
    return this.#deps.namespace.inode(ino).then(({ record }) => record.object);
  }

  /** Resolves when all that was written to the file is on the backend. */
  sync(ino: Ino): Promise<void> {
    return this.#use(ino, ({ handle }) => handle.sync());
  }

  /** A clone reads nothing of what it was made of any more. */
  detach(clone: ObjectId): Promise<void> {
    return this.#deletion.detach(clone);
  }

  /** The kept file is gone; what it alone read, noted as garbage, goes now. */
  discard(ino: Ino, object: ObjectId): void {
    this.#kept.forget(ino);
    this.#deletion.discard(object);
  }

  /** Whether somebody has the file open, here or on another host. */
  async isInUse(ino: Ino): Promise<boolean> {
    return this.#deletion.isInUse((await this.#deps.namespace.inode(ino)).record);
  }

  /** Whether somebody has the kept file open that shows this, here or on another host. */
  async isRead(object: ObjectId, snapshot?: string): Promise<boolean> {
    const readers = readersOf(object, snapshot);
    return this.#kept.isRead(readers) || this.#deps.objects.isUsedElsewhere(readers);
  }

  async lookup(parent: Ino, name: string): Promise<Attributes> {
    const { namespace } = this.#deps;
    const directory = await namespace.directory(parent);
    if (name === '.') return this.attributes(parent);
    if (name === '..') return this.attributes(directory.record.parent ?? rootIno);
    const known = fileName(name);
    let entry = await namespace.findEntry(parent, known);
    for (let attempt = 0; entry && attempt < lookupsMax; attempt += 1) {
      const inode = await namespace.findInode(entry.record.ino);
      if (inode && inode.record.linkCount > 0) return this.#attributesOf(inode.record);
      // The name is another inode's by now.
      entry = await namespace.fresh.findEntry(parent, known);
    }
    throw new StorageError('not_found', 'no such name');
  }

  async attributes(ino: Ino): Promise<Attributes> {
    const { record } = await this.#deps.namespace.inode(ino);
    return this.#attributesOf(record);
  }

  async change(ino: Ino, change: AttributeChange): Promise<Attributes> {
    const { sizeBytes } = change;
    if (sizeBytes !== undefined) {
      if (sizeBytes > limits.volumeBytesMax)
        throw new StorageError('too_large', 'a file has at most 64 TiB');
      await this.#use(ino, async (file) => {
        await file.handle.refresh();
        if (file.handle.size() === sizeBytes) return;
        await file.handle.resize(sizeBytes);
        this.#noteChange(file);
      });
    }
    const { namespace, clock } = this.#deps;
    const deps = { namespace, files: this.#files, directories: this.#directories };
    const nowNs = () => clock.wallNs();
    return this.#attributesOf(await writeChange({ ...deps, nowNs }, ino, change));
  }

  /**
   * An administrator gives it this size, which is durable then. `failed` where it is another one all the
   * same, as when its owner was lost meanwhile.
   */
  async resize(ino: Ino, sizeBytes: number): Promise<Attributes> {
    return this.#use(ino, async (file) => {
      const changed = await this.change(ino, { sizeBytes });
      await file.handle.harden();
      await this.#files.settle(file);
      await file.handle.refresh();
      if (file.handle.size() === sizeBytes) return changed;
      throw new StorageError('failed', 'it has not got that size: try again');
    });
  }

  async make(parent: Ino, name: string, what: NewInode, caller: Caller): Promise<Attributes> {
    return this.#attributesOf(await this.#names.make(parent, name, what, caller));
  }

  async link(ino: Ino, parent: Ino, name: string): Promise<Attributes> {
    return this.#attributesOf(await this.#names.link(ino, parent, name));
  }

  unlink(parent: Ino, name: string): Promise<void> {
    return this.#names.unlink(parent, name);
  }

  removeDirectory(parent: Ino, name: string): Promise<void> {
    return this.#names.removeDirectory(parent, name);
  }

  rename(
    from: { readonly parent: Ino; readonly name: string },
    to: { readonly parent: Ino; readonly name: string },
    how: 'replace' | 'no-replace' | 'exchange',
  ): Promise<void> {
    return this.#names.rename(from, to, how);
  }

  async readLink(ino: Ino): Promise<string> {
    const { target } = (await this.#deps.namespace.inode(ino)).record;
    if (target === undefined) throw new StorageError('invalid', 'not a symlink');
    return target;
  }

  list(ino: Ino, after: bigint, limit: number): Promise<readonly DirectoryEntry[]> {
    return listDirectory(this.#deps.namespace, ino, after, limit);
  }

  async open(ino: Ino, intent: 'read' | 'write' = 'read'): Promise<Attributes> {
    // Who opens a file sees what others had done when they closed it.
    const { record } = await this.#deps.namespace.fresh.inode(ino);
    if (record.linkCount === 0 && !this.#files.get(ino))
      throw new StorageError('not_found', 'the file has been removed');
    if (record.kept) {
      if (intent === 'write') await this.#deps.namespace.changeable(ino);
      this.#kept.acquire(record);
    } else if (record.type === 'file') {
      const file = await this.#files.acquire(ino);
      try {
        await this.#files.refresh(file, record);
      } catch (error) {
        await this.release(ino);
        throw error;
      }
    }
    return this.#attributesOf(record);
  }

  async release(ino: Ino): Promise<void> {
    if (this.#kept.release(ino)) return;
    const file = this.#files.get(ino);
    if (file && (await this.#files.release(file))) await this.#deletion.reapOrphan(ino);
  }

  read(ino: Ino, offset: number, into: Uint8Array): Eventually<number> {
    const file = this.#files.get(ino);
    if (file) return file.handle.read(offset, into);
    return this.#view(ino, (view) => view.read(offset, into));
  }

  write(
    ino: Ino,
    offset: number,
    data: Uint8Array,
    options: { readonly append?: boolean; readonly dropSetId?: boolean } = {},
  ): Eventually<void> {
    const file = this.#files.get(ino);
    if (!file)
      return this.#use(ino, async (opened) => this.#writeTo(opened, offset, data, options));
    return this.#writeTo(file, offset, data, options);
  }

  settle(ino: Ino): Eventually<void> {
    const file = this.#files.get(ino);
    if (file?.modifiedNs !== undefined) return this.#files.settle(file);
  }

  async flush(ino: Ino): Promise<void> {
    const file = this.#files.get(ino);
    if (file) return this.#flush(file);
    // Nobody uses it any more, and what was written may be in a journal alone.
    const isFile = !this.#kept.get(ino) && (await this.objectOf(ino)) !== undefined;
    return isFile ? this.#use(ino, (used) => this.#flush(used)) : this.#directories.settle();
  }

  async #flush(file: OpenFile): Promise<void> {
    const { handle } = file;
    await handle.flush();
    // The flushes of a VM cost the registry nothing, nor wait for it: times come a moment later.
    const isSettled = handle.kind() === 'volume' && handle.size() === file.settledBytes;
    if (!isSettled) await this.#files.settle(file);
  }

  async allocate(
    ino: Ino,
    offset: number,
    length: number,
    { mode, keepSize }: { readonly mode: 'reserve' | 'zero' | 'punch'; readonly keepSize: boolean },
  ): Promise<void> {
    const end = offset + length;
    if (end > limits.volumeBytesMax)
      throw new StorageError('too_large', 'a file has at most 64 TiB');
    await this.#use(ino, async (file) => {
      const { handle } = file;
      await handle.refresh();
      if (mode !== 'reserve') await handle.trim(offset, length);
      if (mode !== 'punch' && !keepSize && handle.size() < end) await handle.resize(end);
      this.#noteChange(file);
    });
  }

  async seek(ino: Ino, offset: number, what: 'data' | 'hole'): Promise<number> {
    const found = await this.#view(ino, (view) => view.seek(offset, what));
    if (found === undefined) throw new StorageError('no_data', 'nothing behind the offset');
    return found;
  }

  getAttribute(ino: Ino, name: string): Promise<Uint8Array> {
    return this.#extended.get(ino, name);
  }

  setAttribute(
    ino: Ino,
    name: string,
    value: Uint8Array,
    how: 'set' | 'create' | 'replace',
  ): Promise<void> {
    return this.#extended.set(ino, name, value, how);
  }

  listAttributes(ino: Ino): Promise<readonly string[]> {
    return this.#extended.list(ino);
  }

  removeAttribute(ino: Ino, name: string): Promise<void> {
    return this.#extended.remove(ino, name);
  }

  space(): Promise<SpaceReport> {
    return this.#deps.space();
  }

  #writeTo(
    file: OpenFile,
    offset: number,
    data: Uint8Array,
    options: { readonly append?: boolean; readonly dropSetId?: boolean },
  ): Eventually<void> {
    if (options.dropSetId === true)
      return this.change(file.ino, { dropSetId: true }).then(() =>
        this.#writeTo(file, offset, data, { append: options.append === true }),
      );
    const { handle } = file;
    const written = options.append === true ? handle.append(data) : handle.write(offset, data);
    return chain<unknown, void>(written, () => this.#noteChange(file));
  }

  #noteChange(file: OpenFile): void {
    this.#files.noteChange(file, this.#deps.clock.wallNs());
  }

  /** For whoever only reads. */
  async #view<T>(ino: Ino, action: (view: View) => Eventually<T>): Promise<T> {
    const file = this.#kept.get(ino) ?? (await this.#deps.namespace.inode(ino)).record;
    if (file.kept) return this.#kept.use({ ino, kept: file.kept }, action);
    return this.#use(ino, async ({ handle }) => action(handle));
  }

  async #use<T>(ino: Ino, action: (file: OpenFile) => Promise<T>): Promise<T> {
    const file = await this.#files.acquire(ino);
    try {
      return await action(file);
    } finally {
      await this.release(ino);
    }
  }

  #current(inode: Inode): Inode {
    return this.#directories.current(this.#files.current(inode));
  }

  #attributesOf(inode: Inode): Attributes {
    const {
      object,
      kind,
      target: _target,
      parent: _parent,
      kept: _kept,
      ...attributes
    } = this.#current(inode);
    const handle = object && this.#deps.objects.opened(object);
    return { ...attributes, isVolume: (handle?.kind() ?? kind) === 'volume' };
  }

  async #writeBehind(): Promise<void> {
    const { clock, log } = this.#deps;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await clock.sleep(this.#settings.attributeDelayMs, { signal }).catch(() => {});
      if (signal.aborted) return;
      try {
        for (const file of [...this.#files.all()])
          if (file.modifiedNs !== undefined) await this.#files.settle(file);
        await this.#directories.settle();
      } catch (error) {
        log.warn({ error: String(error) }, 'attributes could not be written behind');
      }
    }
  }
}
