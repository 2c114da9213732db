/** One run, from its seed. */

import { seededRandom } from '../../src/platform/random.ts';
import { letWorldsGo } from './any-signal.ts';
import type { Plan } from './plan.ts';
import { planOf } from './planner.ts';
import type { Coverage } from './protocol.ts';
import { SimWorld } from './world.ts';

letWorldsGo();

export interface SeedResult {
  readonly seed: number;
  readonly hash: string;
  readonly events: number;
  readonly simulatedMs: number;
  readonly counts: SimWorld['counts'];
  /** How often a fault met a step of a protocol. */
  readonly coverage: Coverage['counts'];
  readonly lines: readonly string[];
  readonly failure: Error | undefined;
}

export async function runSeed(
  seed: number,
  {
    isVerbose = false,
    plan = planOf(seededRandom(seed)),
  }: { isVerbose?: boolean; plan?: Plan } = {},
): Promise<SeedResult> {
  const world = new SimWorld(seed);
  world.isVerbose = isVerbose;
  let failure: Error | undefined;
  await world.run(plan).catch((error: Error) => {
    failure = error;
  });
  const { scheduler, counts, lines, coverage } = world;
  return {
    ...{ seed, counts, lines, failure, events: scheduler.eventCount },
    coverage: coverage.counts,
    hash: scheduler.hash.toString(16).padStart(8, '0'),
    simulatedMs: Math.round(scheduler.nowMs),
  };
}
