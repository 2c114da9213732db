/**
 * The shortest plan that still breaks the same promise: steps are left out, many at first, as long as it
 * does (Zeller's delta debugging, in the simple form).
 */

import type { Plan, Step } from './plan.ts';
import type { SeedResult } from './seed.ts';
import { runSeed } from './seed.ts';

const runsMax = 300;

/** What was broken, without the numbers of the one run. */
export function promiseOf(failure: Error): string {
  return failure.message.replaceAll(/\d+/g, '#').slice(0, 60);
}

export async function shrunk(
  seed: number,
  plan: Plan,
  failure: Error,
): Promise<{
  readonly plan: Plan;
  readonly result: SeedResult | undefined;
  readonly runs: number;
}> {
  const promise = promiseOf(failure);
  let steps: readonly Step[] = plan.steps;
  let result: SeedResult | undefined;
  let runs = 0;
  for (let length = Math.ceil(steps.length / 2); length >= 1; ) {
    let isShorter = false;
    for (let start = 0; start < steps.length && runs < runsMax; ) {
      const fewer = [...steps.slice(0, start), ...steps.slice(start + length)];
      runs += 1;
      const attempt = await runSeed(seed, { plan: { ...plan, steps: fewer } });
      if (attempt.failure && promiseOf(attempt.failure) === promise) {
        [steps, result, isShorter] = [fewer, attempt, true];
      } else start += length;
    }
    if (runs >= runsMax) break;
    if (length === 1 && !isShorter) break;
    length = length === 1 ? 1 : Math.ceil(length / 2);
  }
  return { plan: { ...plan, steps }, result, runs };
}
