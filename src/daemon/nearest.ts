/** What somebody probably meant who wrote a name that does not exist. */

/** The known name with the fewest typing mistakes; undefined where none is near. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const mistakesMax = Math.max(1, Math.floor(name.length / 3));
  const [best] = known
    .filter((other) => Math.abs(other.length - name.length) <= mistakesMax)
    .map((other) => ({ other, mistakes: editDistance(name, other) }))
    .sort((left, right) => left.mistakes - right.mistakes);
  return best && best.mistakes <= mistakesMax ? best.other : undefined;
}

/** Letters to insert, delete or replace (Levenshtein). */
function editDistance(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let at = 0; at < left.length; at += 1) {
    const next = [at + 1];
    for (let to = 0; to < right.length; to += 1) {
      const replaced = (row[to] ?? 0) + (left[at] === right[to] ? 0 : 1);
      next.push(Math.min(replaced, (row[to + 1] ?? 0) + 1, (next[to] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
