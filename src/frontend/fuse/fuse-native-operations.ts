/**
 * The operations that `fuse-native` (libfuse 2) asks for, over a file system by inode number. It
 * speaks in paths and small descriptors; its buffers are libfuse's memory, good only until the
 * callback, so data is copied both ways.
 *
 * What it can't say is not served: who asks (new files belong to the daemon's user), extended
 * attributes (it does not tell how much room there is), fallocate, SEEK_DATA, names that are no
 * UTF-8 (EINVAL).
 */

import { isStorageError, StorageError, describeError } from '../../core/errors.ts';
import { limits } from '../../core/limits.ts';
import type { TaskGroup } from '../../core/task-group.ts';
import type { Ino } from '../../core/units.ts';
import { modeOf, typeOfMode } from '../../format/fuse/attributes.ts';
import type { AttributeChange, Attributes, Caller, FileSystem } from '../../ports/file-system.ts';
import { rootIno } from '../../ports/file-system.ts';
import type { Log } from '../../ports/log.ts';
import { toErrno } from './errno.ts';

/** 0, a negative errno, or the number of bytes of a read or write; then what was asked for. */
type Done = (result: number, ...answers: readonly unknown[]) => void;

interface OpenDescriptor {
  readonly ino: Ino;
  readonly append: boolean;
}

/** Of open(2) on Linux. Truncation comes as a request of its own. */
const openAccess = 0o3;
const openAppend = 0o2000;
/** (uid_t) -1: stays as it is. */
const unchanged = 0xffff_ffff;
const nsPerMs = 1_000_000n;

export class FuseNativeOperations {
  readonly #fileSystem: FileSystem;
  readonly #log: Log;
  readonly #tasks: TaskGroup;
  readonly #caller: Caller;
  readonly #open = new Map<number, OpenDescriptor>();
  #nextDescriptor = 1;

  /** What is under way runs in `tasks`. */
  constructor(fileSystem: FileSystem, log: Log, tasks: TaskGroup, caller: Caller) {
    this.#fileSystem = fileSystem;
    this.#log = log;
    this.#tasks = tasks;
    this.#caller = caller;
  }

  getattr = (path: string, done: Done) =>
    this.#answer(done, async () => [statOf(await this.#find(path))]);

  readdir = (path: string, done: Done) => this.#answer(done, async () => [await this.#names(path)]);

  readlink = (path: string, done: Done) =>
    this.#answer(done, async () => {
      const { ino } = await this.#find(path);
      return [toText(await this.#fileSystem.readLink(ino))];
    });

  open = (path: string, flags: number, done: Done) =>
    this.#answer(done, async () => {
      const { ino } = await this.#find(path);
      await this.#fileSystem.open(ino, (flags & openAccess) === 0 ? 'read' : 'write');
      return [this.#describe(ino, flags)];
    });

  create = (path: string, mode: number, done: Done) =>
    this.#answer(done, async () => {
      const { ino } = await this.#make(path, mode, 0);
      await this.#fileSystem.open(ino);
      return [this.#describe(ino, 0)];
    });

  release = (_path: string, descriptor: number, done: Done) =>
    this.#answer(done, async () => {
      const { ino } = this.#opened(descriptor);
      this.#open.delete(descriptor);
      await this.#fileSystem.release(ino);
    });

  read = (
    ...[_path, descriptor, buffer, length, offset, done]: [
      string,
      number,
      Uint8Array,
      number,
      number,
      Done,
    ]
  ) =>
    this.#answer(done, async () => {
      const copy = new Uint8Array(length);
      const bytes = await this.#fileSystem.read(this.#opened(descriptor).ino, offset, copy);
      buffer.set(copy.subarray(0, bytes));
      return bytes;
    });

  write = (
    ...[_path, descriptor, buffer, length, offset, done]: [
      string,
      number,
      Uint8Array,
      number,
      number,
      Done,
    ]
  ) =>
    this.#answer(done, async () => {
      const { ino, append } = this.#opened(descriptor);
      await this.#fileSystem.write(ino, offset, buffer.slice(0, length), { append });
      return length;
    });

  fsync = (_path: string, _dataOnly: number, descriptor: number, done: Done) =>
    this.#answer(done, () => this.#fileSystem.flush(this.#opened(descriptor).ino));

  fsyncdir = (path: string, _dataOnly: number, _descriptor: number, done: Done) =>
    this.#answer(done, async () => this.#fileSystem.flush((await this.#find(path)).ino));

  truncate = (path: string, sizeBytes: number, done: Done) =>
    this.#change(path, { sizeBytes }, done);

  ftruncate = (_path: string, descriptor: number, sizeBytes: number, done: Done) =>
    this.#answer(done, async () => {
      await this.#fileSystem.change(this.#opened(descriptor).ino, { sizeBytes });
    });

  chmod = (path: string, mode: number, done: Done) =>
    this.#change(path, { mode: mode & 0o7777 }, done);

  chown = (path: string, uid: number, gid: number, done: Done) =>
    this.#change(
      path,
      { ...(uid !== unchanged && { uid }), ...(gid !== unchanged && { gid }) },
      done,
    );

  utimens = (path: string, accessedMs: number, modifiedMs: number, done: Done) => {
    const [accessedNs, modifiedNs] = [toNs(accessedMs), toNs(modifiedMs)];
    this.#change(path, { accessedNs, modifiedNs }, done);
  };

  mknod = (path: string, mode: number, rdev: number, done: Done) =>
    this.#answer(done, async () => void (await this.#make(path, mode, rdev)));

  mkdir = (path: string, mode: number, done: Done) =>
    this.#answer(done, async () => {
      const { parent, name } = await this.#parentOf(path);
      const what = { type: 'directory', mode: mode & 0o7777 } as const;
      await this.#fileSystem.make(parent, name, what, this.#caller);
    });

  symlink = (target: string, path: string, done: Done) =>
    this.#answer(done, async () => {
      const { parent, name } = await this.#parentOf(path);
      const what = { type: 'symlink', mode: 0o777, target: toBytes(target) } as const;
      await this.#fileSystem.make(parent, name, what, this.#caller);
    });

  link = (from: string, to: string, done: Done) =>
    this.#answer(done, async () => {
      const { parent, name } = await this.#parentOf(to);
      await this.#fileSystem.link((await this.#find(from)).ino, parent, name);
    });

  unlink = (path: string, done: Done) =>
    this.#answer(done, async () => {
      const { parent, name } = await this.#parentOf(path);
      await this.#fileSystem.unlink(parent, name);
    });

  rmdir = (path: string, done: Done) =>
    this.#answer(done, async () => {
      const { parent, name } = await this.#parentOf(path);
      await this.#fileSystem.removeDirectory(parent, name);
    });

  rename = (from: string, to: string, done: Done) =>
    this.#answer(done, async () => {
      const [source, target] = [await this.#parentOf(from), await this.#parentOf(to)];
      await this.#fileSystem.rename(source, target, 'replace');
    });

  statfs = (_path: string, done: Done) =>
    this.#answer(done, async () => {
      const { totalBytes, freeBytes, inodesTotal, inodesFree } = await this.#fileSystem.space();
      // Counts are 32 bits wide there, so the unit grows with the space.
      const unit = Math.max(limits.blockBytes, 2 ** Math.ceil(Math.log2(totalBytes / 2 ** 31)));
      const [blocks, free] = [Math.floor(totalBytes / unit), Math.floor(freeBytes / unit)];
      const files = Math.min(inodesTotal, 2 ** 32 - 1);
      const ffree = Math.min(inodesFree, files);
      const sizes = { bsize: unit, frsize: unit, blocks, bfree: free, bavail: free };
      return [{ ...sizes, files, ffree, favail: ffree, namemax: limits.fileNameBytesMax }];
    });

  /** Runs an operation; its answers, its number of bytes or its errno go to the callback. */
  #answer(done: Done, operation: () => Promise<readonly unknown[] | number | void>): void {
    this.#tasks.run(async () => {
      try {
        const answer = await operation();
        if (typeof answer === 'number') done(answer);
        else done(0, ...(answer ?? []));
      } catch (error) {
        if (!isStorageError(error))
          this.#log.error({ error: describeError(error) }, 'request failed by a bug');
        done(-toErrno(error));
      }
    });
  }

  #change(path: string, change: AttributeChange, done: Done): void {
    this.#answer(done, async () => {
      await this.#fileSystem.change((await this.#find(path)).ino, change);
    });
  }

  #describe(ino: Ino, flags: number): number {
    const descriptor = this.#nextDescriptor;
    this.#nextDescriptor += 1;
    this.#open.set(descriptor, { ino, append: (flags & openAppend) !== 0 });
    return descriptor;
  }

  #opened(descriptor: number): OpenDescriptor {
    const found = this.#open.get(descriptor);
    if (found === undefined) throw new StorageError('invalid', 'no such descriptor');
    return found;
  }

  async #find(path: string): Promise<Attributes> {
    let found = await this.#fileSystem.attributes(rootIno);
    for (const name of toBytes(path).split('/').filter(Boolean))
      found = await this.#fileSystem.lookup(found.ino, name);
    return found;
  }

  async #parentOf(path: string): Promise<{ readonly parent: Ino; readonly name: string }> {
    const cut = path.lastIndexOf('/');
    const { ino } = await this.#find(path.slice(0, cut));
    return { parent: ino, name: toBytes(path.slice(cut + 1)) };
  }

  async #make(path: string, mode: number, rdev: number): Promise<Attributes> {
    const type = typeOfMode(mode);
    if (type === undefined || type === 'directory' || type === 'symlink')
      throw new StorageError('invalid', 'not a type of file that can be made');
    const { parent, name } = await this.#parentOf(path);
    const what = { type, mode: mode & 0o7777, rdev };
    return this.#fileSystem.make(parent, name, what, this.#caller);
  }

  async #names(path: string): Promise<string[]> {
    const { ino } = await this.#find(path);
    const names: string[] = [];
    for (let after = 0n; ; ) {
      const entries = await this.#fileSystem.list(ino, after, limits.listEntriesMax);
      names.push(...entries.map(({ name }) => toText(name)));
      const last = entries.at(-1);
      if (last === undefined || entries.length < limits.listEntriesMax) return names;
      after = last.cookie;
    }
  }
}

/** Names are bytes; what is no UTF-8 comes with replacement characters, and means nothing. */
function toBytes(text: string): string {
  if (text.includes('\ufffd')) throw new StorageError('invalid', 'the name is not UTF-8');
  return Buffer.from(text, 'utf8').toString('latin1');
}

function toText(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

function toNs(ms: number): bigint {
  return BigInt(Math.round(ms)) * nsPerMs;
}

function statOf(attributes: Attributes): Readonly<Record<string, number>> {
  return {
    mode: modeOf(attributes),
    uid: attributes.uid,
    gid: attributes.gid,
    size: attributes.sizeBytes,
    nlink: attributes.linkCount,
    ino: attributes.ino % 2 ** 32,
    rdev: attributes.rdev,
    blksize: limits.blockBytes,
    blocks: Math.ceil(attributes.allocatedBytes / 512),
    atime: Number(attributes.accessedNs / nsPerMs),
    mtime: Number(attributes.modifiedNs / nsPerMs),
    ctime: Number(attributes.changedNs / nsPerMs),
  };
}
