/**
 * Times of directories, which change with every name in them: kept here and written to the
 * registry in the background, so that makers of names do not queue for one record.
 */

import type { Ino } from '../core/units.ts';
import type { Inode, Namespace } from '../registry/namespace.ts';
import { isAt, keys, putInode } from '../registry/namespace.ts';

export class DirectoryTimes {
  readonly #namespace: Namespace;
  readonly #touched = new Map<Ino, bigint>();

  constructor(namespace: Namespace) {
    this.#namespace = namespace;
  }

  touch(ino: Ino, now: bigint): void {
    this.#touched.set(ino, now);
  }

  get count(): number {
    return this.#touched.size;
  }

  current(inode: Inode): Inode {
    const time = this.#touched.get(inode.ino);
    return time === undefined ? inode : { ...inode, modifiedNs: time, changedNs: time };
  }

  /** Writes what was touched before the call. */
  async settle(): Promise<void> {
    for (const [ino, time] of [...this.#touched]) await this.#settleOne(ino, time);
  }

  async #settleOne(ino: Ino, time: bigint): Promise<void> {
    for (;;) {
      const found = await this.#namespace.findInode(ino);
      const isCommitted =
        !found ||
        (
          await this.#namespace.registry.transact({
            compares: [isAt(keys.inode(ino), found.revision)],
            writes: [putInode({ ...found.record, modifiedNs: time, changedNs: time })],
          })
        ).committed;
      if (!isCommitted) continue;
      if (this.#touched.get(ino) === time) this.#touched.delete(ino);
      return;
    }
  }
}
