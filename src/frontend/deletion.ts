/**
 * What happens to a file that has no name any more. The intent is written in the transaction that
 * takes the last name, the data goes afterwards: a crash between leaves a note, never a leak and
 * never a file without its data.
 */

import { describeError, isStorageError } from '../core/errors.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { HostId, Ino, ObjectId } from '../core/units.ts';
import { objectId } from '../core/units.ts';
import { within } from '../core/within.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Objects } from '../ports/objects.ts';
import type { Compare, Write } from '../ports/registry.ts';
import { prefixRange } from '../ports/registry.ts';
import type { Inode, Namespace } from '../registry/namespace.ts';
import { deleteKey, inoOfKey, isAt, keys, putInode } from '../registry/namespace.ts';
import { ObjectRecords } from '../registry/object-records.ts';
import { encodeRecord, RecordReader } from '../registry/record.ts';
import type { Lineage } from './lineage.ts';

const attributesPerTransaction = 50;
/** How often other hosts are asked whether they still use a file that has no name. */
const askPauseMs = 2000;

/** Small files that stay for some time although nobody names them; more go at once. */
const keptMax = 10_000;
/** How long deletions that are under way at the end are waited for; they go on at the next start. */
const drainMsMax = 5000;

export interface DeletionDeps {
  readonly namespace: Namespace;
  readonly objects: Objects;
  readonly lineage: Lineage;
  readonly clock: Clock;
  readonly log: Log;
  readonly host: HostId;
  /** Whether this host's front end has it open. */
  readonly isOpen: (ino: Ino) => boolean;
}

export interface DeletionSettings {
  /**
   * The data of a small file stays so long, ms: a recovery may find a copy of the registry that still
   * names it, as one that has been replaced by a new file of its name.
   */
  readonly keptMs: number;
}

export class Deletion {
  readonly #namespace: Namespace;
  readonly #objects: Objects;
  readonly #lineage: Lineage;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #host: HostId;
  readonly #isOpen: (ino: Ino) => boolean;
  readonly #keptMs: number;
  #kept = 0;
  readonly #tasks: TaskGroup;
  readonly #closing = new AbortController();
  /** Files without a name that other hosts use. */
  readonly #awaited = new Set<Ino>();

  constructor(
    { namespace, objects, lineage, clock, log, host, isOpen }: DeletionDeps,
    { keptMs }: DeletionSettings,
  ) {
    this.#namespace = namespace;
    this.#objects = objects;
    this.#lineage = lineage;
    this.#clock = clock;
    this.#log = log;
    this.#host = host;
    this.#isOpen = isOpen;
    this.#keptMs = keptMs;
    this.#tasks = new TaskGroup((error) => {
      log.warn({ error: describeError(error) }, 'data could not be deleted; tried again at start');
    });
  }

  /** Whether anybody would miss the inode if its last name went: here or on another host. */
  async isInUse({ ino, object }: Inode): Promise<boolean> {
    if (this.#isOpen(ino)) return true;
    return object !== undefined && (await this.#objects.isUsedElsewhere(object));
  }

  /** That nothing but names holds an inode that is to have `linkCount` of them; `busy`. */
  async unkept({ object }: Inode, linkCount: number): Promise<readonly Compare[]> {
    if (object === undefined || linkCount > 0) return [];
    return [await this.#lineage.unkept(object)];
  }

  /** A clone reads nothing of what it was made of any more: that may go, if it has no name. */
  async detach(clone: ObjectId): Promise<void> {
    this.#reconsider(await this.#lineage.detach(clone));
  }

  /**
   * Writes that take one name from an inode which then has `linkCount` of them; `inUse` keeps its
   * data until the last release.
   */
  writesForLink(inode: Inode, linkCount: number, changedNs: bigint, inUse: boolean): Write[] {
    if (linkCount > 0) return [putInode({ ...inode, linkCount, changedNs })];
    if (!inUse) return this.#writesForRemoval(inode);
    return [
      putInode({ ...inode, linkCount: 0, changedNs }),
      { key: keys.orphan(inode.ino), put: encodeRecord({ host: this.#host }) },
    ];
  }

  /** The data goes, which nobody names. */
  discard(object: ObjectId): void {
    this.#deleteSoon(object);
  }

  /** The last name is gone: the data goes in the background, when nobody uses it any more. */
  after(inode: Inode, linkCount: number, inUse: boolean): void {
    if (linkCount > 0) return;
    if (!inUse) this.#deleteSoon(inode.object);
    else if (!this.#isOpen(inode.ino)) this.#reapLater(inode.ino);
  }

  /**
   * The last user of a file here has let go: it is removed if it has no name, by the host that took
   * the last one, when no host uses it any more.
   */
  async reapOrphan(ino: Ino): Promise<void> {
    if ((await this.#tryReap(ino)) === 'in use elsewhere') this.#reapLater(ino);
  }

  async #tryReap(ino: Ino): Promise<'done' | 'in use elsewhere'> {
    const found = await this.#namespace.findInode(ino);
    if (!found || found.record.linkCount > 0 || this.#isOpen(ino)) return 'done';
    const { record, revision } = found;
    const key = keys.orphan(ino);
    const orphan = await this.#namespace.registry.get(key);
    if (!orphan || hostOf(ino, orphan.value) !== this.#host) return 'done';
    if (await this.isInUse(record)) return this.#isOpen(ino) ? 'done' : 'in use elsewhere';
    const outcome = await this.#namespace.registry.transact({
      compares: [isAt(keys.inode(ino), revision), isAt(key, orphan.revision)],
      writes: [...this.#writesForRemoval(record), deleteKey(key)],
    });
    if (!outcome.committed) return this.#tryReap(ino);
    await this.#deleteAttributes(ino);
    this.#deleteSoon(record.object);
    return 'done';
  }

  /** Asks again until nobody uses it; when this host stops, it goes on at the next start. */
  #reapLater(ino: Ino): void {
    if (this.#awaited.has(ino)) return;
    this.#awaited.add(ino);
    const { signal } = this.#closing;
    this.#tasks.run(async () => {
      try {
        do await this.#clock.sleep(askPauseMs, { signal }).catch(() => {});
        while (!signal.aborted && (await this.#tryReap(ino)) === 'in use elsewhere');
      } finally {
        this.#awaited.delete(ino);
      }
    });
  }

  /** At start: nobody on this host uses anything yet. */
  async resume(): Promise<void> {
    for (const suffix of await this.#namespace.suffixes('u')) {
      const ino = inoOfKey(suffix);
      const orphan = await this.#namespace.registry.get(keys.orphan(ino));
      if (!orphan) continue;
      if (hostOf(ino, orphan.value) === this.#host) await this.reapOrphan(ino);
    }
    const pending = await this.#namespace.suffixes('g');
    if (pending.length > 0) this.#log.info({ objects: pending.length }, 'deletions go on');
    for (const id of pending) this.#deleteSoon(objectId(id));
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await within(this.#clock, drainMsMax, this.#tasks.drained());
  }

  #writesForRemoval(inode: Inode): Write[] {
    const { ino, object } = inode;
    if (object === undefined) return [deleteKey(keys.inode(ino))];
    return [
      deleteKey(keys.inode(ino)),
      deleteKey(keys.backReference(object)),
      { key: keys.garbage(object), put: encodeRecord({}) },
    ];
  }

  async #deleteAttributes(ino: Ino): Promise<void> {
    const { registry } = this.#namespace;
    const range = prefixRange(keys.attribute(ino, ''));
    for (;;) {
      const { entries } = await registry.range(range, { limit: attributesPerTransaction });
      if (entries.length === 0) return;
      const writes = entries.map(({ key }) => deleteKey(key));
      await registry.transact({ compares: [], writes });
    }
  }

  #deleteSoon(object: ObjectId | undefined): void {
    if (object === undefined) return;
    this.#tasks.run(async () => {
      // With each clone that goes, it is thought of again.
      if (await this.#lineage.isNeeded(object))
        return this.#whenFree(() => this.#lineage.empty(object));
      await this.#keepForAWhile(object);
      await this.#whenFree(() => this.#objects.delete(object));
      const parent = await this.#lineage.forget(object);
      const writes = [deleteKey(keys.garbage(object))];
      await this.#namespace.registry.transact({ compares: [], writes });
      this.#reconsider(parent);
    });
  }

  #reconsider(parent: ObjectId | undefined): void {
    if (parent === undefined) return;
    this.#tasks.run(async () => {
      if (await this.#namespace.registry.get(keys.garbage(parent))) this.#deleteSoon(parent);
      else this.#lineage.collect(parent);
    });
  }

  /** Whoever stops meanwhile deletes it at once; after a crash the note says that it is to go. */
  async #keepForAWhile(object: ObjectId): Promise<void> {
    if (this.#keptMs === 0 || this.#kept >= keptMax) return;
    this.#kept += 1;
    try {
      const record = await new ObjectRecords(this.#namespace.registry).find(object);
      if (record?.kind !== 'file') return;
      await this.#clock.sleep(this.#keptMs, { signal: this.#closing.signal }).catch(() => {});
    } finally {
      this.#kept -= 1;
    }
  }

  /** An administrator may be looking after the object, which has no name any more. */
  async #whenFree(act: () => Promise<void>): Promise<void> {
    const { signal } = this.#closing;
    for (;;)
      try {
        return await act();
      } catch (error) {
        if (!isStorageError(error, 'busy') || signal.aborted) throw error;
        await this.#clock.sleep(askPauseMs, { signal }).catch(() => {});
      }
  }
}

function hostOf(ino: Ino, orphan: Uint8Array): string {
  return new RecordReader(`orphan ${ino}`, orphan).text('host');
}
