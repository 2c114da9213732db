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
  /** On their way to the registry with a change of the record. */
  readonly #taken = new Map<Ino, bigint>();

  constructor(namespace: Namespace) {
    this.#namespace = namespace;
  }

  touch(ino: Ino, now: bigint): void {
    this.#touched.set(ino, now);
  }

  /** A change of the directory's record brings the time along: `kept` or `giveBack` follows. */
  take(ino: Ino): void {
    const time = this.#touched.get(ino);
    if (time === undefined) return;
    this.#touched.delete(ino);
    this.#taken.set(ino, time);
  }

  kept(ino: Ino): void {
    this.#taken.delete(ino);
  }

  giveBack(ino: Ino): void {
    const time = this.#taken.get(ino);
    if (time !== undefined && !this.#touched.has(ino)) this.#touched.set(ino, time);
    this.#taken.delete(ino);
  }

  current(inode: Inode): Inode {
    return withTime(inode, this.#touched.get(inode.ino) ?? this.#taken.get(inode.ino));
  }

  /** Writes what was touched before the call. */
  async settle(): Promise<void> {
    for (const ino of [...this.#touched.keys()]) await this.#settleOne(ino);
  }

  async #settleOne(ino: Ino): Promise<void> {
    for (;;) {
      const found = await this.#namespace.findInode(ino);
      const time = this.#touched.get(ino);
      // A change of the record has taken it along, and may have set another.
      if (time === undefined) return;
      const isCommitted =
        !found ||
        (
          await this.#namespace.registry.transact({
            compares: [isAt(keys.inode(ino), found.revision)],
            writes: [putInode(withTime(found.record, time))],
          })
        ).committed;
      if (!isCommitted) continue;
      if (this.#touched.get(ino) === time) this.#touched.delete(ino);
      return;
    }
  }
}

/** As it is when something in it changed at that time. */
export function withTime(inode: Inode, time: bigint | undefined): Inode {
  return time === undefined
    ? inode
    : { ...inode, modifiedNs: time, changedNs: changedAt(inode, time) };
}

/** A ctime grows with each change, whatever the clocks of hosts show: versions are told apart by it. */
export function changedAt({ changedNs }: Inode, time: bigint): bigint {
  return time > changedNs ? time : changedNs + 1n;
}
