/**
 * What clients, administrators and misfortune do in one run, all of it decided beforehand from the
 * seed: so a run is repeated to the letter, and made shorter by leaving steps out.
 */

import type { ProtocolStep } from './protocol.ts';

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
  | {
      readonly do: 'compact' | 'flatten' | 'acceptLoss';
      readonly disk: number;
      readonly host: string;
    }
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
      readonly do: 'registryAway' | 'registryForgets' | 'changeLeader' | 'storeAway' | 'storeFull';
      readonly forMs: number;
    }
  | {
      readonly do: 'registryTrouble' | 'storeTrouble' | 'storeFlips' | 'networkTrouble';
      readonly chance: number;
      readonly forMs: number;
    }
  | {
      readonly do: 'slowNetwork' | 'slowStore' | 'staleStore' | 'slowRegistry';
      readonly ms: number;
      readonly forMs: number;
    }
  | { readonly do: 'jumpClock'; readonly host: string; readonly ms: number }
  | { readonly do: 'flipCache' | 'rot'; readonly host: string; readonly pick: number }
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

export const ambushes = [
  ...(['kill', 'cutPower', 'pause', 'isolate', 'cutRegistry', 'muteRegistry', 'cutStore'] as const),
  ...([
    'island',
    'reset',
    'late',
    'late',
    'blackout',
    'blackout',
    'cutPower',
    'pause',
    'pause',
  ] as const),
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
