/**
 * Processes at all hosts that lock a file before they work with it, as flock(1) does. No two have it at
 * once, unless the host of one was out of the vPool meanwhile: its locks are others' to take then.
 */

import type { Ino } from '../../src/core/units.ts';
import type { LockRequest } from '../../src/ports/object-locks.ts';
import { lastByte } from '../../src/ports/object-locks.ts';
import { Violation } from './history.ts';
import type { Daemon, SimHost } from './sim-host.ts';
import { isRefusal } from './sim-user.ts';
import type { SimWorld } from './world.ts';

const range = { kind: 'flock', pid: 1, start: 0n, end: lastByte } as const;

interface Holder {
  readonly host: SimHost;
  /** Revision of the host's membership when it got the lock. */
  readonly joined: number | undefined;
}

export class SimLocks {
  readonly #world: SimWorld;
  readonly #holders = new Set<Holder>();
  #owners = 0n;

  constructor(world: SimWorld) {
    this.#world = world;
  }

  /** A process that takes the lock if nobody has it, and gives it back after `forMs`. */
  take(host: SimHost, forMs: number): void {
    const { daemon } = host;
    if (!daemon) return;
    this.#lock(host, daemon, forMs).catch((error: unknown) => {
      if (host.daemon === daemon && !isRefusal(error))
        this.#world.fail(error, `lock at ${host.id}`);
    });
  }

  async #lock(host: SimHost, daemon: Daemon, forMs: number): Promise<void> {
    const { scheduler, log, counts } = this.#world;
    const { locks } = daemon.stack;
    const ino = await log.made(daemon);
    this.#owners += 1n;
    const owner = this.#owners;
    if (!(await locks.set(ino, owner, { ...range, owner, type: 'write' }))) return;
    counts.locks += 1;
    const holder: Holder = { host, joined: this.#membership(host) };
    for (const other of this.#holders)
      if (other.joined !== undefined && other.joined === this.#membership(other.host))
        throw new Violation(`${host.id} and ${other.host.id} have the lock at once`);
    this.#holders.add(holder);
    void daemon.process.died.then(() => this.#holders.delete(holder));
    await scheduler.sleep(forMs);
    this.#holders.delete(holder);
    if (host.daemon === daemon) await this.#unlock(daemon, ino, owner);
  }

  async #unlock({ stack: { locks } }: Daemon, ino: Ino, owner: bigint): Promise<void> {
    const none: LockRequest = { ...range, owner, type: 'none' };
    await locks.set(ino, owner, none);
    await locks.released(ino, owner, owner);
  }

  #membership({ id }: SimHost): number | undefined {
    return this.#world.registry.get(`H${id}`)?.revision;
  }
}
