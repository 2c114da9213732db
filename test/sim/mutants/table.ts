/** All bugs that are planted. */

import { journalMutants } from './journal-mutants.ts';
import type { Mutant } from './mutant.ts';
import { registryMutants } from './registry-mutants.ts';
import { routerMutants } from './router-mutants.ts';
import { volumeMutants } from './volume-mutants.ts';

export const mutants: readonly Mutant[] = [
  ...routerMutants,
  ...journalMutants,
  ...volumeMutants,
  ...registryMutants,
];

/** Nobody has been seen to notice them with the plans of now; some were not tried with these. Run them on: `--missed`. */
export const missed: ReadonlySet<string> = new Set([
  'journal-unverified',
  'margin-zero',
  'attempts-side-by-side',
  'collect-while-read',
  'changed-page-dropped',
]);

/** `undefined`: there is no such bug. */
export function mutantNamed(name: string): Mutant | undefined {
  return mutants.find((mutant) => mutant.name === name);
}
