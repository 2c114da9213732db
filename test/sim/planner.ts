/**
 * Makes plans: what happens by itself, and scenes, which bring about what seldom does. All chance comes from
 * the seed.
 */

import { MiB } from '../../src/core/units.ts';
import type { Random } from '../../src/ports/random.ts';
import type { Action, DiskPlan, Plan, Step } from './plan.ts';
import { ambushes, hostNames } from './plan.ts';
import { protocolSteps } from './protocol.ts';

const troubles = ['registryTrouble', 'storeTrouble', 'storeFlips', 'networkTrouble'] as const;
const slows = ['slowNetwork', 'slowStore', 'staleStore', 'slowRegistry'] as const;
const filesMax = 4;
/** Longer than a lease. */
const longMs = 12_000;
/** While something is wrong. */
const usesMax = 12;
/** How long a host that the registry does not hear serves, and others wait for it, about. */
const leaseEndsMs = [4000, 7500] as const;

class Planner {
  readonly #random: Random;
  readonly #steps: Step[] = [];
  readonly #homes: string[] = [];
  readonly #disks: Plan['disks'];
  /** The only host on whose SSD journals rot, if any. */
  readonly #rotting: string | undefined;
  #nowMs = 0;

  constructor(random: Random) {
    this.#random = random;
    this.#rotting = this.#chance(0.2) ? this.#any(hostNames) : undefined;
    this.#disks = Array.from({ length: 1 + this.#below(3) }, () => {
      this.#homes.push(this.#any(hostNames));
      const unitBytes = this.#any([4096, 4096, 1024]);
      const isSparse = this.#chance(0.2);
      const units = isSparse ? this.#any([24, 120]) : this.#any([8, 24, 64]);
      return { units, unitBytes, strideBytes: isSparse ? MiB : unitBytes };
    });
  }

  plan(): Plan {
    const busyMs = this.#any([2, 20, 100, 400]);
    const faultShare = this.#any([0, 0.02, 0.04, 0.06]);
    const adminShare = this.#any([0.02, 0.06]);
    const stepCount = 80 + this.#below(220);
    for (let step = 0; step < stepCount; step += 1) {
      // Bursts, and pauses in which what waits for idleness has its turn.
      this.#nowMs += this.#chance(0.03) ? this.#below(15_000) : this.#random.fraction() * busyMs;
      const fate = this.#random.fraction();
      if (fate < faultShare) this.#trouble();
      else if (fate < faultShare + adminShare) this.#administer();
      else if (fate < faultShare + adminShare + 0.06) this.#useFile();
      else this.#useDisk();
    }
    return { disks: this.#disks, steps: this.#steps, endMs: this.#nowMs };
  }

  #useDisk(at?: string, disk = this.#below(this.#disks.length)): void {
    const home = this.#homes[disk] as string;
    const host = at ?? (this.#chance(0.9) ? home : this.#any(hostNames));
    const { units } = this.#disks[disk] as DiskPlan;
    const first = this.#below(units);
    const most = Math.min(this.#chance(0.8) ? 4 : units, units - first);
    this.#useUnits(disk, host, first, 1 + this.#below(most));
  }

  #useUnits(disk: number, host: string, first: number, count: number): void {
    const { unitBytes, strideBytes } = this.#disks[disk] as DiskPlan;
    const fate = this.#random.fraction();
    if (fate < 0.5)
      this.#add({ do: 'write', disk, host, first, count: strideBytes > unitBytes ? 1 : count });
    else if (fate < 0.8) this.#add({ do: 'read', disk, host, first, count });
    else if (fate < 0.93) this.#add({ do: 'flush', disk, host });
    else if (fate < 0.97) this.#add({ do: 'trim', disk, host, first, count });
    else if (fate < 0.98) this.#add({ do: 'sync', disk, host });
    else this.#add({ do: 'look', disk, host });
  }

  #useFile(): void {
    const file = this.#below(filesMax);
    const host = this.#any(hostNames);
    if (this.#chance(0.15)) return this.#add({ do: 'lock', host, forMs: this.#below(3000) });
    if (this.#chance(0.3))
      return this.#add({ do: this.#any(['append', 'append', 'readLog']), host });
    if (this.#chance(0.3)) return this.#crowd(file, host);
    const what = this.#any(['putFile', 'readFile', 'readFile', 'removeFile'] as const);
    this.#add({ do: what, file, host });
  }

  /** One changes it while others look. */
  #crowd(file: number, host: string): void {
    this.#add({ do: 'putFile', file, host });
    const pauseMs = this.#any([3, 30]);
    for (let looks = 2 + this.#below(6); looks > 0; looks -= 1) {
      this.#nowMs += this.#random.fraction() * pauseMs;
      this.#add({ do: 'readFile', file, host: this.#any(hostNames) });
    }
  }

  #administer(): void {
    const disk = this.#below(this.#disks.length);
    const host = this.#any(hostNames);
    const pick = this.#below(100);
    const what = this.#any([
      ...(['move', 'move', 'fetch', 'pin', 'unpin', 'snapshot', 'snapshot', 'forget'] as const),
      ...(['rollBack', 'clone', 'compact', 'flatten', 'stopHost'] as const),
      ...(['snapshotVm', 'snapshotVm', 'forgetVm', 'grow', 'drain'] as const),
    ]);
    if (what === 'move') this.#homes[disk] = host;
    if (what === 'stopHost' || what === 'drain')
      this.#add({ do: what, host, forMs: this.#below(longMs) });
    else if (what === 'snapshotVm') this.#add({ do: what, host });
    else if (what === 'clone' && this.#chance(0.5)) this.#cloneAndForget(disk, host, pick);
    else if (what === 'forgetVm') this.#add({ do: what, host, pick });
    else if (what === 'snapshot' || what === 'forget' || what === 'rollBack' || what === 'clone')
      this.#add({ do: what, disk, host, pick });
    else if (what === 'grow') this.#add({ do: what, disk, host, pick });
    else this.#add({ do: what, disk, host });
  }

  /** A clone is left alone with what it reads from its parent, which changes all over. */
  #cloneAndForget(disk: number, host: string, pick: number): void {
    const { units, unitBytes, strideBytes } = this.#disks[disk] as DiskPlan;
    const atOnce = strideBytes > unitBytes ? 1 : 4;
    for (const what of ['snapshot', 'clone', 'forget'] as const) {
      this.#add({ do: what, disk, host, pick });
      this.#nowMs += this.#below(3000);
    }
    for (let first = 0; first < units; first += atOnce) {
      this.#nowMs += 10;
      const count = Math.min(atOnce, units - first);
      this.#add({ do: 'write', disk, host: this.#homes[disk] as string, first, count });
    }
    this.#add({ do: 'sync', disk, host });
    this.#add({ do: 'compact', disk, host });
  }

  /** What goes wrong, what people do meanwhile, and what else goes wrong for it. */
  #trouble(): void {
    const host = this.#any(hostNames);
    this.#rot();
    if (this.#chance(0.5)) return this.#scene(host);
    const forMs = this.#any([this.#below(longMs), this.#below(2000), this.#leaseMs()]);
    this.#fault(host, forMs);
    if (this.#chance(0.4)) return;
    const beganMs = this.#nowMs;
    this.#carryOn(host, forMs);
    if (this.#chance(0.5)) return;
    // Before it is over, or just when all comes back.
    this.#nowMs = Math.max(this.#nowMs, beganMs + forMs * this.#any([0.5, 1, 1]));
    const next = this.#any([host, ...hostNames]);
    const nextMs = this.#below(longMs);
    const what = this.#any(['stopHost', 'kill', 'cutPower', 'blackout', 'any', 'any'] as const);
    if (what === 'any') this.#fault(next, nextMs);
    else if (what === 'blackout') this.#blackout();
    else this.#add({ do: what, host: next, forMs: nextMs });
    this.#carryOn(next, 1000);
  }

  /** Disks and files are used where something is wrong, and elsewhere: at once, all the time, or when a lease ends. */
  #carryOn(host: string, forMs: number): void {
    const isLong = forMs > leaseEndsMs[1] && this.#chance(0.5);
    if (isLong) this.#nowMs += leaseEndsMs[0];
    const spanMs = isLong ? leaseEndsMs[1] - leaseEndsMs[0] : this.#any([300, forMs]);
    for (let uses = 0; uses < usesMax; uses += 1) {
      this.#nowMs += (this.#random.fraction() * 2 * spanMs) / usesMax;
      if (this.#chance(0.1)) this.#useFile();
      else this.#useDisk(this.#any([host, host, undefined, ...hostNames]));
    }
  }

  /** Mostly about a disk and the host that has it. */
  #scene(any: string): void {
    const disk = this.#below(this.#disks.length);
    const host = this.#chance(0.7) ? (this.#homes[disk] as string) : any;
    const scenes = [
      () => this.#inTheMidst(disk, host),
      () => this.#inTheMidst(disk, host),
      () => this.#leaseEnds(disk, host),
      () => this.#stopInOutage(disk, host),
      () => this.#giveUp(disk, host),
      () => this.#giveUp(disk, host),
      () => this.#overwriteRead(disk, host),
      () => this.#writeLog(host),
    ];
    this.#any(scenes)();
  }

  /** It strikes while much is under way at one host, all of it about the same few units. */
  #inTheMidst(disk: number, host: string): void {
    const spot = this.#below((this.#disks[disk] as DiskPlan).units - 1);
    const pauseMs = this.#any([0.05, 0.5, 5]);
    const strike = 3 + this.#below(8);
    const forMs = this.#any([this.#below(300), this.#leaseMs(), longMs]);
    const use = (at: string) => this.#useUnits(disk, at, spot + this.#below(2), 1);
    for (let uses = 0; uses < 16; uses += 1) {
      if (uses === 12) this.#rot();
      this.#nowMs += this.#random.fraction() * pauseMs;
      if (uses === strike) this.#strike(host, forMs);
      use(this.#chance(0.8) ? host : this.#any(hostNames));
    }
    this.#nowMs += this.#random.fraction() * forMs;
    for (let uses = 0; uses < 4; uses += 1) use(this.#any(hostNames));
  }

  #strike(host: string, forMs: number): void {
    const what = this.#any([
      ...(['kill', 'cutPower', 'pause', 'pause', 'island', 'cutRegistry', 'break'] as const),
    ]);
    if (what === 'break') this.#add({ do: 'networkTrouble', chance: 0.5, forMs: 10 });
    else this.#add({ do: what, host, forMs });
  }

  /**
   * The host's lease runs out while it is read there, and somebody else waits for it: few, or a disk has more to do
   * than it takes.
   */
  #leaseEnds(disk: number, host: string): void {
    const { units } = this.#disks[disk] as DiskPlan;
    const what = this.#any(['island', 'island', 'island', 'cutRegistry', 'muteRegistry'] as const);
    const waitMs = this.#below(1500);
    this.#add({ do: 'fetch', disk, host });
    for (let uses = 0; uses < 6; uses += 1) this.#useDisk(host, disk);
    this.#nowMs += this.#below(2000);
    this.#add({ do: what, host, forMs: leaseEndsMs[1] + this.#below(4000) });
    this.#nowMs += waitMs;
    for (const other of hostNames) if (other !== host) this.#useDisk(other, disk);
    this.#nowMs += leaseEndsMs[0] - waitMs;
    for (let reads = 0; reads < 24; reads += 1) {
      this.#nowMs += (leaseEndsMs[1] - leaseEndsMs[0]) / 24;
      this.#add({ do: 'read', disk, host, first: this.#below(units), count: 1 });
    }
    for (let uses = 0; uses < 4; uses += 1) this.#useDisk(this.#any(hostNames), disk);
  }

  /** A host stops and does not get rid of what it has. */
  #stopInOutage(disk: number, host: string): void {
    const forMs = 15_000 + this.#below(15_000);
    const what = this.#any(['storeAway', 'storeFull', 'cutStore', 'registryAway'] as const);
    this.#add(what === 'cutStore' ? { do: what, host, forMs } : { do: what, forMs });
    for (let uses = 0; uses < 6; uses += 1) {
      this.#nowMs += this.#below(300);
      this.#useDisk(host, disk);
    }
    this.#add({ do: this.#any(['stopHost', 'drain']), host, forMs: this.#below(longMs) });
    this.#carryOn(host, forMs);
  }

  /** What is still being read at a host that has just got it is overwritten, and won back. */
  #overwriteRead(disk: number, host: string): void {
    const spot = this.#below((this.#disks[disk] as DiskPlan).units - 3);
    this.#add({ do: 'fetch', disk, host });
    this.#nowMs += 500;
    for (let round = 0; round < 3; round += 1) {
      for (const what of ['read', 'write'] as const)
        for (let unit = spot; unit < spot + 3; unit += 1)
          this.#add({ do: what, disk, host, first: unit, count: 1 });
      this.#nowMs += 2;
      this.#add({ do: 'sync', disk, host });
      this.#nowMs += this.#below(600);
    }
  }

  /** An administrator goes on without what a host has, which comes back with it. */
  #giveUp(disk: number, host: string): void {
    const other = this.#any(hostNames.filter((name) => name !== host));
    const what = this.#any(['island', 'island', 'island', 'pause', 'cutPower'] as const);
    const use = (at: string) => {
      for (let uses = 0; uses < 6; uses += 1) {
        this.#nowMs += this.#below(200);
        this.#useDisk(at, disk);
      }
    };
    this.#add({ do: 'fetch', disk, host });
    this.#nowMs += this.#below(1000);
    this.#add({ do: what, host, forMs: longMs });
    use(host);
    this.#nowMs += leaseEndsMs[1];
    this.#add({ do: 'acceptLoss', disk, host: other });
    use(other);
    this.#nowMs += longMs - leaseEndsMs[1];
    if (this.#chance(0.8)) this.#add({ do: 'stopHost', host: other, forMs: this.#below(longMs) });
    use(host);
  }

  /** All append to the log while connections break, and something happens to a host. */
  #writeLog(host: string): void {
    this.#add({ do: 'networkTrouble', chance: this.#any([0.1, 0.4]), forMs: 500 });
    for (let lines = 0; lines < 12; lines += 1) {
      this.#nowMs += this.#random.fraction() * 50;
      if (lines === 6 && this.#chance(0.5)) this.#strike(host, this.#below(2000));
      this.#add({ do: 'append', host: this.#any(hostNames) });
    }
  }

  #fault(host: string, forMs: number): void {
    const fate = this.#below(36);
    if (fate < 3) this.#add({ do: 'kill', host, forMs });
    else if (fate < 5) this.#add({ do: 'cutPower', host, forMs });
    else if (fate < 7)
      this.#add({
        ...{ do: 'dieInWrite', how: this.#any(['kill', 'cutPower']), host, forMs },
        after: 1 + this.#below(30),
      });
    else if (fate < 9) this.#add({ do: 'pause', host, forMs });
    else if (fate < 10) this.#cutLinks(host, forMs);
    else if (fate < 11)
      this.#add({ do: this.#any(['cutRegistry', 'muteRegistry', 'cutStore']), host, forMs });
    else if (fate < 12)
      this.#add({
        do: this.#any([
          'registryAway',
          'registryForgets',
          'changeLeader',
          'storeAway',
          'storeFull',
        ]),
        forMs,
      });
    else if (fate < 15)
      this.#add({
        ...{ do: this.#any(troubles), forMs },
        chance: this.#any([0.02, 0.1, 0.4]),
      });
    else if (fate < 17)
      this.#add({
        ...{ do: this.#any(slows), forMs },
        ms: this.#any([20, 300, 3000]),
      });
    else if (fate < 18) this.#add({ do: 'jumpClock', host, ms: this.#below(20_000) - 10_000 });
    else if (fate < 19) this.#add({ do: 'flipCache', host, pick: this.#below(1000) });
    else if (fate < 21) this.#blackout();
    else if (fate < 23) this.#add({ do: 'island', host, forMs });
    else if (fate < 24)
      this.#add({
        ...{ do: 'failSync', host, forMs, count: 1 + this.#below(3) },
        how: this.#any(['kill', 'stopHost']),
      });
    else if (fate < 25)
      this.#add({ do: 'fillDisk', host, forMs, freeBytes: this.#below(2) * 65_536 });
    else for (let traps = 1 + this.#below(4); traps > 0; traps -= 1) this.#ambush();
  }

  #rot(): void {
    if (this.#rotting === undefined) return;
    for (let flips = 1 + this.#below(3); flips > 0; flips -= 1) {
      this.#nowMs += this.#below(200);
      this.#add({ do: 'rot', host: this.#rotting, pick: this.#below(100_000) });
    }
  }

  #blackout(): void {
    this.#add({ do: 'blackout', forMs: hostNames.map(() => this.#below(longMs)) });
  }

  #ambush(): void {
    const briefMs = this.#below(this.#any([300, 3000]));
    const forMs = this.#any([briefMs, this.#below(longMs + 3000), this.#leaseMs()]);
    this.#add({
      ...{ do: 'ambush', step: this.#any(protocolSteps), what: this.#any(ambushes), forMs },
      ...{ pick: this.#below(2), afterMs: this.#random.fraction() * this.#any([0, 0.5, 5, 50]) },
    });
  }

  /** One way, both, or to all others. */
  #cutLinks(host: string, forMs: number): void {
    const others = hostNames.filter((name) => name !== host);
    const cut = this.#chance(0.5) ? others : others.slice(0, 1);
    for (const other of cut) {
      this.#add({ do: 'cutLink', from: host, to: other, forMs });
      if (this.#chance(0.7)) this.#add({ do: 'cutLink', from: other, to: host, forMs });
    }
  }

  #add(action: Action): void {
    this.#steps.push({ atMs: this.#nowMs, ...action });
  }

  /** Just so long that others may or may not take what the host has. */
  #leaseMs(): number {
    return leaseEndsMs[0] + this.#below(leaseEndsMs[1] - leaseEndsMs[0]);
  }

  #below(bound: number): number {
    return Math.floor(this.#random.fraction() * bound);
  }

  #chance(chance: number): boolean {
    return this.#random.fraction() < chance;
  }

  #any<T>(of: readonly T[]): T {
    return of[this.#below(of.length)] as T;
  }
}

export function planOf(random: Random): Plan {
  return new Planner(random).plan();
}
