/** Who has what was acknowledged of a disk, as the registry's record says, and what its changes mean for it. */

import type { ObjectId } from '../../src/core/units.ts';
import { decodeObject } from '../../src/registry/object-records.ts';
import type { ObjectRecord } from '../../src/registry/object-records.ts';
import type { History } from './history.ts';
import { hostNames } from './plan.ts';
import type { SimWorld } from './world.ts';

export class Holders {
  readonly #world: SimWorld;
  readonly #id: ObjectId;
  readonly #history: History;
  /** Something may be lost. */
  readonly #onLoss: () => void;
  #epoch = 0;
  #owner = '';
  #copy = '';
  /** The host whose SSD alone has the last changes, and those whose it was. */
  #alone = '';
  readonly #aloneUntilMs = new Map<string, number>();
  #isOnBackend = true;
  /** Somebody has asked to go on without what a host that is gone has. */
  mayBeGivenUp = false;
  /** A record can't be read any more: what follows it may be taken for torn. */
  mayLoseRecords = false;

  constructor(world: SimWorld, id: ObjectId, history: History, onLoss: () => void) {
    this.#world = world;
    this.#id = id;
    this.#history = history;
    this.#onLoss = onLoss;
  }

  get record(): ObjectRecord | undefined {
    const found = this.#world.registry.get(`o${this.#id}`);
    return found && decodeObject(this.#id, found.value, found.revision);
  }

  /** Who has what is acknowledged now; the owner first. To be looked at with each change of the record. */
  look(): string[] {
    const { record } = this;
    if (!record) return [];
    const { owner, epoch, tail } = record;
    const isCopied = typeof tail === 'object' && tail.host !== owner;
    if (this.#alone !== '') this.#aloneUntilMs.set(this.#alone, this.#world.scheduler.nowMs);
    this.#alone = isCopied || (tail === 'backend' && this.#isSeenByOthers(owner)) ? '' : owner;
    const [isNew, wasOwner] = [epoch !== this.#epoch, owner === this.#owner];
    const isGivenUp = tail === 'backend' && !this.#isOnBackend && !this.#isMember(owner);
    [this.#epoch, this.#owner, this.#isOnBackend] = [epoch, owner, tail === 'backend'];
    if (this.mayBeGivenUp && isGivenUp) {
      this.#world.counts.lossesAccepted += 1;
      this.#history.givenUp();
      this.#onLoss();
    }
    if (isNew) {
      this.#history.tenureBegins();
      // It goes on with what it has itself, or was given all that there is.
      const hasCopy = typeof tail === 'object' && tail.host === owner;
      if (hasCopy || wasOwner) this.#history.recoveredBy(owner, this.mayLoseRecords);
      this.#history.givenTo(owner);
      this.#onLoss();
    }
    if (!isCopied) return [owner];
    if (tail.copy !== this.#copy) this.#history.givenTo(tail.host);
    this.#copy = tail.copy;
    return [owner, tail.host];
  }

  /** Whether one SSD alone had the last changes, and has failed since then. */
  haveFailed(sinceMs: number): boolean {
    this.look();
    return [...this.#world.hosts.values()].some(
      (host) =>
        host.hadFailedSsd(sinceMs) &&
        (this.#alone === host.id || (this.#aloneUntilMs.get(host.id) ?? -1) >= sinceMs),
    );
  }

  #isSeenByOthers(owner: string): boolean {
    return hostNames.some((name) => name !== owner && this.#isMember(name));
  }

  #isMember(host: string): boolean {
    return this.#world.registry.get(`H${host}`) !== undefined;
  }
}
