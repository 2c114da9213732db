/**
 * A disk in memory that can lose power. What a datasync covered is durable, a name is once its
 * folder was synced. `crash` gives the disk as it might be found afterwards: each unsynced change
 * of a file survived, was lost, or was torn at a sector; each unsynced name came or did not. A
 * rename is one step: it happened, or it did not. Folders are durable at once.
 */

import { dirname } from 'node:path';
import { StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import type { Disk, DiskFile, DiskLock } from '../ports/disk.ts';
import type { Random } from '../ports/random.ts';
import { MemoryContent } from './memory-content.ts';

/** Failures that a test orders; all off at first. */
export interface MemoryDiskFaults {
  /** New bytes that may still be allocated before ENOSPC. */
  freeBytes: number;
  /** How many of the next datasyncs fail. */
  failingSyncs: number;
  /** Reads are never there at once. */
  slowReads: boolean;
  /** What a datasync, or a slow read, waits for. */
  pause: (operation: 'sync' | 'read') => Promise<void>;
  /** Asked before each call: whether the device fails it (EIO). */
  fails: (operation: 'open' | 'read' | 'write', path: string) => boolean;
}

/** Names that changed in one step; undefined: gone. */
type Names = ReadonlyMap<string, MemoryContent | undefined>;
/** With a folder goes all that is in it at that moment, durable or not. */
interface FolderRename {
  readonly from: string;
  readonly to: string;
}
type NameChange = Names | FolderRename;

const isFolderRename = (change: NameChange): change is FolderRename => 'to' in change;
const isIn = (path: string, folder: string) => path.startsWith(`${folder}/`);

export class MemoryDisk implements Disk {
  readonly faults: MemoryDiskFaults = {
    freeBytes: Number.POSITIVE_INFINITY,
    failingSyncs: 0,
    slowReads: false,
    pause: () => new Promise((resolve) => setImmediate(resolve)),
    fails: () => false,
  };
  /** Datasyncs done, for tests of group commit. */
  syncCount = 0;
  readonly #files = new Map<string, MemoryContent>();
  readonly #folders = new Set<string>(['/']);
  readonly #durableNames = new Map<string, MemoryContent>();
  #unsyncedNames: NameChange[] = [];
  readonly #locks = new Map<string, string>();

  open(path: string, mode: 'existing' | 'create' | 'exclusive' | 'read'): DiskFile {
    this.assertWorks('open', path);
    const found = this.#files.get(path);
    if (found && mode === 'exclusive') throw new StorageError('exists', 'the file exists');
    if (!found && (mode === 'existing' || mode === 'read'))
      throw new StorageError('not_found', 'no such file');
    if (!this.#folders.has(dirname(path))) throw new StorageError('not_found', 'no such folder');
    const content = found ?? new MemoryContent();
    if (!found) this.#changeNames([[path, content]]);
    return new MemoryFile(this, path, content, mode === 'read');
  }

  list(folder: string): readonly string[] {
    const inside = [...this.#files.keys(), ...this.#folders].filter(
      (path) => path !== folder && dirname(path) === folder,
    );
    return inside.map((path) => path.slice(folder.length).replace(/^\//, '')).sort();
  }

  makeFolder(folder: string): void {
    for (let path = folder; !this.#folders.has(path); path = dirname(path)) this.#folders.add(path);
  }

  remove(path: string): void {
    const content = this.#files.get(path);
    if (!content) throw new StorageError('not_found', 'no such file');
    this.faults.freeBytes += content.bytes.length;
    this.#changeNames([[path, undefined]]);
  }

  removeFolder(folder: string): void {
    for (const path of [...this.#files.keys()])
      if (path.startsWith(`${folder}/`)) this.remove(path);
    for (const path of [...this.#folders])
      if (path === folder || path.startsWith(`${folder}/`)) this.#folders.delete(path);
  }

  rename(from: string, to: string): void {
    if (this.#folders.has(from)) return this.#renameFolder(from, to);
    const content = this.#files.get(from);
    if (!content) throw new StorageError('not_found', 'no such file');
    if (!this.#folders.has(dirname(to))) throw new StorageError('not_found', 'no such folder');
    if (from === to) return;
    this.#changeNames([
      [from, undefined],
      [to, content],
    ]);
  }

  /** All that is in it moves in one step, which is durable with the folder around it. */
  #renameFolder(from: string, to: string): void {
    for (const path of [...this.#folders])
      if (path === from || isIn(path, from)) {
        this.#folders.delete(path);
        this.#folders.add(`${to}${path.slice(from.length)}`);
      }
    this.#change({ from, to });
  }

  syncFolder(folder: string): void {
    if (!this.#folders.has(folder)) throw new StorageError('not_found', 'no such folder');
    const left: NameChange[] = [];
    for (const change of this.#unsyncedNames) {
      if (!isOfFolder(change, folder)) {
        left.push(change);
        continue;
      }
      applyNames(this.#durableNames, change);
      // What came before of the same names never comes any more; what is in a folder goes with it.
      const then = left.splice(0).flatMap((earlier) => after(earlier, change));
      left.push(...then);
    }
    this.#unsyncedNames = left;
  }

  space(folder: string): { totalBytes: number; freeBytes: number } {
    if (!this.#folders.has(folder)) throw new StorageError('not_found', 'no such folder');
    const used = [...this.#files.values()].reduce((sum, file) => sum + file.bytes.length, 0);
    const freeBytes = Math.min(this.faults.freeBytes, 2 ** 40);
    return { totalBytes: used + freeBytes, freeBytes };
  }

  lock(path: string, holder: string): DiskLock {
    const other = this.#locks.get(path);
    if (other !== undefined) throw new StorageError('busy', `in use by ${other}`);
    this.#locks.set(path, holder);
    let isHeld = true;
    return {
      release: () => {
        if (isHeld) this.#locks.delete(path);
        isHeld = false;
      },
    };
  }

  /** The disk as it might be found after a power cut now. This one goes on as it was. */
  crash(random: Random): MemoryDisk {
    const found = new MemoryDisk();
    for (const folder of this.#folders) found.#folders.add(folder);
    const names = new Map(this.#durableNames);
    const undone: FolderRename[] = [];
    for (const change of this.#unsyncedNames) {
      const now = undone.reduce<NameChange>(
        (known, { from, to }) => moved(known, to, from),
        change,
      );
      if (random.fraction() < 0.5) applyNames(names, now);
      else if (isFolderRename(now)) undone.unshift(now);
    }
    const crashed = new Map<MemoryContent, MemoryContent>();
    for (const [path, content] of names) {
      const after = crashed.get(content) ?? content.crashed(random);
      crashed.set(content, after);
      found.#files.set(path, after);
      found.#durableNames.set(path, after);
      // The folder may have been renamed, which has not come then.
      found.makeFolder(dirname(path));
    }
    return found;
  }

  /** The disk as the death of the process alone leaves it: all that was written is there. */
  reopened(): MemoryDisk {
    const found = new MemoryDisk();
    for (const folder of this.#folders) found.#folders.add(folder);
    for (const [path, content] of this.#files) found.#files.set(path, content);
    for (const [path, content] of this.#durableNames) found.#durableNames.set(path, content);
    found.#unsyncedNames = [...this.#unsyncedNames];
    return found;
  }

  /** Damages bytes, as a failing device does. */
  flip(path: string, offset: number, length = 1): void {
    const content = this.#files.get(path);
    if (!content) throw new StorageError('not_found', 'no such file');
    const bytes = content.bytes.slice(offset, offset + length);
    content.damage(
      offset,
      bytes.map((byte) => byte ^ 0x40),
    );
  }

  /** What belongs elsewhere was written there. */
  misdirect(path: string, offset: number, bytes: Uint8Array): void {
    const content = this.#files.get(path);
    if (!content) throw new StorageError('not_found', 'no such file');
    content.damage(offset, bytes);
  }

  assertWorks(operation: 'open' | 'read' | 'write', path: string): void {
    if (this.faults.fails(operation, path))
      throw new StorageError('failed', `${operation} failed: EIO`, { detail: { path } });
  }

  #changeNames(changes: readonly (readonly [string, MemoryContent | undefined])[]): void {
    this.#change(new Map(changes));
  }

  #change(change: NameChange): void {
    applyNames(this.#files, change);
    this.#unsyncedNames.push(change);
  }
}

function isOfFolder(change: NameChange, folder: string): boolean {
  const paths = isFolderRename(change) ? [change.from, change.to] : [...change.keys()];
  return paths.some((path) => dirname(path) === folder);
}

function applyNames(names: Map<string, MemoryContent>, change: NameChange): void {
  if (isFolderRename(change)) {
    const { from, to } = change;
    for (const path of [...names.keys()]) if (path === to || isIn(path, to)) names.delete(path);
    for (const [path, content] of [...names])
      if (isIn(path, from)) {
        names.delete(path);
        names.set(`${to}${path.slice(from.length)}`, content);
      }
    return;
  }
  for (const [path, content] of change)
    if (content) names.set(path, content);
    else names.delete(path);
}

/** The change, of a folder that has another name. */
function moved(change: NameChange, from: string, to: string): NameChange {
  const at = (path: string) =>
    path === from || isIn(path, from) ? `${to}${path.slice(from.length)}` : path;
  if (isFolderRename(change)) return { from: at(change.from), to: at(change.to) };
  return new Map([...change].map(([path, content]) => [at(path), content]));
}

/** What is left of a change that is not durable, once a later one is. */
function after(earlier: NameChange, durable: NameChange): readonly NameChange[] {
  if (isFolderRename(earlier)) return [earlier];
  const isOver = (path: string) =>
    isFolderRename(durable) ? isIn(path, durable.to) : durable.has(path);
  const left = new Map([...earlier].filter(([path]) => !isOver(path)));
  if (left.size === 0) return [];
  return [isFolderRename(durable) ? moved(left, durable.from, durable.to) : left];
}

class MemoryFile implements DiskFile {
  readonly path: string;
  readonly #disk: MemoryDisk;
  readonly #content: MemoryContent;
  readonly #isReadOnly: boolean;
  readonly #reads = new Set<Promise<number>>();
  #isClosed = false;

  constructor(disk: MemoryDisk, path: string, content: MemoryContent, isReadOnly: boolean) {
    this.#disk = disk;
    this.path = path;
    this.#content = content;
    this.#isReadOnly = isReadOnly;
  }

  read(offset: number, into: Uint8Array): Eventually<number> {
    this.#assertOpen();
    const copy = () => {
      this.#disk.assertWorks('read', this.path);
      const bytes = this.#content.bytes.subarray(offset, offset + into.length);
      into.set(bytes);
      return bytes.length;
    };
    if (!this.#disk.faults.slowReads) return copy();
    const read = this.#disk.faults.pause('read').then(copy);
    this.#reads.add(read);
    void read.finally(() => this.#reads.delete(read)).catch(() => {});
    return read;
  }

  write(offset: number, parts: readonly Uint8Array[]): void {
    this.#assertWritable();
    const bytes = new Uint8Array(Buffer.concat(parts));
    this.#take(offset + bytes.length);
    this.#content.write(offset, bytes);
  }

  async datasync(): Promise<void> {
    this.#assertOpen();
    const { faults } = this.#disk;
    const mark = this.#content.mark();
    await faults.pause('sync');
    if (faults.failingSyncs > 0) {
      faults.failingSyncs -= 1;
      this.#content.doom(mark);
      throw new StorageError('failed', 'fdatasync failed: EIO');
    }
    this.#disk.syncCount += 1;
    this.#content.settle(mark);
  }

  allocate(offset: number, length: number): void {
    this.#assertWritable();
    this.#take(offset + length);
    if (this.size() < offset + length) this.#content.resize(offset + length);
  }

  punch(offset: number, length: number): void {
    this.#assertWritable();
    const bytes = Math.min(length, this.size() - offset);
    if (bytes > 0) this.#content.write(offset, new Uint8Array(bytes));
  }

  truncate(bytes: number): void {
    this.#assertWritable();
    this.#take(bytes);
    this.#disk.faults.freeBytes += Math.max(0, this.size() - bytes);
    this.#content.resize(bytes);
  }

  size(): number {
    this.#assertOpen();
    return this.#content.bytes.length;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled([...this.#reads]);
  }

  #take(end: number): void {
    const more = Math.max(0, end - this.#content.bytes.length);
    if (more > this.#disk.faults.freeBytes) throw new StorageError('no_space', 'the disk is full');
    this.#disk.faults.freeBytes -= more;
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new StorageError('closed', 'the file is closed');
  }

  #assertWritable(): void {
    this.#assertOpen();
    if (this.#isReadOnly) throw new StorageError('failed', 'the file was opened to be read');
    this.#disk.assertWorks('write', this.path);
  }
}
