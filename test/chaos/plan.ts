/**
 * What is done to the hosts, and when: all of it from the seed, so that a seed gives the same run of
 * faults again, though not the same run of Wharf.
 */

import { seededRandom } from '../../src/platform/random.ts';

export const hostNames = ['a', 'b', 'c'] as const;
export type HostName = (typeof hostNames)[number];
export const diskCount = 3;
/** Of the daemons' leases. A pause or cut that is longer costs a host what it owns. */
export const leaseMs = 4000;

/** What a fault is done to: of two faults at once, each has a thing of its own. */
type Thing = 'daemon' | 'links' | 'way' | 'ssd' | 'etcd' | 'store' | 'none';

interface Kind {
  /** How often, among all. */
  readonly weight: number;
  readonly thing: Thing;
  /** Between these two, evenly. */
  readonly forMs: readonly [min: number, max: number];
}

export const kinds = {
  kill: { weight: 4, thing: 'daemon', forMs: [100, 3 * leaseMs] },
  'stop-short': { weight: 2, thing: 'daemon', forMs: [200, 2000] },
  'stop-long': { weight: 2, thing: 'daemon', forMs: [leaseMs + 1000, leaseMs + 5000] },
  drain: { weight: 2, thing: 'daemon', forMs: [0, 0] },
  'cut-all': { weight: 2, thing: 'links', forMs: [500, 3 * leaseMs] },
  'cut-peers': { weight: 2, thing: 'links', forMs: [500, 2 * leaseMs] },
  'cut-registry': { weight: 1, thing: 'links', forMs: [500, 3 * leaseMs] },
  'lose-to-peer': { weight: 2, thing: 'way', forMs: [500, 2 * leaseMs] },
  'lose-to-etcd': { weight: 1, thing: 'way', forMs: [500, 2 * leaseMs] },
  'lose-to-store': { weight: 1, thing: 'way', forMs: [500, 2 * leaseMs] },
  'etcd-kill': { weight: 2, thing: 'etcd', forMs: [500, leaseMs] },
  'etcd-kill-two': { weight: 1, thing: 'etcd', forMs: [500, 2 * leaseMs] },
  'store-kill': { weight: 2, thing: 'store', forMs: [500, 3 * leaseMs] },
  'store-stop': { weight: 2, thing: 'store', forMs: [500, 3 * leaseMs] },
  'ssd-full': { weight: 2, thing: 'ssd', forMs: [1000, leaseMs] },
  move: { weight: 3, thing: 'none', forMs: [0, 0] },
  snapshot: { weight: 3, thing: 'none', forMs: [0, 0] },
  clone: { weight: 2, thing: 'none', forMs: [0, 0] },
  compact: { weight: 2, thing: 'none', forMs: [0, 0] },
} as const satisfies Record<string, Kind>;

export type KindName = keyof typeof kinds;

/** Every step names all that a kind may need; a kind uses what it needs. */
export interface Step {
  readonly kind: KindName;
  /** Since the round began. */
  readonly atMs: number;
  readonly forMs: number;
  readonly host: HostName;
  /** Another host. */
  readonly other: HostName;
  /** A member of etcd, by its index. */
  readonly member: number;
  readonly disk: number;
}

export type Round = readonly Step[];

const stepsMin = 2;
const stepsMax = 6;
/** Steps of a round that are done to the same host: trouble seldom comes alone. */
const shareOfVictim = 0.5;
const beginsWithinMs = 4000;

const weights = Object.entries(kinds).flatMap(([name, { weight }]) =>
  Array.from({ length: weight }, () => name as KindName),
);

/** Rounds without end; whoever uses them says when it is enough. */
export function* roundsOf(seed: number): Generator<Round, never> {
  const random = seededRandom(seed);
  const pick = <T>(from: readonly T[]) => from[Math.floor(random.fraction() * from.length)] as T;
  const between = (min: number, max: number) => Math.round(min + random.fraction() * (max - min));
  const step = (victim: HostName): Step => {
    const kind = pick(weights);
    const host = random.fraction() < shareOfVictim ? victim : pick(hostNames);
    const [min, max] = kinds[kind].forMs;
    return {
      ...{ kind, host, atMs: between(0, beginsWithinMs), forMs: between(min, max) },
      other: pick(hostNames.filter((name) => name !== host)),
      ...{ member: between(0, 2), disk: between(0, diskCount - 1) },
    };
  };
  for (;;) {
    const victim = pick(hostNames);
    const steps = Array.from({ length: between(stepsMin, stepsMax) }, () => step(victim));
    const taken = new Set<string>();
    yield steps.filter((each) => {
      const thing = thingOf(each);
      if (thing === undefined) return true;
      const isFree = !taken.has(thing);
      taken.add(thing);
      return isFree;
    });
  }
}

function thingOf({ kind, host }: Step): string | undefined {
  const { thing } = kinds[kind];
  if (thing === 'none') return undefined;
  return thing === 'etcd' || thing === 'store' ? thing : `${thing} of ${host}`;
}

const of = {
  host: ({ host }: Step) => ` ${host}`,
  disk: ({ disk, host }: Step) => ` disk ${disk} at ${host}`,
  member: ({ member }: Step) => ` from member ${member} on`,
  store: () => '',
};

const toldOf = {
  ...{ kill: of.host, 'stop-short': of.host, 'stop-long': of.host, drain: of.host },
  ...{ 'cut-all': of.host, 'cut-peers': of.host, 'cut-registry': of.host, 'ssd-full': of.host },
  'lose-to-peer': ({ host, other }) => `, of ${host} to ${other}`,
  ...{ 'lose-to-etcd': of.host, 'lose-to-store': of.host },
  ...{ 'etcd-kill': of.member, 'etcd-kill-two': of.member },
  ...{ 'store-kill': of.store, 'store-stop': of.store },
  move: ({ host, disk }) => ` disk ${disk} to ${host}`,
  ...{ snapshot: of.disk, clone: of.host, compact: of.disk },
} as const satisfies Record<KindName, (step: Step) => string>;

export function describeStep(step: Step): string {
  const lasts = step.forMs === 0 ? '' : ` for ${(step.forMs / 1000).toFixed(1)} s`;
  return `${step.kind}${toldOf[step.kind](step)}${lasts}`;
}
