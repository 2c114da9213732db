/**
 * The VM that all disks in one folder belong to, and snapshots of all of them at one moment: what one disk
 * has in it tells what the others must have.
 */

import type { Write } from './history.ts';
import { Violation } from './history.ts';
import type { KeptState, SimDisk } from './sim-disk.ts';
import type { Daemon, SimHost } from './sim-host.ts';
import type { SimWorld } from './world.ts';

export const vmFolder = '/vm';

interface Kept {
  readonly name: string;
  readonly states: Map<SimDisk, KeptState>;
}

export class SimVm {
  readonly #world: SimWorld;
  readonly #kept: Kept[] = [];

  constructor(world: SimWorld) {
    this.#world = world;
  }

  snapshot(host: SimHost): void {
    const disks = this.#world.disks.filter(({ path }) => path.startsWith(`${vmFolder}/`));
    const kept: Kept = { name: this.#world.nextName('vm'), states: new Map() };
    let making: Promise<void> | undefined;
    // A request of each of them, and one alone that is made.
    for (const disk of disks)
      disk.administer(host, `snapshot ${kept.name} of the VM`, (daemon) => {
        making ??= this.#make(daemon, kept, disks);
        return making;
      });
  }

  forget(host: SimHost, pick: number): void {
    const [kept] = this.#kept.splice(pick % Math.max(1, this.#kept.length), 1);
    const [disk] = this.#world.disks;
    if (!kept || !disk) return;
    for (const [{ snapshots }, state] of kept.states) snapshots.splice(snapshots.indexOf(state), 1);
    disk.administer(host, `forget ${kept.name} of the VM`, async ({ endpoints }) => {
      await endpoints['POST /v1/vm/snapshot/delete']?.(query(kept.name));
    });
  }

  /** To be called when each disk's own part has been looked at. */
  check(): void {
    for (const { name, states } of this.#kept) {
      let missing: Write | undefined;
      let newest: Write | undefined;
      for (const { span } of states.values()) {
        if (span?.missing && (!missing || span.missing.ended < missing.ended))
          missing = span.missing;
        if (span?.newest && (!newest || span.newest.began > newest.began)) newest = span.newest;
      }
      if (missing && newest && missing.ended < newest.began)
        throw new Violation(
          `snapshot ${name} of the VM is of no moment: it has write ${newest.value} of one disk, and ` +
            `not ${missing.value} of another, which was acknowledged before`,
        );
    }
  }

  async #make(daemon: Daemon, kept: Kept, disks: readonly SimDisk[]): Promise<void> {
    const states = disks.map((disk) => [disk, disk.beginState(kept.name)] as const);
    await daemon.endpoints['POST /v1/vm/snapshot/create']?.(query(kept.name));
    for (const [disk, state] of states) {
      disk.endState(state);
      kept.states.set(disk, state);
    }
    this.#kept.push(kept);
    this.#world.counts.vmSnapshots += 1;
  }
}

const query = (name: string) => new URLSearchParams({ path: vmFolder, name });
