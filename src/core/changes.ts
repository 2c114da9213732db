/**
 * Whether a change that was acknowledged once is still there. Changes of an object are numbered
 * without end, over all its tenures. A tenure goes on behind the last change that it has found; what
 * an earlier one had beyond that is lost, and its numbers are given to other changes.
 */

export interface Change {
  /** Of the tenure that acknowledged it. */
  readonly epoch: number;
  readonly number: number;
}

/** A tenure and the last change that it began with. */
export interface TenureStart {
  readonly epoch: number;
  readonly after: number;
}

/** So many starts are remembered. */
export const tenureStartsMax = 16;

/**
 * With a tenure that begins, or whose first change is found. What a later one has known of it is
 * there already; tenures of which nothing is left go.
 */
export function withStart(
  starts: readonly TenureStart[],
  start: TenureStart,
): readonly TenureStart[] {
  if ((starts.at(-1)?.epoch ?? 0) >= start.epoch) return starts;
  return [...starts.filter(({ after }) => after < start.after), start].slice(-tenureStartsMax);
}

/** Whether each of them is of a later tenure than the one before, and has found more. */
export function areStarts(starts: readonly TenureStart[]): boolean {
  const isNext = ({ epoch, after }: TenureStart, index: number) => {
    const before = starts[index - 1];
    return !before || (epoch > before.epoch && after > before.after);
  };
  return starts.length <= tenureStartsMax && starts.every(isNext);
}

/** No tenure after its own has begun with less. Of what came before all that are known it is not said. */
export function isThere(starts: readonly TenureStart[], { epoch, number }: Change): boolean {
  const next = starts.findIndex((start) => start.epoch > epoch);
  return next < 0 || (next > 0 && (starts[next] as TenureStart).after >= number);
}
