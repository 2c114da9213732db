/**
 * Holds a run beside the last one that was accepted, ratio by ratio. What a ratio may be worse by is
 * what its samples were apart, then and now: that much is the machine. Where they were too far apart
 * to say anything, that is what is said.
 */

import type { Figure, Target } from './report.ts';
import { inShort, percentile, valueOf } from './report.ts';

/** A ratio of a run. */
export type Accepted = Pick<Figure, 'bench' | 'title' | 'name' | 'samples'> & {
  readonly target: Target;
};

export interface Finding {
  readonly kind: 'worse' | 'gone' | 'unsure';
  readonly text: string;
}

/** However close the samples are. */
const toleranceMin = 0.1;
/** Beyond it nothing would be found to be worse. */
const toleranceMax = 0.5;

/** What later runs are compared with: ratios that were measured and have a better side. */
export function acceptable(figures: readonly Figure[]): Accepted[] {
  return figures.flatMap(({ bench, title, name, samples, target, isRatio }) =>
    isRatio && target && samples.every(Number.isFinite)
      ? [{ bench, title, name, samples, target }]
      : [],
  );
}

/** `ran`: the benches of this run; of others nothing is missed. */
export function compareWith(
  accepted: readonly Accepted[],
  figures: readonly Figure[],
  ran: readonly string[],
): Finding[] {
  const now = new Map(acceptable(figures).map((figure) => [keyOf(figure), figure]));
  return accepted
    .filter(({ bench }) => ran.includes(bench))
    .flatMap((was) => judge(was, now.get(keyOf(was))) ?? []);
}

function judge(was: Accepted, is: Accepted | undefined): Finding | undefined {
  const name = keyOf(was);
  if (!is) return { kind: 'gone', text: `${name}: was measured, and is not` };
  const tolerance = Math.max(toleranceMin, spreadOf(was) + spreadOf(is));
  const [before, after] = [valueOf(was), valueOf(is)];
  const change = after / before - 1;
  const text = `${name}: was ${inShort(before)}, is ${inShort(after)}`;
  const isWorseBy = was.target.is === 'at least' ? -change : change;
  if (isWorseBy > Math.min(tolerance, toleranceMax))
    return { kind: 'worse', text: `${text}, may change by ${inShort(tolerance * 100)} %` };
  const doubt = `samples are ${inShort(tolerance * 100)} % apart`;
  return tolerance > toleranceMax ? { kind: 'unsure', text: `${text}, but ${doubt}` } : undefined;
}

/** Half of what the samples are apart, as a share of their median. */
function spreadOf({ samples }: Pick<Figure, 'samples'>): number {
  return (Math.max(...samples) - Math.min(...samples)) / 2 / percentile(samples, 0.5);
}

function keyOf({ bench, title, name }: Pick<Figure, 'bench' | 'title' | 'name'>): string {
  return `${bench}, ${title}: ${name}`;
}
