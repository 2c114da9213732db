/** How each step of a plan is taken. */

import { differentUnit, Violation } from './history.ts';
import type { Step } from './plan.ts';
import { hostNames } from './plan.ts';
import { grow, rollBack } from './sim-changes.ts';
import type { SimDisk } from './sim-disk.ts';
import type { Daemon, SimHost } from './sim-host.ts';
import { rot } from './sim-rot.ts';
import type { SimWorld } from './world.ts';

const disksMax = 6;
/** Of a daemon, after an administrator has looked at the SSD. */
const restartMs = 500;

/** Whatever is done to hosts and to what they stand on. */
type Misfortune = Exclude<Step, { readonly do: Use['do'] }>;
type Use =
  | Extract<Step, { disk: number } | { file: number }>
  | Extract<Step, { do: 'append' | 'readLog' | 'lock' | 'snapshotVm' | 'forgetVm' }>;

export function takeStep(world: SimWorld, step: Step): void {
  if ('disk' in step) return onDisk(world, step, world.disks[step.disk % world.disks.length]);
  if ('file' in step) return world.files.take(step, world.host(step.host));
  if (step.do === 'append' || step.do === 'readLog')
    return world.log.take(step.do, world.host(step.host));
  if (step.do === 'lock') return world.locks.take(world.host(step.host), step.forMs);
  if (step.do === 'snapshotVm') return world.vm.snapshot(world.host(step.host));
  if (step.do === 'forgetVm') return world.vm.forget(world.host(step.host), step.pick);
  return misfortune(world, step);
}

function onDisk(
  world: SimWorld,
  step: Extract<Step, { readonly disk: number }>,
  disk: SimDisk | undefined,
): void {
  if (!disk) return;
  const host = world.host(step.host);
  const kept = 'pick' in step ? disk.snapshots[step.pick % disk.snapshots.length] : undefined;
  switch (step.do) {
    case 'write':
    case 'trim':
    case 'read': {
      const first = step.first % disk.history.unitCount;
      const count = Math.min(step.count, disk.history.unitCount - first);
      if (step.do === 'read') return disk.read(host, first, count);
      return disk.write(host, first, count, step.do === 'trim');
    }
    case 'flush':
    case 'sync':
      return disk.flush(host, step.do);
    case 'look':
      return void disk
        .lookThrough(() => world.anyHost())
        .catch((error: unknown) => world.fail(error, `${disk.path} is looked through`));
    case 'move':
      return;
    case 'fetch':
      return disk.administer(host, 'fetch', post('vdisk/move', { path: disk.path, to: host.id }));
    case 'pin':
    case 'unpin': {
      const pinned = step.do === 'pin' ? '1' : '0';
      return disk.administer(host, step.do, post('vdisk/pin', { path: disk.path, pinned }));
    }
    case 'compact':
    case 'flatten':
      return disk.administer(host, step.do, post(`vdisk/${step.do}`, { path: disk.path }));
    case 'acceptLoss':
      return acceptLoss(disk, host);
    case 'snapshot': {
      const name = world.nextName('s');
      return disk.administer(host, `snapshot ${name}`, (daemon) => disk.snapshot(daemon, name));
    }
    case 'grow':
      return grow(world, disk, host, 1 + (step.pick % 8));
    case 'forget':
      return forget(disk, host, step.pick);
    case 'rollBack':
      return kept && !disk.isBusy ? rollBack(world, disk, host, kept) : undefined;
    case 'clone':
      return clone(world, disk, host, step.pick);
  }
}

const post = (what: string, query: Readonly<Record<string, string>>) => async (daemon: Daemon) =>
  void (await daemon.endpoints[`POST /v1/${what}`]?.(new URLSearchParams(query)));

/** Of one that has grown nobody would know how large it is. */
function acceptLoss(disk: SimDisk, host: SimHost): void {
  if (disk.unitsAsked > 0) return;
  disk.holders.mayBeGivenUp = true;
  const query = { path: disk.path, acceptLoss: '1' };
  disk.administer(host, 'accept loss', post('vdisk/takeover', query));
}

function forget(disk: SimDisk, host: SimHost, pick: number): void {
  const [kept] = disk.snapshots.splice(pick % Math.max(1, disk.snapshots.length), 1);
  if (!kept) return;
  const query = { path: disk.path, name: kept.name };
  disk.administer(host, `forget ${kept.name}`, post('vdisk/snapshot/delete', query));
}

/** A clone is a disk like others from then on. */
function clone(world: SimWorld, disk: SimDisk, host: SimHost, pick: number): void {
  if (world.disks.length >= disksMax) return;
  const kept = disk.snapshots[pick % disk.snapshots.length];
  if (!kept) return;
  const to = `/${world.nextName('clone')}.raw`;
  disk.administer(host, `clone ${kept.name}`, async (daemon) => {
    await post('vdisk/clone', { path: disk.path, name: kept.name, to })(daemon);
    await disk.checkSnapshot(daemon, kept);
    const { unitBytes } = disk.history;
    const values = await disk.valuesAt(daemon, to, kept.units);
    const different = differentUnit(values, kept.values ?? []);
    if (different >= 0)
      throw new Violation(`${to}, unit ${different}: is not what ${kept.name} is`);
    // What it is damaged in nobody follows.
    if (disk.rot.isAny) return;
    const { number, strideBytes } = disk;
    await world.addDisk(daemon, to, { number, unitBytes, strideBytes, values });
    world.counts.clones += 1;
  });
}

function misfortune(world: SimWorld, step: Misfortune): void {
  const { scheduler, network, registryFaults, store } = world;
  const { faults } = store;
  const later = (act: () => void) => scheduler.after(forMsOf(step), `end of ${step.do}`, act);
  const during = (names: Set<string>, name: string) => {
    names.add(name);
    later(() => names.delete(name));
  };
  /** What it is without faults comes back, whoever has changed it meanwhile. */
  const change = <K extends string, V extends number | boolean>(
    of: Record<K, V>,
    what: K,
    to: V,
  ) => {
    of[what] = to;
    later(() => {
      of[what] = (typeof to === 'boolean' ? false : 0) as V;
    });
  };
  switch (step.do) {
    case 'kill':
    case 'cutPower':
    case 'stopHost':
      return end(world, step.do, world.host(step.host), step.forMs);
    case 'dieInWrite': {
      const host = world.host(step.host);
      const act = () => end(world, step.how, host, step.forMs);
      host.inDiskChange = { left: step.after, act };
      return;
    }
    case 'blackout':
      for (const [index, host] of [...world.hosts.values()].entries())
        end(world, 'cutPower', host, step.forMs[index] ?? 0);
      return;
    case 'ambush':
      return ambush(world, step);
    case 'drain':
      return drain(world, world.host(step.host), step.forMs);
    case 'pause': {
      const { process } = world.host(step.host);
      world.coverage.strike(step.host, 'pause');
      process?.stop();
      return later(() => process?.resume());
    }
    case 'cutLink':
      network.cut(step.from, step.to);
      return later(() => network.mend(step.from, step.to));
    case 'island':
      isolate(world, step);
      during(registryFaults.deafTo, step.host);
      return during(faults.deafTo, step.host);
    case 'cutRegistry':
      return during(registryFaults.deafTo, step.host);
    case 'muteRegistry':
      return during(registryFaults.unheardBy, step.host);
    case 'cutStore':
      return during(faults.deafTo, step.host);
    case 'registryAway':
      return change(registryFaults, 'isAway', true);
    case 'registryForgets':
      return change(registryFaults, 'forgets', true);
    case 'changeLeader':
      // No lease ends without a leader, and a new one gives each its whole time anew.
      world.registry.extendLeases(step.forMs);
      return change(registryFaults, 'isAway', true);
    case 'storeAway':
      return change(faults, 'isAway', true);
    case 'storeFull':
      return change(faults, 'isFull', true);
    case 'storeFlips':
      return change(faults, 'flips', step.chance);
    case 'staleStore':
      return change(faults, 'staleMs', step.ms);
    case 'registryTrouble':
      return change(registryFaults, 'trouble', step.chance);
    case 'storeTrouble':
      return change(faults, 'trouble', step.chance);
    case 'networkTrouble':
      return change(network, 'trouble', step.chance);
    case 'slowNetwork':
      return change(network, 'slowMs', step.ms);
    case 'slowStore':
      return change(faults, 'slowMs', step.ms);
    case 'slowRegistry':
      return change(registryFaults, 'slowMs', step.ms);
    case 'jumpClock':
      world.host(step.host).clockFaults.wallOffsetMs += step.ms;
      return;
    case 'flipCache':
      return flipCache(world.host(step.host), step.pick);
    case 'rot':
      return rot(world, world.host(step.host), step.pick);
    case 'failSync':
      return failSync(world, step);
    case 'fillDisk': {
      const { disk } = world.host(step.host);
      disk.faults.freeBytes = step.freeBytes;
      return later(() => {
        disk.faults.freeBytes = Number.POSITIVE_INFINITY;
      });
    }
  }
}

const forMsOf = (step: Step) =>
  'forMs' in step && typeof step.forMs === 'number' ? step.forMs : 0;

function ambush(
  world: SimWorld,
  { step, what, pick, afterMs, forMs }: Extract<Step, { readonly do: 'ambush' }>,
): void {
  world.coverage.lieInWait(step, (hosts) => {
    const host = hosts[pick % hosts.length] as string;
    if (what === 'late') return void world.registryFaults.lateFrom.add(host);
    world.scheduler.after(afterMs, `ambush at ${step}`, () => {
      if (!world.coverage.isArmed) return;
      if (world.isVerbose) world.note('step', `ambush at ${step}: ${what} ${host}`);
      const { nowMs: atMs } = world.scheduler;
      if (what === 'isolate') return isolate(world, { host, forMs, atMs });
      if (what === 'reset') return world.network.reset(host, forMs / 10);
      if (what !== 'blackout') return misfortune(world, { do: what, host, forMs, atMs });
      // The one that it is about comes back last.
      const offMs = hostNames.map((name) => (name === host ? forMs : forMs / 2));
      return misfortune(world, { do: what, forMs: offMs, atMs });
    });
  });
}

/** From the other hosts. */
function isolate(
  world: SimWorld,
  { host, forMs, atMs }: { readonly host: string; readonly forMs: number; readonly atMs: number },
): void {
  for (const other of hostNames.filter((name) => name !== host)) {
    misfortune(world, { do: 'cutLink', from: host, to: other, forMs, atMs });
    misfortune(world, { do: 'cutLink', from: other, to: host, forMs, atMs });
  }
}

function end(
  world: SimWorld,
  how: 'kill' | 'cutPower' | 'stopHost',
  host: SimHost,
  forMs: number,
): void {
  const restart = () => world.scheduler.after(forMs, `${host.id} comes back`, () => host.start());
  if (how === 'stopHost') return void host.stop().then(restart);
  if (how === 'kill') {
    host.kill();
    world.counts.kills += 1;
  } else {
    host.cutPower(forMs);
    world.counts.powerCuts += 1;
    for (const disk of world.disks) disk.cutPower(host);
  }
  restart();
}

/** A byte of the read cache, which is never trusted. */
function flipCache({ disk }: SimHost, pick: number): void {
  const folder = '/data/cache';
  const [name] = disk.list(folder);
  if (name !== undefined) disk.flip(`${folder}/${name}`, pick * 997, 1);
}

/** What its page cache has, and the SSD has not, is there until the power goes. */
function failSync(
  world: SimWorld,
  { host: name, count, how, forMs }: Extract<Step, { readonly do: 'failSync' }>,
): void {
  const host = world.host(name);
  const { process } = host;
  host.disk.faults.failingSyncs = count;
  world.counts.ssdFailures += 1;
  world.scheduler.after(forMs, `end of failSync`, () => {
    if (host.hasFailedSsd && host.process === process) end(world, how, host, restartMs);
  });
}

/** All that the host has is handed over, and for a while it takes nothing. */
function drain(world: SimWorld, host: SimHost, forMs: number): void {
  const { daemon } = host;
  if (!daemon) return;
  const ask = (off: string) => {
    const asked = daemon.endpoints['POST /v1/host/drain']?.(new URLSearchParams({ off }));
    asked?.catch((error: unknown) => {
      if (host.daemon === daemon) world.fail(error, `drain of ${host.id}`);
    });
  };
  ask('0');
  world.counts.drains += 1;
  world.scheduler.after(forMs, `end of drain`, () => {
    if (host.daemon === daemon) ask('1');
  });
}
