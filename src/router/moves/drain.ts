/**
 * Hands over all that a host owns, before it is taken down for maintenance: the host of the copy
 * first, else one after another. Until it is stopped, the host fetches nothing by itself.
 */

import { describeError, isStorageError, StorageError } from '../../core/errors.ts';
import { TaskGroup } from '../../core/task-group.ts';
import type { HostId, ObjectId } from '../../core/units.ts';
import type { Log } from '../../ports/log.ts';
import type { HostRecords } from '../../registry/host-records.ts';
import type { ObjectRecord, ObjectRecords } from '../../registry/object-records.ts';
import type { ObjectRouter } from '../object-router.ts';

const movesAtOnce = 16;
/** An object may be changing hands by itself; it is tried in so many rounds. */
const roundsMax = 5;

export interface DrainDeps {
  readonly host: HostId;
  readonly router: Pick<ObjectRouter, 'attracts' | 'opened' | 'moveTo' | 'passOn'>;
  readonly records: ObjectRecords;
  readonly hosts: HostRecords;
  readonly log: Log;
}

export interface DrainProgress {
  readonly state: 'off' | 'draining' | 'drained' | 'failed';
  /** Objects that were this host's, and those of them that are another's now. */
  readonly total: number;
  readonly moved: number;
  /** Why the others are still here. */
  readonly failed: readonly { readonly id: ObjectId; readonly why: string }[];
}

const off: DrainProgress = { state: 'off', total: 0, moved: 0, failed: [] };

export class Drain {
  readonly #deps: DrainDeps;
  readonly #tasks: TaskGroup;
  #progress = off;

  constructor(deps: DrainDeps) {
    this.#deps = deps;
    this.#tasks = new TaskGroup((error) => {
      deps.log.error({ error: describeError(error) }, 'host is not drained');
      this.#progress = { ...this.#progress, state: 'failed' };
    });
  }

  get progress(): DrainProgress {
    return this.#progress;
  }

  /** Nothing where it is under way. */
  start(): void {
    if (this.#progress.state === 'draining') return;
    this.#deps.router.attracts = false;
    this.#progress = { ...off, state: 'draining' };
    this.#tasks.run(() => this.#run());
  }

  /** The host takes part again; what was moved comes back when it is used here. */
  async stop(): Promise<void> {
    this.#progress = off;
    await this.#tasks.drained();
    this.#progress = off;
    this.#deps.router.attracts = true;
  }

  async #run(): Promise<void> {
    const { log } = this.#deps;
    let total = 0;
    for (let round = 0; round < roundsMax && this.#isOn(); round += 1) {
      const mine = await this.#owned();
      total = Math.max(total, mine.length);
      this.#progress = { state: 'draining', total, moved: total - mine.length, failed: [] };
      if (mine.length === 0) break;
      await this.#moveAll(mine);
    }
    if (!this.#isOn()) return;
    const left = (await this.#owned()).length;
    const state = left === 0 ? 'drained' : 'failed';
    this.#progress = { ...this.#progress, state, moved: total - left };
    log.info({ total, left }, 'drain has ended');
  }

  async #owned(): Promise<readonly ObjectRecord[]> {
    const { host, records } = this.#deps;
    return (await records.list()).filter(({ owner }) => owner === host);
  }

  async #moveAll(mine: readonly ObjectRecord[]): Promise<void> {
    const { host, hosts } = this.#deps;
    const others = (await hosts.list()).map(({ id }) => id).filter((id) => id !== host);
    if (others.length === 0) throw new StorageError('unavailable', 'no other host is up');
    const waiting = mine.entries();
    const worker = async () => {
      for (const [index, record] of waiting) {
        if (!this.#isOn()) return;
        await this.#move(record, destinationOf(record, others, index));
      }
    };
    await Promise.all(Array.from({ length: movesAtOnce }, worker));
  }

  async #move(record: ObjectRecord, to: HostId): Promise<void> {
    const { router } = this.#deps;
    const { id } = record;
    try {
      if (router.opened(id) || record.tail !== 'backend') await router.moveTo(id, to);
      else if (!(await router.passOn(record, to))) return;
      this.#progress = { ...this.#progress, moved: this.#progress.moved + 1 };
    } catch (error) {
      if (!isStorageError(error)) throw error;
      const why = describeError(error);
      this.#progress = { ...this.#progress, failed: [...this.#progress.failed, { id, why }] };
    }
  }

  #isOn(): boolean {
    return this.#progress.state === 'draining';
  }
}

function destinationOf({ tail }: ObjectRecord, others: readonly HostId[], turn: number): HostId {
  if (typeof tail === 'object' && others.includes(tail.host)) return tail.host;
  return others[turn % others.length] as HostId;
}
