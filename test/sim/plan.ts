/**
 * What clients, administrators and misfortune do in one run, all of it decided beforehand from the
 * seed: so a run is repeated to the letter, and made shorter by leaving steps out.
 */

import { MiB } from '../../src/core/units.ts';
import type { Random } from '../../src/ports/random.ts';
import type { ProtocolStep } from './protocol.ts';
import { protocolSteps } from './protocol.ts';

export const hostNames = ['a', 'b', 'c'] as const;

export type Step = { readonly atMs: number } & Action;

export type Action =
  | {
      readonly do: 'write' | 'read' | 'trim';
      readonly disk: number;
      readonly host: string;
      readonly first: number;
      readonly count: number;
    }
  | { readonly do: 'flush' | 'sync' | 'look'; readonly disk: number; readonly host: string }
  /** The VM goes on at this host. */
  | {
      readonly do: 'move' | 'fetch' | 'pin' | 'unpin';
      readonly disk: number;
      readonly host: string;
    }
  | {
      readonly do: 'snapshot' | 'forget' | 'rollBack' | 'clone' | 'grow';
      readonly disk: number;
      readonly host: string;
      /** Which one of those that there are. */
      readonly pick: number;
    }
  | { readonly do: 'compact' | 'flatten'; readonly disk: number; readonly host: string }
  | {
      readonly do: 'putFile' | 'readFile' | 'removeFile';
      readonly file: number;
      readonly host: string;
    }
  | { readonly do: 'append'; readonly host: string }
  | { readonly do: 'readLog'; readonly host: string }
  | { readonly do: 'snapshotVm'; readonly host: string }
  | { readonly do: 'forgetVm'; readonly host: string; readonly pick: number }
  | { readonly do: 'lock'; readonly host: string; readonly forMs: number }
  | { readonly do: 'drain'; readonly host: string; readonly forMs: number }
  | { readonly do: 'kill' | 'cutPower' | 'stopHost'; readonly host: string; readonly forMs: number }
  | {
      readonly do: 'dieInWrite';
      readonly how: 'kill' | 'cutPower';
      readonly host: string;
      readonly after: number;
      readonly forMs: number;
    }
  /** All hosts lose power at once, and come back one by one. */
  | { readonly do: 'blackout'; readonly forMs: readonly number[] }
  | { readonly do: 'pause'; readonly host: string; readonly forMs: number }
  /** Nothing that the host sends reaches anybody, and nothing reaches it. */
  | { readonly do: 'island'; readonly host: string; readonly forMs: number }
  /** The next time that somebody takes the step, it happens to one of those who take part. */
  | {
      readonly do: 'ambush';
      readonly step: ProtocolStep;
      readonly what: Ambush;
      readonly pick: number;
      readonly afterMs: number;
      readonly forMs: number;
    }
  | { readonly do: 'cutLink'; readonly from: string; readonly to: string; readonly forMs: number }
  | {
      readonly do: 'cutRegistry' | 'muteRegistry' | 'cutStore';
      readonly host: string;
      readonly forMs: number;
    }
  | {
      readonly do: 'registryAway' | 'registryForgets' | 'storeAway' | 'storeFull';
      readonly forMs: number;
    }
  | {
      readonly do: 'registryTrouble' | 'storeTrouble' | 'storeFlips' | 'networkTrouble';
      readonly chance: number;
      readonly forMs: number;
    }
  | {
      readonly do: 'slowNetwork' | 'slowStore' | 'staleStore';
      readonly ms: number;
      readonly forMs: number;
    }
  | { readonly do: 'jumpClock'; readonly host: string; readonly ms: number }
  | { readonly do: 'flipCache'; readonly host: string; readonly pick: number }
  /** The next so many fdatasyncs fail; the daemon is started again after `forMs`. */
  | {
      readonly do: 'failSync';
      readonly host: string;
      readonly count: number;
      readonly how: 'kill' | 'stopHost';
      readonly forMs: number;
    }
  | {
      readonly do: 'fillDisk';
      readonly host: string;
      readonly freeBytes: number;
      readonly forMs: number;
    };

const ambushes = [
  ...(['kill', 'cutPower', 'pause', 'isolate', 'cutRegistry', 'muteRegistry', 'cutStore'] as const),
  ...(['island', 'reset', 'blackout', 'blackout', 'cutPower', 'pause', 'pause'] as const),
] as const;
export type Ambush = (typeof ambushes)[number];

export interface DiskPlan {
  readonly units: number;
  readonly unitBytes: number;
  /** From one unit to the next: more than it has bytes where the map is to have many pages. */
  readonly strideBytes: number;
}

export interface Plan {
  readonly disks: readonly DiskPlan[];
  readonly steps: readonly Step[];
  /** When faults stop. */
  readonly endMs: number;
}

const troubles = ['registryTrouble', 'storeTrouble', 'storeFlips', 'networkTrouble'] as const;
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
  #nowMs = 0;

  constructor(random: Random) {
    this.#random = random;
    this.#disks = Array.from({ length: 1 + this.#below(3) }, () => {
      this.#homes.push(this.#any(hostNames));
      const unitBytes = this.#any([4096, 4096, 1024]);
      const isSparse = this.#chance(0.2);
      const units = isSparse ? this.#any([24, 80]) : this.#any([8, 24, 64]);
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

  #useDisk(at?: string): void {
    const disk = this.#below(this.#disks.length);
    const home = this.#homes[disk] as string;
    const host = at ?? (this.#chance(0.9) ? home : this.#any(hostNames));
    const { units, unitBytes, strideBytes } = this.#disks[disk] as DiskPlan;
    const first = this.#below(units);
    const count = 1 + this.#below(Math.min(this.#chance(0.8) ? 4 : units, units - first));
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
    else if (what === 'forgetVm') this.#add({ do: what, host, pick });
    else if (what === 'snapshot' || what === 'forget' || what === 'rollBack' || what === 'clone')
      this.#add({ do: what, disk, host, pick });
    else if (what === 'grow') this.#add({ do: what, disk, host, pick });
    else this.#add({ do: what, disk, host });
  }

  /** What goes wrong, what people do meanwhile, and what else goes wrong for it. */
  #trouble(): void {
    const host = this.#any(hostNames);
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
        do: this.#any(['registryAway', 'registryForgets', 'storeAway', 'storeFull']),
        forMs,
      });
    else if (fate < 15)
      this.#add({
        ...{ do: this.#any(troubles), forMs },
        chance: this.#any([0.02, 0.1, 0.4]),
      });
    else if (fate < 17)
      this.#add({
        ...{ do: this.#any(['slowNetwork', 'slowStore', 'staleStore'] as const), forMs },
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
