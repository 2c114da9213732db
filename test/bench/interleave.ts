/**
 * Takes samples of several things in turns, so that what disturbs the machine for a while disturbs
 * all of them. Every other round runs backwards: nobody always comes behind the same neighbour.
 */

export async function interleave<T>(
  parts: readonly T[],
  rounds: number,
  sample: (part: T, round: number) => Promise<void>,
): Promise<void> {
  for (let round = 0; round < rounds; round += 1)
    for (const part of round % 2 === 0 ? parts : parts.toReversed()) await sample(part, round);
}
