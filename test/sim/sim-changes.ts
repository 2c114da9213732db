/** Changes of a disk as a whole, by an administrator: nothing else of it is under way meanwhile. */

import { differentUnit, Violation } from './history.ts';
import type { KeptState, SimDisk } from './sim-disk.ts';
import type { SimHost } from './sim-host.ts';
import { isRefusal } from './sim-user.ts';
import type { SimWorld } from './world.ts';

/** Whether or not it was done is seen when it is read. */
export function rollBack(world: SimWorld, disk: SimDisk, host: SimHost, kept: KeptState): void {
  const { daemon } = host;
  if (!daemon || disk.isGone || kept.units !== disk.history.unitCount) return;
  const rolling = async () => {
    await disk.checkSnapshot(daemon, kept);
    const query = new URLSearchParams({ path: disk.path, name: kept.name, force: '1' });
    await daemon.endpoints['POST /v1/vdisk/snapshot/rollback']?.(query);
    world.counts.rollBacks += 1;
  };
  const act = disk.held(async () => {
    world.note(host.id, `rolls ${disk.path} back to ${kept.name}`);
    const began = world.scheduler.tick();
    let refusal: unknown;
    const rolled = rolling().catch((error: unknown) => {
      refusal = error;
    });
    const died = daemon.process.died.then(() => 'unknown');
    const outcome = await Promise.race([rolled, died]);
    if (outcome === 'unknown') disk.history.mayBeReplaced(kept.values ?? []);
    if (refusal !== undefined && !isRefusal(refusal)) throw refusal as Error;
    const values = await disk.readAll(() => world.anyHost());
    const different = differentUnit(values, kept.values ?? []);
    if (different < 0) disk.history.replaced(values, began);
    else if (refusal === undefined && outcome !== 'unknown')
      throw new Violation(`unit ${different}: ${values[different]} is not what ${kept.name} has`);
    else disk.history.lookedThrough(values);
  });
  act.catch((error: unknown) => world.fail(error, `${disk.path}: roll back`));
}

/** What an administrator was told is durable. */
export function grow(world: SimWorld, disk: SimDisk, host: SimHost, by: number): void {
  const { daemon } = host;
  if (!daemon || disk.isGone || disk.isBusy || disk.holders.mayBeGivenUp) return;
  disk.unitsAsked = Math.max(disk.unitsAsked, disk.history.unitCount) + by;
  const units = disk.unitsAsked;
  const query = new URLSearchParams({ path: disk.path, size: String(units * disk.strideBytes) });
  const act = disk.held(async () => {
    const growing = (async () => {
      await daemon.endpoints['POST /v1/vdisk/resize']?.(query);
      return 'done';
    })().catch((error: unknown) => {
      if (host.daemon === daemon && !isRefusal(error)) throw error;
      return 'refused';
    });
    const outcome = await Promise.race([growing, daemon.process.died]);
    if (outcome !== 'done') return;
    disk.history.grow(units);
    world.counts.grown += 1;
  });
  act.catch((error: unknown) => world.fail(error, `${disk.path} grows`));
}
