/**
 * Buckets as folders: an object store on any file system, for one machine or a shared mount.
 * `ROOT/bucket/key` is a blob; `ROOT/.incoming/` holds what is being written or deleted.
 *
 * - A put is whole and durable, or not there: a file in `.incoming`, fsync, then a link (if absent)
 *   or a rename to its name, then fsync of its folder. A folder is made durable before the first
 *   blob in it is, and each bucket before its first folder.
 * - What a killed process left in `.incoming` goes at the next start, once it is old. Old is told
 *   by the file system's own time, which other hosts share.
 * - Pages of a large folder are cut from one sorted listing, which is kept while the folder's
 *   modification time proves that nothing changed.
 */

import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { StorageError } from '../core/errors.ts';
import type { Backend, BlobInfo, BlobPage, BlobStore, CallOptions } from '../ports/blob-store.ts';
import { attempt, isErrno } from './directory-errors.ts';

/** No bucket and no part of a key starts with a dot. */
const incomingFolder = '.incoming';
const leftoverAgeMsDefault = 3_600_000;
const durableFoldersMax = 4096;
/** A listing is kept where reading it again for every page would hurt. */
const keptListingEntriesMin = 1000;
/** The coarsest time stamps of file systems in use. A folder changed within it may change unseen. */
const timeStampNs = 2_000_000_000n;

async function syncFolder(folder: string): Promise<void> {
  await using handle = await fs.open(folder, 'r');
  await handle.sync();
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await fs.mkdir(folder);
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error;
  }
}

/** Undefined where the file went meanwhile. */
async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await fs.stat(path)).size;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

export interface DirectorySettings {
  /** What lies in `.incoming` for longer belongs to nobody. */
  readonly leftoverAgeMs: number;
}

export class DirectoryBackend implements Backend {
  readonly conditionalPut = 'honoured';
  readonly #root: string;
  readonly #durable: DurableFolders;
  readonly #listing: KeptListing;

  private constructor(root: string) {
    this.#root = root;
    this.#durable = new DurableFolders(root);
    this.#listing = new KeptListing(join(root, incomingFolder));
  }

  /** Makes the folder where it is missing. One that can't be written to opens as well. */
  static open(
    root: string,
    { leftoverAgeMs }: DirectorySettings = { leftoverAgeMs: leftoverAgeMsDefault },
  ): Promise<DirectoryBackend> {
    return attempt('object store folder', undefined, async () => {
      const first = await fs.mkdir(root, { recursive: true });
      for (let path = root; first !== undefined && path.length >= first.length; ) {
        path = dirname(path);
        await syncFolder(path);
      }
      try {
        await makeFolder(join(root, incomingFolder));
        await removeLeftovers(join(root, incomingFolder), leftoverAgeMs);
      } catch (error) {
        if (!isErrno(error, 'EROFS', 'EACCES', 'EPERM', 'ENOSPC', 'EDQUOT')) throw error;
      }
      return new DirectoryBackend(root);
    });
  }

  createBucket(name: string, { signal }: CallOptions = {}): Promise<void> {
    return attempt('create bucket', signal, async () => {
      await makeFolder(join(this.#root, name));
      await syncFolder(this.#root);
    });
  }

  /** It leaves the listing at once and whole; its blobs go after it. */
  deleteBucket(name: string, { signal }: CallOptions = {}): Promise<void> {
    return attempt('delete bucket', signal, async () => {
      this.#durable.forget(join(this.#root, name));
      const going = join(this.#root, incomingFolder, randomBytes(12).toString('hex'));
      try {
        await fs.rename(join(this.#root, name), going);
      } catch (error) {
        if (!isErrno(error, 'ENOENT')) throw error;
        return;
      }
      await syncFolder(this.#root);
      await fs.rm(going, { recursive: true, force: true });
    });
  }

  listBuckets({ prefix, signal }: CallOptions & { readonly prefix: string }) {
    return attempt('list buckets', signal, async () => {
      const entries = await fs.readdir(this.#root, { withFileTypes: true });
      const folders = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
      return folders.filter((name) => name.startsWith(prefix) && !name.startsWith('.')).sort();
    });
  }

  bucket(name: string): BlobStore {
    const incoming = join(this.#root, incomingFolder);
    return new DirectoryBucket(join(this.#root, name), incoming, this.#durable, this.#listing);
  }

  space({ signal }: CallOptions = {}): Promise<{ totalBytes: number; freeBytes: number }> {
    return attempt('statfs', signal, async () => {
      const { bsize, blocks, bavail } = await fs.statfs(this.#root);
      return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
    });
  }

  async close(): Promise<void> {}
}

/** The time as the file system stamps it. */
async function fileSystemTime(folder: string): Promise<{ ms: number; ns: bigint }> {
  const path = join(folder, `time-${randomBytes(12).toString('hex')}`);
  try {
    await using file = await fs.open(path, 'wx', 0o600);
    const { mtimeNs } = await file.stat({ bigint: true });
    return { ms: Number(mtimeNs / 1_000_000n), ns: mtimeNs };
  } finally {
    await fs.rm(path, { force: true });
  }
}

async function removeLeftovers(folder: string, leftoverAgeMs: number): Promise<void> {
  const names = await fs.readdir(folder);
  if (names.length === 0) return;
  const { ms } = await fileSystemTime(folder);
  for (const path of names.map((name) => join(folder, name))) {
    try {
      // The change time: a bucket on its way out keeps the modification time of its last blob.
      const { ctimeMs } = await fs.stat(path);
      if (ms - ctimeMs >= leftoverAgeMs) await fs.rm(path, { recursive: true, force: true });
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
    }
  }
}

/** Folders that this process knows to survive a power cut. */
class DurableFolders {
  readonly #root: string;
  readonly #known = new Map<string, Promise<void>>();

  constructor(root: string) {
    this.#root = root;
  }

  /** Makes `folder` and those above it, durable. Never makes a bucket. */
  ensure(folder: string): Promise<void> {
    let known = this.#known.get(folder);
    if (known) return known;
    if (this.#known.size >= durableFoldersMax) this.#known.clear();
    known = this.#make(folder);
    this.#known.set(folder, known);
    known.catch(() => this.#known.delete(folder));
    return known;
  }

  /** Somebody removed `folder`, or what is in it. */
  forget(folder: string): void {
    for (const path of this.#known.keys())
      if (path === folder || path.startsWith(`${folder}/`)) this.#known.delete(path);
  }

  async #make(folder: string): Promise<void> {
    const parent = dirname(folder);
    if (parent === this.#root) await fs.access(folder);
    else {
      await this.ensure(parent);
      await makeFolder(folder);
    }
    await syncFolder(parent);
  }
}

/** The sorted names of one folder, kept from page to page. */
class KeptListing {
  readonly #incoming: string;
  #kept: { folder: string; mtimeNs: bigint; names: readonly string[] } | undefined;

  constructor(incoming: string) {
    this.#incoming = incoming;
  }

  /** Names in the order of keys: that of a folder ends with a slash. */
  async names(folder: string): Promise<readonly string[]> {
    const { mtimeNs } = await fs.stat(folder, { bigint: true });
    if (this.#kept?.folder === folder && this.#kept.mtimeNs === mtimeNs) return this.#kept.names;
    const entries = await fs.readdir(folder, { withFileTypes: true });
    const names = entries
      .filter((entry) => !entry.name.startsWith('.'))
      .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
      .sort();
    if (names.length >= keptListingEntriesMin && (await this.#isSettled(mtimeNs)))
      this.#kept = { folder, mtimeNs, names };
    return names;
  }

  /** Any change after this moment is stamped with another time than `mtimeNs`. */
  async #isSettled(mtimeNs: bigint): Promise<boolean> {
    try {
      const { ns } = await fileSystemTime(this.#incoming);
      return ns - mtimeNs > timeStampNs;
    } catch {
      return false;
    }
  }
}

class DirectoryBucket implements BlobStore {
  readonly #folder: string;
  readonly #incoming: string;
  readonly #durable: DurableFolders;
  readonly #listing: KeptListing;

  constructor(folder: string, incoming: string, durable: DurableFolders, listing: KeptListing) {
    this.#folder = folder;
    this.#incoming = incoming;
    this.#durable = durable;
    this.#listing = listing;
  }

  put(
    key: string,
    body: Uint8Array,
    options: CallOptions & { readonly if?: 'absent' } = {},
  ): Promise<void> {
    const { signal } = options;
    return attempt('put', signal, async () => {
      const temporary = join(this.#incoming, randomBytes(12).toString('hex'));
      try {
        await using file = await fs.open(temporary, 'wx', 0o600);
        await file.writeFile(body);
        await file.datasync();
        signal?.throwIfAborted();
        await this.#name(temporary, join(this.#folder, key), options.if === 'absent');
      } finally {
        await fs.rm(temporary, { force: true });
      }
    });
  }

  get(
    key: string,
    options: CallOptions & { readonly offset?: number; readonly length?: number } = {},
  ): Promise<Uint8Array> {
    const { offset = 0, length, signal } = options;
    return attempt('get', signal, async () => {
      await using file = await fs.open(join(this.#folder, key), 'r');
      const stat = await file.stat();
      if (!stat.isFile()) throw new StorageError('not_found', 'get: a folder, not a blob');
      const bytes = Math.max(0, Math.min(length ?? stat.size, stat.size - offset));
      const into = new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);
      let done = 0;
      while (done < bytes) {
        const { bytesRead } = await file.read(into, done, bytes - done, offset + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      return done === bytes ? into : into.subarray(0, done);
    });
  }

  list(
    options: CallOptions & {
      readonly prefix: string;
      readonly after?: string;
      readonly limit?: number;
    },
  ): Promise<BlobPage> {
    return attempt('list', options.signal, async () => {
      const { prefix, after = '', limit = 1000 } = options;
      await fs.access(this.#folder);
      const keys: string[] = [];
      let isMore = false;
      for await (const key of this.#walk('', prefix, after)) {
        isMore = keys.length === limit;
        if (isMore) break;
        keys.push(key);
      }
      const sizes = await Promise.all(keys.map((key) => sizeOf(join(this.#folder, key))));
      const blobs = keys.flatMap((key, index): BlobInfo[] => {
        const bytes = sizes[index];
        return bytes === undefined ? [] : [{ key, bytes }];
      });
      const last = keys.at(-1);
      return { blobs, ...(isMore && last !== undefined && { next: last }) };
    });
  }

  deleteMany(keys: readonly string[], { signal }: CallOptions = {}): Promise<void> {
    return attempt('delete', signal, async () => {
      await fs.access(this.#folder);
      const changed = new Set<string>();
      const remove = async (path: string) => {
        try {
          await fs.unlink(path);
          changed.add(dirname(path));
        } catch (error) {
          if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error;
        }
      };
      await Promise.all(keys.map((key) => remove(join(this.#folder, key))));
      await Promise.all([...changed].map(syncFolder));
    });
  }

  async #name(temporary: string, path: string, ifAbsent: boolean): Promise<void> {
    const folder = dirname(path);
    const place = () => (ifAbsent ? fs.link(temporary, path) : fs.rename(temporary, path));
    await this.#durable.ensure(folder);
    try {
      await place();
    } catch (error) {
      // The folder that was known to be there is not: another process deleted the bucket.
      if (!isErrno(error, 'ENOENT')) throw error;
      this.#durable.forget(this.#folder);
      await this.#durable.ensure(folder);
      await place();
    }
    await syncFolder(folder);
  }

  /** Keys behind `after`, in the order of their bytes, skipping folders that can't hold any. */
  async *#walk(folder: string, prefix: string, after: string): AsyncGenerator<string> {
    const names = await this.#namesOf(folder);
    const bound = after > prefix ? after : prefix;
    for (let index = firstAtOrAround(names, bound, folder); index < names.length; index += 1) {
      const name = folder + (names[index] as string);
      if (name.endsWith('/')) {
        if (!name.startsWith(prefix) && !prefix.startsWith(name)) break;
        yield* this.#walk(name, prefix, after);
      } else {
        if (!name.startsWith(prefix)) break;
        if (name > after) yield name;
      }
    }
  }

  async #namesOf(folder: string): Promise<readonly string[]> {
    try {
      return await this.#listing.names(join(this.#folder, folder));
    } catch (error) {
      // The folder went meanwhile, or a prefix goes on below a blob.
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return [];
      throw error;
    }
  }
}

/** The first of sorted names that is not before `bound`, or the folder that holds `bound`. */
function firstAtOrAround(names: readonly string[], bound: string, folder: string): number {
  let low = 0;
  let high = names.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (folder + (names[middle] as string) < bound) low = middle + 1;
    else high = middle;
  }
  const before = low > 0 ? folder + (names[low - 1] as string) : '';
  return before.endsWith('/') && bound.startsWith(before) ? low - 1 : low;
}
