/**
 * Buckets as folders: an object store on any file system, for one machine or a shared mount. A put
 * is whole and durable or not there: a temporary file, fsync, then a link (if absent) or a rename
 * to its name, then fsync of the folder.
 */

import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { StorageError } from '../core/errors.ts';
import type { Backend, BlobInfo, BlobStore } from '../ports/blob-store.ts';

/** Not a key: keys have no part that starts with a dot. */
const temporaryFolder = '.incoming';

const codes: Readonly<Partial<Record<string, ConstructorParameters<typeof StorageError>[0]>>> = {
  ENOENT: 'not_found',
  ENOTDIR: 'not_found',
  EEXIST: 'exists',
  ENOSPC: 'no_space',
  EDQUOT: 'no_space',
  EROFS: 'read_only',
  EACCES: 'invalid',
  EPERM: 'invalid',
};

function translate(error: unknown, what: string): StorageError {
  if (error instanceof StorageError) return error;
  const { code } = error as NodeJS.ErrnoException;
  return new StorageError(codes[code ?? ''] ?? 'unavailable', `${what}: ${code ?? String(error)}`, {
    cause: error,
  });
}

async function attempt<T>(what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw translate(error, what);
  }
}

async function syncFolder(folder: string): Promise<void> {
  await using handle = await fs.open(folder, 'r');
  await handle.sync();
}

/** Makes a folder and its parents below `root`, durable. */
async function makeFolder(root: string, folder: string): Promise<void> {
  const first = await fs.mkdir(folder, { recursive: true });
  if (first === undefined) return;
  for (let path = folder; path.length >= root.length && path !== '/'; path = dirname(path))
    await syncFolder(dirname(path));
}

export class DirectoryBackend implements Backend {
  readonly conditionalPut = 'honoured';
  readonly #root: string;

  private constructor(root: string) {
    this.#root = root;
  }

  /** Makes the folder where it is missing. */
  static open(root: string): Promise<DirectoryBackend> {
    return attempt('object store folder', async () => {
      await makeFolder(dirname(root), root);
      return new DirectoryBackend(root);
    });
  }

  createBucket(name: string): Promise<void> {
    return attempt('create bucket', () =>
      makeFolder(this.#root, join(this.#root, name, temporaryFolder)),
    );
  }

  deleteBucket(name: string): Promise<void> {
    return attempt('delete bucket', async () => {
      await fs.rm(join(this.#root, name), { recursive: true, force: true });
      await syncFolder(this.#root);
    });
  }

  listBuckets({ prefix }: { readonly prefix: string }): Promise<readonly string[]> {
    return attempt('list buckets', async () => {
      const entries = await fs.readdir(this.#root, { withFileTypes: true });
      const folders = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
      return folders.filter((name) => name.startsWith(prefix)).sort();
    });
  }

  bucket(name: string): BlobStore {
    return new DirectoryBucket(join(this.#root, name));
  }

  space(): Promise<{ totalBytes: number; freeBytes: number }> {
    return attempt('statfs', async () => {
      const { bsize, blocks, bavail } = await fs.statfs(this.#root);
      return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
    });
  }

  async close(): Promise<void> {}
}

class DirectoryBucket implements BlobStore {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  put(key: string, body: Uint8Array, options: { readonly if?: 'absent' } = {}): Promise<void> {
    return attempt('put', async () => {
      const path = join(this.#folder, key);
      const name = randomBytes(12).toString('hex');
      const temporary = join(this.#folder, temporaryFolder, name);
      try {
        await this.#write(temporary, body);
        await this.#name(temporary, path, options.if === 'absent');
      } catch (error) {
        await fs.rm(temporary, { force: true });
        throw error;
      }
    });
  }

  get(
    key: string,
    { offset = 0, length }: { readonly offset?: number; readonly length?: number } = {},
  ): Promise<Uint8Array> {
    return attempt('get', async () => {
      await using file = await fs.open(join(this.#folder, key), 'r');
      const { size } = await file.stat();
      const bytes = Math.max(0, Math.min(length ?? size, size - offset));
      const into = new Uint8Array(bytes);
      let done = 0;
      while (done < bytes) {
        const { bytesRead } = await file.read(into, done, bytes - done, offset + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      return done === bytes ? into : into.subarray(0, done);
    });
  }

  list(options: { readonly prefix: string; readonly after?: string; readonly limit?: number }) {
    return attempt('list', async () => {
      const { prefix, after = '', limit = 1000 } = options;
      const blobs: BlobInfo[] = [];
      await fs.access(this.#folder);
      for await (const key of this.#walk('', prefix, after)) {
        const last = blobs.at(-1);
        if (last !== undefined && blobs.length === limit) return { blobs, next: last.key };
        const size = await this.#sizeOf(key);
        if (size !== undefined) blobs.push({ key, bytes: size });
      }
      return { blobs };
    });
  }

  deleteMany(keys: readonly string[]): Promise<void> {
    return attempt('delete', async () => {
      await fs.access(this.#folder);
      await Promise.all(keys.map((key) => fs.rm(join(this.#folder, key), { force: true })));
    });
  }

  async #write(path: string, body: Uint8Array): Promise<void> {
    await using file = await fs.open(path, 'wx', 0o600);
    await file.writeFile(body);
    await file.datasync();
  }

  async #name(temporary: string, path: string, ifAbsent: boolean): Promise<void> {
    await makeFolder(this.#folder, dirname(path));
    if (ifAbsent) {
      await fs.link(temporary, path);
      await fs.rm(temporary);
    } else await fs.rename(temporary, path);
    await syncFolder(dirname(path));
  }

  /** Keys behind `after`, in the order of their bytes, skipping folders that can't hold any. */
  async *#walk(folder: string, prefix: string, after: string): AsyncGenerator<string> {
    const entries = await fs.readdir(join(this.#folder, folder), { withFileTypes: true });
    const names = entries
      .filter((entry) => !entry.name.startsWith('.'))
      .map((entry) => folder + entry.name + (entry.isDirectory() ? '/' : ''))
      .sort();
    for (const name of names) {
      if (!name.startsWith(prefix) && !prefix.startsWith(name)) continue;
      if (name.endsWith('/')) {
        if (name > after || after.startsWith(name)) yield* this.#walk(name, prefix, after);
      } else if (name > after && name.startsWith(prefix)) yield name;
    }
  }

  /** Undefined where the blob went meanwhile. */
  async #sizeOf(key: string): Promise<number | undefined> {
    try {
      return (await fs.stat(join(this.#folder, key))).size;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }
}
