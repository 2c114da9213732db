/**
 * The fallback where the addon can't be built: npm's `fuse-native` (libfuse 2), behind the same
 * `Mount`. It is slower, hands one request at a time, speaks in paths, and lends buffers that are
 * libfuse's memory, good only until the callback: so what is read or written is copied at once.
 */

import { execFile } from 'node:child_process';
import { describeError, StorageError } from '../../core/errors.ts';
import type { Ino } from '../../core/units.ts';
import { modeOf } from '../../format/fuse/replies.ts';
import type { AttributeChange, Attributes, FileSystem, FileType } from '../../ports/file-system.ts';
import { rootIno } from '../../ports/file-system.ts';
import type { Log } from '../../ports/log.ts';
import { toErrno } from './errno.ts';
import type { Mount } from './mount.ts';

type Done = (error: number, ...results: unknown[]) => void;

/** The part of `fuse-native` that is used here. */
interface FuseNative {
  mount(done: (error?: Error | null) => void): void;
  unmount(done: (error?: Error | null) => void): void;
}
type FuseNativeClass = new (
  mountPoint: string,
  operations: Readonly<Record<string, unknown>>,
  options: Readonly<Record<string, unknown>>,
) => FuseNative;

const entriesPerTurn = 1000;
const nsPerMs = 1_000_000n;
const setTime = -1;

export interface FallbackDeps {
  readonly fileSystem: FileSystem;
  readonly log: Log;
}

export async function mountFuseNative(deps: FallbackDeps, mountPoint: string): Promise<Mount> {
  let Fuse: FuseNativeClass;
  try {
    const name = 'fuse-native';
    Fuse = ((await import(name)) as { default: FuseNativeClass }).default;
  } catch (error) {
    throw new StorageError('unsupported', `neither the addon nor fuse-native is there`, {
      cause: error,
    });
  }
  // Its own timer would answer while a request still waits for the backend.
  const options = { timeout: false, force: true, allowOther: true, defaultPermissions: true };
  const fuse = new Fuse(mountPoint, operations(deps), options);
  await call((done) => fuse.mount(done), `mount of ${mountPoint} by fuse-native`);
  const ended = Promise.withResolvers<void>();
  return {
    mountPoint,
    ended: ended.promise,
    async unmount() {
      await call((done) => fuse.unmount(done), `unmount of ${mountPoint}`);
      ended.resolve();
    },
    detachNow() {
      execFile('fusermount3', ['-u', '-z', mountPoint]);
    },
  };
}

function call(start: (done: (error?: Error | null) => void) => void, what: string): Promise<void> {
  return new Promise((resolve, reject) =>
    start((error) => {
      if (error) reject(new StorageError('failed', `${what}: ${describeError(error)}`));
      else resolve();
    }),
  );
}

/** Paths come as text, names are bytes. */
const toBytes = (text: string) => Buffer.from(text, 'utf8').toString('latin1');
const toText = (bytes: string) => Buffer.from(bytes, 'latin1').toString('utf8');

function operations({ fileSystem, log }: FallbackDeps): Readonly<Record<string, unknown>> {
  const caller = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const find = async (path: string): Promise<Attributes> => {
    let found = await fileSystem.attributes(rootIno);
    for (const name of toBytes(path).split('/').filter(Boolean))
      found = await fileSystem.lookup(found.ino, name);
    return found;
  };
  const parentOf = async (path: string): Promise<{ parent: Ino; name: string }> => {
    const cut = path.lastIndexOf('/');
    const { ino } = await find(path.slice(0, cut));
    return { parent: ino, name: toBytes(path.slice(cut + 1)) };
  };
  /** Wraps an operation: its result or its errno goes to the callback, which comes last. */
  const answer =
    <Args extends unknown[]>(operation: (...args: Args) => Promise<unknown[]>) =>
    (...all: [...Args, Done]) => {
      const done = all.pop() as Done;
      operation(...(all as unknown as Args)).then(
        (results) => done(0, ...results),
        (error: unknown) => {
          const code = toErrno(error);
          if (code === 5) log.error({ error: describeError(error) }, 'request failed');
          done(-code);
        },
      );
    };
  const make = async (path: string, type: FileType, mode: number, rdev = 0, target?: string) => {
    const { parent, name } = await parentOf(path);
    const what = { type, mode: mode & 0o7777, rdev, ...(target !== undefined && { target }) };
    return fileSystem.make(parent, name, what, caller);
  };
  const change = async (path: string, changes: AttributeChange) => {
    await fileSystem.change((await find(path)).ino, changes);
    return [];
  };
  return {
    getattr: answer(async (path: string) => [toStat(await find(path))]),
    fgetattr: answer(async (path: string) => [toStat(await find(path))]),
    readdir: answer(async (path: string) => [await namesIn(fileSystem, (await find(path)).ino)]),
    readlink: answer(async (path: string) => [
      toText(await fileSystem.readLink((await find(path)).ino)),
    ]),
    open: answer(async (path: string) => [
      Number((await fileSystem.open((await find(path)).ino)).ino),
    ]),
    create: answer(async (path: string, mode: number) => {
      const { ino } = await make(path, 'file', mode);
      await fileSystem.open(ino);
      return [Number(ino)];
    }),
    release: answer(async (_path: string, fd: number) => {
      await fileSystem.release(fd as Ino);
      return [];
    }),
    read: (_path: string, fd: number, buffer: Buffer, length: number, at: number, done: Done) => {
      const copy = new Uint8Array(length);
      Promise.resolve(fileSystem.read(fd as Ino, at, copy)).then(
        (bytes) => {
          buffer.set(copy.subarray(0, bytes));
          done(bytes);
        },
        (error: unknown) => done(-toErrno(error)),
      );
    },
    write: (_path: string, fd: number, buffer: Buffer, length: number, at: number, done: Done) => {
      const copy = new Uint8Array(buffer.subarray(0, length));
      Promise.resolve(fileSystem.write(fd as Ino, at, copy)).then(
        () => done(length),
        (error: unknown) => done(-toErrno(error)),
      );
    },
    fsync: answer(async (_path: string, _dataOnly: boolean, fd: number) => {
      await fileSystem.flush(fd as Ino);
      return [];
    }),
    flush: answer(async () => []),
    truncate: answer((path: string, sizeBytes: number) => change(path, { sizeBytes })),
    ftruncate: answer((path: string, _fd: number, sizeBytes: number) =>
      change(path, { sizeBytes }),
    ),
    chmod: answer((path: string, mode: number) => change(path, { mode: mode & 0o7777 })),
    chown: answer((path: string, uid: number, gid: number) =>
      change(path, { ...(uid >= 0 && { uid }), ...(gid >= 0 && { gid }) }),
    ),
    utimens: answer((path: string, accessed: number, modified: number) =>
      change(path, { accessedNs: toNs(accessed), modifiedNs: toNs(modified) }),
    ),
    mkdir: answer(async (path: string, mode: number) => {
      await make(path, 'directory', mode);
      return [];
    }),
    symlink: answer(async (target: string, path: string) => {
      await make(path, 'symlink', 0o777, 0, toBytes(target));
      return [];
    }),
    link: answer(async (from: string, to: string) => {
      const { parent, name } = await parentOf(to);
      await fileSystem.link((await find(from)).ino, parent, name);
      return [];
    }),
    unlink: answer(async (path: string) => {
      const { parent, name } = await parentOf(path);
      await fileSystem.unlink(parent, name);
      return [];
    }),
    rmdir: answer(async (path: string) => {
      const { parent, name } = await parentOf(path);
      await fileSystem.removeDirectory(parent, name);
      return [];
    }),
    rename: answer(async (from: string, to: string) => {
      await fileSystem.rename(await parentOf(from), await parentOf(to), 'replace');
      return [];
    }),
    statfs: answer(async () => {
      const { totalBytes, freeBytes, inodesTotal, inodesFree } = await fileSystem.space();
      const block = 4096;
      const [blocks, free] = [totalBytes, freeBytes].map((bytes) => Math.floor(bytes / block));
      const files = { files: inodesTotal, ffree: inodesFree, favail: inodesFree };
      const size = { bsize: block, frsize: block, blocks, bfree: free, bavail: free };
      return [{ ...size, ...files, fsid: 1, flag: 0, namemax: 255 }];
    }),
  };
}

function toNs(ms: number): bigint | 'now' {
  return ms === setTime ? 'now' : BigInt(Math.round(ms)) * nsPerMs;
}

function toStat(attributes: Attributes) {
  const date = (ns: bigint) => new Date(Number(ns / nsPerMs));
  return {
    ino: attributes.ino,
    mode: modeOf(attributes),
    nlink: attributes.linkCount,
    uid: attributes.uid,
    gid: attributes.gid,
    size: attributes.sizeBytes,
    blksize: 4096,
    blocks: Math.ceil(attributes.allocatedBytes / 512),
    atime: date(attributes.accessedNs),
    mtime: date(attributes.modifiedNs),
    ctime: date(attributes.changedNs),
  };
}

async function namesIn(fileSystem: FileSystem, ino: Ino): Promise<string[]> {
  const names: string[] = [];
  for (let after = 0n; ; ) {
    const entries = await fileSystem.list(ino, after, entriesPerTurn);
    for (const { name } of entries) if (name !== '.' && name !== '..') names.push(toText(name));
    const last = entries.at(-1);
    if (last === undefined || entries.length < entriesPerTurn) return names;
    after = last.cookie;
  }
}
