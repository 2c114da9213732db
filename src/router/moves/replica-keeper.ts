/**
 * Looks after the copies of other hosts' journals on this host: takes over what a host that is gone
 * has left in them, so that it reaches the backend, and removes those that the registry does not
 * name any more.
 */

import { aborted } from '../../core/aborted.ts';
import { describeError, StorageError } from '../../core/errors.ts';
import { TaskGroup } from '../../core/task-group.ts';
import type { HostId, ObjectId } from '../../core/units.ts';
import type { KeptCopy, ReplicaServer } from '../../log/replica-server.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { HostRecords } from '../../registry/host-records.ts';
import type { ObjectRecords } from '../../registry/object-records.ts';

const roundMs = 2000;
/** A copy whose owner lives is looked up in the registry when nothing came for so long. */
const quietMs = 60_000;
/** At once; the others have their turn in the next rounds. */
const takeOversMax = 16;

export interface ReplicaKeeperDeps {
  readonly replicas: ReplicaServer;
  readonly records: ObjectRecords;
  readonly hosts: HostRecords;
  readonly host: HostId;
  /** Makes this host the owner; rejects where it can't. */
  readonly takeOver: (id: ObjectId) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

export class ReplicaKeeper {
  readonly #deps: ReplicaKeeperDeps;
  readonly #closing = new AbortController();
  readonly #tasks: TaskGroup;
  readonly #takingOver = new Set<ObjectId>();

  constructor(deps: ReplicaKeeperDeps) {
    this.#deps = deps;
    this.#tasks = new TaskGroup((error) => {
      deps.log.error({ error: describeError(error) }, 'copies are not looked after any more');
    });
    this.#tasks.run(() => this.#run());
  }

  async close(): Promise<void> {
    this.#closing.abort(new StorageError('closed', 'this host is stopping'));
    await this.#tasks.drained();
  }

  async #run(): Promise<void> {
    const { clock } = this.#deps;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await this.#round();
      await clock.sleep(roundMs, { signal }).catch(() => {});
    }
  }

  /** Looks at every copy that nobody has used lately, or whose owner is gone. */
  async #round(): Promise<void> {
    const { replicas, hosts, clock, log } = this.#deps;
    const copies = replicas.copies();
    if (copies.length === 0) return;
    const live = new Set((await hosts.list()).map(({ id }) => id));
    for (const copy of copies) {
      const isQuiet = clock.monotonicMs() - copy.seenMs > quietMs;
      const isServed = copy.from !== undefined && live.has(copy.from);
      if (this.#closing.signal.aborted || (isServed && !isQuiet)) continue;
      try {
        await this.#look(copy, live);
      } catch (error) {
        log.warn({ object: copy.id, error: describeError(error) }, 'copy is left as it is');
      }
    }
  }

  async #look(copy: KeptCopy, live: ReadonlySet<HostId>): Promise<void> {
    const { replicas, records, host } = this.#deps;
    const record = await records.find(copy.id);
    const { owner, tail } = record ?? {};
    const isNamed = typeof tail === 'object' && tail.host === host && tail.copy === copy.copy;
    // Whoever fills it may live without its lease, and still name it, until its tenure ends.
    const isForgotten = copy.from !== undefined && !live.has(copy.from);
    if (!isNamed && isForgotten && record?.epoch === copy.epoch) return;
    if (!isNamed || owner === undefined) return replicas.remove(copy);
    replicas.noteSeen(copy);
    if (owner === host || !live.has(owner)) this.#takeOver(copy.id);
  }

  #takeOver(id: ObjectId): void {
    const { takeOver, log } = this.#deps;
    if (this.#takingOver.size === takeOversMax || this.#takingOver.has(id)) return;
    this.#takingOver.add(id);
    this.#tasks.run(async () => {
      try {
        await Promise.race([takeOver(id), aborted(this.#closing.signal)]);
      } catch (error) {
        log.warn({ object: id, error: describeError(error) }, 'object is not taken over');
      } finally {
        this.#takingOver.delete(id);
      }
    });
  }
}
