/**
 * Files of snapshots as they are read, on any host: what they are read by is opened when it is
 * needed, shared, and let go after a while. To have such a file open only says that it is in use.
 */

import { createHash } from 'node:crypto';
import { isStorageError, StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { Ino, ObjectId } from '../core/units.ts';
import { objectId } from '../core/units.ts';
import type { Clock } from '../ports/clock.ts';
import type { DataObject } from '../ports/data-object.ts';
import type { Objects } from '../ports/objects.ts';
import type { Inode, Kept } from '../registry/namespace.ts';

/** Views that stay open, each with a piece of a block map; more only while more are being read. */
const viewsMax = 16;
const idleMs = 10_000;

/** What a kept file is read by. */
export type View = Pick<DataObject, 'read' | 'seek' | 'close'>;

export interface KeptFilesDeps {
  readonly objects: Pick<Objects, 'open' | 'release'>;
  /** `not_found` where the snapshot is gone. */
  readonly view: (volume: ObjectId, snapshot: string) => Promise<View>;
  readonly clock: Clock;
}

interface OpenView {
  readonly view: Promise<View>;
  underWay: number;
  usedMs: number;
}

export interface KeptFile {
  readonly ino: Ino;
  readonly kept: Kept;
  uses: number;
}

/** Under this id hosts ask each other whether somebody reads what is kept there. */
export function readersOf(object: ObjectId, snapshot = ''): ObjectId {
  const digest = createHash('sha256').update(`${object}@${snapshot}`).digest('hex');
  return objectId(digest.slice(0, 32));
}

export class KeptFiles {
  readonly #deps: KeptFilesDeps;
  readonly #files = new Map<Ino, KeptFile>();
  /** The longest unused first. */
  readonly #views = new Map<Ino, OpenView>();
  readonly #closing = new AbortController();
  readonly #tasks = new TaskGroup(() => {});
  #isSweeping = false;

  constructor(deps: KeptFilesDeps) {
    this.#deps = deps;
  }

  /** The file where it is open. */
  get(ino: Ino): KeptFile | undefined {
    return this.#files.get(ino);
  }

  /** One more use, paired with a `release`. */
  acquire({ ino, kept = {} }: Inode): void {
    const file = this.#files.get(ino) ?? { ino, kept, uses: 0 };
    file.uses += 1;
    this.#files.set(ino, file);
  }

  /** False where it is not open. */
  release(ino: Ino): boolean {
    const file = this.#files.get(ino);
    if (!file) return false;
    file.uses -= 1;
    if (file.uses === 0) this.#files.delete(ino);
    return true;
  }

  /** Whether somebody has a file open that `readersOf` gives this id. */
  isRead(readers: ObjectId): boolean {
    for (const { kept } of this.#files.values())
      if (kept.object !== undefined && readersOf(kept.object, kept.snapshot) === readers)
        return true;
    return false;
  }

  /** `is_directory`, `failed` where what is kept is gone. */
  async use<T>(
    { ino, kept }: Pick<KeptFile, 'ino' | 'kept'>,
    action: (view: View) => Eventually<T>,
  ): Promise<T> {
    const open = this.#take(ino, kept);
    open.underWay += 1;
    try {
      return await action(await open.view);
    } catch (error) {
      if (!isStorageError(error, 'not_found')) throw error;
      throw new StorageError('failed', 'the snapshot has been deleted', { cause: error });
    } finally {
      open.underWay -= 1;
      open.usedMs = this.#deps.clock.monotonicMs();
      this.#letGo(this.#views.size - viewsMax);
    }
  }

  /** It is about to be deleted. */
  forget(ino: Ino): void {
    const open = this.#views.get(ino);
    if (open) this.#close(ino, open);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    for (const [ino, open] of this.#views) this.#close(ino, open);
    await this.#tasks.drained();
  }

  #take(ino: Ino, kept: Kept): OpenView {
    const open = this.#views.get(ino) ?? { view: this.#open(kept), underWay: 0, usedMs: 0 };
    this.#views.delete(ino);
    this.#views.set(ino, open);
    // The next one tries again.
    open.view.catch(() => {
      if (this.#views.get(ino) === open) this.#views.delete(ino);
    });
    this.#sweepLater();
    return open;
  }

  async #open({ object, snapshot }: Kept): Promise<View> {
    const { objects, view } = this.#deps;
    if (object === undefined) throw new StorageError('is_directory', 'only files hold data');
    if (snapshot !== undefined) return view(object, snapshot);
    const handle = await objects.open(object);
    return {
      read: (offset, into) => handle.read(offset, into),
      seek: (offset, what) => handle.seek(offset, what),
      close: async () => objects.release(object),
    };
  }

  /** At most `count` of those that nobody reads now, and that were not read since then. */
  #letGo(count: number, readBeforeMs = Number.POSITIVE_INFINITY): void {
    let left = count;
    for (const [ino, open] of this.#views) {
      if (left <= 0) return;
      if (open.underWay > 0 || open.usedMs > readBeforeMs) continue;
      this.#close(ino, open);
      left -= 1;
    }
  }

  #close(ino: Ino, open: OpenView): void {
    this.#views.delete(ino);
    this.#tasks.run(async () => (await open.view).close());
  }

  #sweepLater(): void {
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    const { clock } = this.#deps;
    const { signal } = this.#closing;
    this.#tasks.run(async () => {
      while (this.#views.size > 0 && !signal.aborted) {
        await clock.sleep(idleMs, { signal }).catch(() => {});
        this.#letGo(this.#views.size, clock.monotonicMs() - idleMs);
      }
      this.#isSweeping = false;
    });
  }
}
