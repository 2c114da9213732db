/** What is said of an input of which a decoder makes something wrong. */

import type { Finding, Target } from './target.ts';

export function describeFinding({ name }: Target, seed: number, finding: Finding): string {
  const { input, error } = finding;
  const hex = Buffer.from(input).toString('hex');
  const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return [
    `${name}, seed ${seed}: ${what}`,
    `${input.length} bytes: ${hex}`,
    `again: npm run fuzz -- --decoder ${name} --input '${hex}'`,
  ].join('\n');
}
