/**
 * A file system in memory (port FileSystem), for tests of the front ends: complete enough for a
 * real mount, simple enough to be believed. Names that end in `.raw` are volumes. Reads and writes
 * are answered at once; what a test wants slow or failing, it overrides.
 */

import { StorageError } from '../../src/core/errors.ts';
import type { ErrorCode } from '../../src/core/errors.ts';
import type { Eventually } from '../../src/core/eventually.ts';
import type { FileName, Ino } from '../../src/core/units.ts';
import { fileName } from '../../src/core/units.ts';
import type {
  AttributeChange,
  Attributes,
  Caller,
  DirectoryEntry,
  FileSystem,
  FileType,
  NewInode,
  SpaceReport,
} from '../../src/ports/file-system.ts';
import { rootIno } from '../../src/ports/file-system.ts';
import { SparseBytes } from './sparse-bytes.ts';

interface Name {
  readonly ino: Ino;
  readonly cookie: bigint;
}

interface MemoryInode {
  readonly ino: Ino;
  readonly type: FileType;
  readonly isVolume: boolean;
  readonly data: SparseBytes;
  readonly names: Map<string, Name>;
  readonly extended: Map<string, Uint8Array>;
  readonly target: string | undefined;
  readonly rdev: number;
  parent: Ino;
  mode: number;
  linkCount: number;
  uid: number;
  gid: number;
  accessedNs: bigint;
  modifiedNs: bigint;
  changedNs: bigint;
  opens: number;
}

function fail(code: ErrorCode, message: string): never {
  throw new StorageError(code, message);
}

export class MemoryFileSystem implements FileSystem {
  readonly #inodes = new Map<Ino, MemoryInode>();
  #nextIno = 1;
  #nextCookie = 3n;
  #nowNs = 1_700_000_000_000_000_000n;

  constructor() {
    const root = this.#newInode({ type: 'directory', mode: 0o777 }, { uid: 0, gid: 0 }, '');
    root.linkCount = 2;
  }

  get inodeCount(): number {
    return this.#inodes.size;
  }

  openCount(ino: Ino): number {
    return this.#inode(ino).opens;
  }

  async lookup(parent: Ino, name: string): Promise<Attributes> {
    const directory = this.#directory(parent);
    if (name === '.') return this.attributes(parent);
    if (name === '..') return this.attributes(directory.parent);
    return this.attributes(this.#child(directory, name).ino);
  }

  attributes(ino: Ino): Attributes {
    const { data, names: _names, extended: _extended, opens: _opens, ...inode } = this.#inode(ino);
    return { ...inode, sizeBytes: data.size, allocatedBytes: data.allocatedBytes };
  }

  async change(ino: Ino, change: AttributeChange): Promise<Attributes> {
    const inode = this.#inode(ino);
    const now = this.#now();
    const time = (given: bigint | 'now' | undefined, old: bigint) =>
      given === 'now' ? now : (given ?? old);
    if (change.sizeBytes !== undefined) {
      this.#file(ino).data.resize(change.sizeBytes);
      inode.modifiedNs = now;
    }
    inode.mode = change.mode ?? inode.mode;
    if (change.dropSetId === true) inode.mode &= ~0o6000;
    inode.uid = change.uid ?? inode.uid;
    inode.gid = change.gid ?? inode.gid;
    inode.accessedNs = time(change.accessedNs, inode.accessedNs);
    inode.modifiedNs = time(change.modifiedNs, inode.modifiedNs);
    inode.changedNs = now;
    return this.attributes(ino);
  }

  async make(parent: Ino, name: string, what: NewInode, caller: Caller): Promise<Attributes> {
    const directory = this.#directory(parent);
    if (directory.names.has(fileName(name))) fail('exists', 'name exists');
    const inode = this.#newInode(what, caller, name);
    inode.parent = parent;
    if (what.type === 'directory') {
      inode.linkCount = 2;
      directory.linkCount += 1;
    }
    this.#addName(directory, name, inode.ino);
    return this.attributes(inode.ino);
  }

  async link(ino: Ino, parent: Ino, name: string): Promise<Attributes> {
    const inode = this.#inode(ino);
    if (inode.type === 'directory') fail('not_permitted', 'a directory has one name');
    const directory = this.#directory(parent);
    if (directory.names.has(fileName(name))) fail('exists', 'name exists');
    inode.linkCount += 1;
    inode.changedNs = this.#now();
    this.#addName(directory, name, ino);
    return this.attributes(ino);
  }

  async unlink(parent: Ino, name: string): Promise<void> {
    const directory = this.#directory(parent);
    const inode = this.#child(directory, name);
    if (inode.type === 'directory') fail('is_directory', 'a directory');
    directory.names.delete(name);
    directory.modifiedNs = this.#now();
    this.#drop(inode);
  }

  async removeDirectory(parent: Ino, name: string): Promise<void> {
    if (name === '.') fail('invalid', 'the directory itself');
    const directory = this.#directory(parent);
    const inode = this.#child(directory, name);
    if (inode.type !== 'directory') fail('not_directory', 'not a directory');
    if (inode.names.size > 0) fail('not_empty', 'not empty');
    directory.names.delete(name);
    directory.linkCount -= 1;
    this.#inodes.delete(inode.ino);
  }

  async rename(
    from: { readonly parent: Ino; readonly name: string },
    to: { readonly parent: Ino; readonly name: string },
    how: 'replace' | 'no-replace' | 'exchange',
  ): Promise<void> {
    const source = this.#directory(from.parent);
    const target = this.#directory(to.parent);
    const moving = this.#child(source, from.name);
    const standing = target.names.get(fileName(to.name));
    if (standing && how === 'no-replace') fail('exists', 'name exists');
    if (!standing && how === 'exchange') fail('not_found', 'nothing to exchange with');
    if (standing?.ino === moving.ino) return;
    source.names.delete(from.name);
    if (standing && how === 'exchange') this.#place(source, from.name, this.#inode(standing.ino));
    else if (standing) {
      target.names.delete(to.name);
      this.#drop(this.#inode(standing.ino));
    }
    this.#place(target, to.name, moving);
  }

  async readLink(ino: Ino): Promise<string> {
    return this.#inode(ino).target ?? fail('invalid', 'not a symlink');
  }

  async list(ino: Ino, after: bigint, limit: number): Promise<readonly DirectoryEntry[]> {
    const directory = this.#directory(ino);
    const entries: DirectoryEntry[] = [
      { name: '.', ino, type: 'directory', cookie: 1n },
      { name: '..', ino: directory.parent, type: 'directory', cookie: 2n },
    ];
    for (const [name, { ino: child, cookie }] of directory.names)
      entries.push({ name: name as FileName, ino: child, type: this.#inode(child).type, cookie });
    return entries.filter(({ cookie }) => cookie > after).slice(0, limit);
  }

  async open(ino: Ino): Promise<Attributes> {
    this.#inode(ino).opens += 1;
    return this.attributes(ino);
  }

  async release(ino: Ino): Promise<void> {
    const inode = this.#inode(ino);
    inode.opens -= 1;
    if (inode.opens === 0 && inode.linkCount === 0) this.#inodes.delete(ino);
  }

  read(ino: Ino, offset: number, into: Uint8Array): Eventually<number> {
    return this.#file(ino).data.read(offset, into);
  }

  write(
    ino: Ino,
    offset: number,
    data: Uint8Array,
    options: { readonly append?: boolean; readonly dropSetId?: boolean } = {},
  ): Eventually<void> {
    const inode = this.#file(ino);
    if (options.dropSetId === true) inode.mode &= ~0o6000;
    inode.data.write(options.append === true ? inode.data.size : offset, data);
    inode.modifiedNs = this.#now();
  }

  settle(): void {}

  async flush(ino: Ino): Promise<void> {
    this.#inode(ino);
  }

  async allocate(
    ino: Ino,
    offset: number,
    length: number,
    { mode, keepSize }: { readonly mode: 'reserve' | 'zero' | 'punch'; readonly keepSize: boolean },
  ): Promise<void> {
    const { data } = this.#file(ino);
    if (mode !== 'reserve') data.trim(offset, length);
    if (mode !== 'punch' && !keepSize) data.resize(Math.max(data.size, offset + length));
  }

  seek(ino: Ino, offset: number, what: 'data' | 'hole'): Eventually<number> {
    return this.#file(ino).data.seek(offset, what) ?? fail('no_data', 'nothing there');
  }

  async getAttribute(ino: Ino, name: string): Promise<Uint8Array> {
    return this.#inode(ino).extended.get(name) ?? fail('no_attribute', 'no such attribute');
  }

  async setAttribute(
    ino: Ino,
    name: string,
    value: Uint8Array,
    how: 'set' | 'create' | 'replace',
  ): Promise<void> {
    const { extended } = this.#inode(ino);
    if (how === 'create' && extended.has(name)) fail('exists', 'attribute exists');
    if (how === 'replace' && !extended.has(name)) fail('no_attribute', 'no such attribute');
    extended.set(name, value.slice());
  }

  async listAttributes(ino: Ino): Promise<readonly string[]> {
    return [...this.#inode(ino).extended.keys()];
  }

  async removeAttribute(ino: Ino, name: string): Promise<void> {
    if (!this.#inode(ino).extended.delete(name)) fail('no_attribute', 'no such attribute');
  }

  async space(): Promise<SpaceReport> {
    const gib = 2 ** 30;
    return { totalBytes: 64 * gib, freeBytes: 48 * gib, inodesTotal: 1e6, inodesFree: 9e5 };
  }

  #now(): bigint {
    this.#nowNs += 1000n;
    return this.#nowNs;
  }

  #newInode(what: NewInode, caller: Caller, name: string): MemoryInode {
    const now = this.#now();
    const inode: MemoryInode = {
      ino: this.#nextIno++ as Ino,
      ...{ type: what.type, mode: what.mode, target: what.target, rdev: what.rdev ?? 0 },
      ...{ uid: caller.uid, gid: caller.gid, linkCount: 1, opens: 0, parent: rootIno },
      ...{ accessedNs: now, modifiedNs: now, changedNs: now },
      ...{ names: new Map(), extended: new Map(), data: new SparseBytes() },
      isVolume: what.type === 'file' && name.endsWith('.raw'),
    };
    if (what.target !== undefined) inode.data.write(0, Buffer.from(what.target, 'latin1'));
    this.#inodes.set(inode.ino, inode);
    return inode;
  }

  #addName(directory: MemoryInode, name: string, ino: Ino): void {
    directory.names.set(fileName(name), { ino, cookie: this.#nextCookie });
    this.#nextCookie += 1n;
    directory.modifiedNs = this.#now();
  }

  #place(directory: MemoryInode, name: string, inode: MemoryInode): void {
    inode.changedNs = this.#now();
    if (inode.type === 'directory') {
      this.#inode(inode.parent).linkCount -= 1;
      inode.parent = directory.ino;
      directory.linkCount += 1;
    }
    this.#addName(directory, name, inode.ino);
  }

  #drop(inode: MemoryInode): void {
    inode.linkCount -= inode.type === 'directory' ? 2 : 1;
    inode.changedNs = this.#now();
    if (inode.linkCount === 0 && inode.opens === 0) this.#inodes.delete(inode.ino);
  }

  #inode(ino: Ino): MemoryInode {
    return this.#inodes.get(ino) ?? fail('not_found', 'no such inode');
  }

  #directory(ino: Ino): MemoryInode {
    const inode = this.#inode(ino);
    return inode.type === 'directory' ? inode : fail('not_directory', 'not a directory');
  }

  #file(ino: Ino): MemoryInode {
    const inode = this.#inode(ino);
    if (inode.type === 'directory') fail('is_directory', 'a directory');
    return inode.type === 'file' ? inode : fail('invalid', 'not a file');
  }

  #child(directory: MemoryInode, name: string): MemoryInode {
    const found = directory.names.get(fileName(name));
    return found ? this.#inode(found.ino) : fail('not_found', 'no such name');
  }
}
