/**
 * Folders that the kernel has locked for requests that are under way. To make it forget a name takes the
 * same lock: who waits for that in the kernel can't be killed, and keeps the mount of a killed daemon, and
 * all who wait for it, from coming to their end. So it is waited for here.
 */

import { opcode } from '../../format/fuse/protocol.ts';
import type { Ino } from '../../core/units.ts';
import type { Call } from './call.ts';

const locking: ReadonlySet<number> = new Set([
  ...[opcode.lookup, opcode.create, opcode.mknod, opcode.mkdir, opcode.symlink, opcode.link],
  ...[opcode.unlink, opcode.rmdir, opcode.rename, opcode.rename2],
]);

const none: readonly Ino[] = [];

/** Those that the kernel has locked for a request. */
export function foldersOf({ request, node }: Pick<Call, 'request' | 'node'>): readonly Ino[] {
  const code = request.opcode;
  if (!locking.has(code)) return none;
  const isMove = code === opcode.rename || code === opcode.rename2;
  return isMove ? [node, request.u64(0) as Ino] : [node];
}

interface HeldFolder {
  requests: number;
  readonly free: PromiseWithResolvers<void>;
}

export class HeldFolders {
  readonly #held = new Map<Ino, HeldFolder>();

  /** Until `answered`, these folders are locked. */
  hold(folders: readonly Ino[], answered: Promise<unknown>): void {
    if (folders.length === 0) return;
    for (const folder of folders) this.#add(folder);
    const release = () => folders.forEach((folder) => this.#remove(folder));
    answered.then(release, release);
  }

  /** Resolves when no request has locked the folder. */
  async free(folder: Ino): Promise<void> {
    for (let held = this.#held.get(folder); held; held = this.#held.get(folder))
      await held.free.promise;
  }

  #add(folder: Ino): void {
    const held = this.#held.get(folder) ?? { requests: 0, free: Promise.withResolvers<void>() };
    held.requests += 1;
    this.#held.set(folder, held);
  }

  #remove(folder: Ino): void {
    const held = this.#held.get(folder);
    if (!held) return;
    held.requests -= 1;
    if (held.requests > 0) return;
    this.#held.delete(folder);
    held.free.resolve();
  }
}
