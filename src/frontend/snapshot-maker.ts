/**
 * Makes snapshots that folders show: all of one or nothing. What is begun is noted first, so that
 * what a failure or a crash leaves of it is found and undone, by this host, now or when it starts.
 */

import { describeError, isStorageError } from '../core/errors.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { Ino, ObjectId } from '../core/units.ts';
import { within } from '../core/within.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Objects } from '../ports/objects.ts';
import type { CareAnswer, CareRequest } from '../ports/volume-care.ts';
import type { NamespaceChange } from '../registry/namespace-changes.ts';
import type { SnapshotRecords } from '../registry/snapshot-records.ts';
import type { Undertaking } from '../registry/snapshot-sets.ts';
import type { Member, SnapshotTree } from './snapshot-tree.ts';

/** How long undoing is waited for; it goes on meanwhile. */
const undoMsMax = 5000;

export interface SnapshotMakerDeps {
  readonly tree: SnapshotTree;
  readonly snapshots: SnapshotRecords;
  readonly objects: Pick<Objects, 'delete'>;
  readonly care: { ask(id: ObjectId, request: CareRequest): Promise<CareAnswer> };
  /** What nobody reaches any more of the volume may be deleted: soon, and not waited for. */
  readonly collect: (id: ObjectId) => void;
  readonly clock: Clock;
  readonly log: Log;
}

export class SnapshotMaker {
  readonly #deps: SnapshotMakerDeps;
  readonly #tasks: TaskGroup;

  constructor(deps: SnapshotMakerDeps) {
    this.#deps = deps;
    this.#tasks = new TaskGroup((error) => {
      const facts = { error: describeError(error) };
      deps.log.warn(facts, 'part of a snapshot is left; it is removed at the next start');
    });
  }

  /** `keep` has all volumes keep a snapshot of that name, and says what there is to be shown. */
  async make(
    folder: Ino,
    name: string,
    what: Pick<Undertaking, 'createdNs' | 'volumes' | 'files'>,
    keep: () => Promise<readonly Member[]>,
  ): Promise<readonly NamespaceChange[]> {
    const begun = await this.#deps.tree.begin(folder, name, what);
    try {
      return await this.#deps.tree.show(begun, await keep());
    } catch (error) {
      const undone = this.#undo(begun);
      this.#tasks.run(() => undone);
      await within(this.#deps.clock, undoMsMax, undone).catch(() => {});
      throw error;
    }
  }

  /** At start: what this host was making when it ended is undone, and not waited for. */
  async resume(): Promise<void> {
    const { tree, log } = this.#deps;
    for (const begun of await tree.unfinished()) {
      log.info({ snapshot: begun.name }, 'a snapshot that was not finished is undone');
      this.#tasks.run(() => this.#undo(begun));
    }
  }

  async #undo(begun: Undertaking): Promise<void> {
    const { tree, snapshots, objects, care, collect } = this.#deps;
    const { name, createdNs, volumes, files } = begun;
    for (const id of volumes) {
      const { isKept = false } = await care.ask(id, {
        ...{ do: 'settle', name, createdNs: String(createdNs) },
      });
      if (!isKept) continue;
      try {
        await snapshots.delete(id, name);
        collect(id);
      } catch (error) {
        // Somebody has made a clone of it meanwhile: it is a snapshot of the volume alone.
        if (!isStorageError(error, 'busy')) throw error;
      }
    }
    for (const id of files) await objects.delete(id);
    await tree.drop(begun);
  }
}
