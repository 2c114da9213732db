/** A bug that somebody could have made: what it breaks, and the text that it stands in for. */

export interface Change {
  /** Under `src/`. */
  readonly file: string;
  /** Occurs exactly once in the file. */
  readonly find: string;
  readonly put: string;
}

export interface Mutant {
  readonly name: string;
  /** In words, for the table. */
  readonly breaks: string;
  readonly changes: readonly Change[];
}

/** Throws where the text is not there any more, or not there once: then the mutant shows nothing. */
export function planted(source: string, { find, put }: Change, where: string): string {
  const parts = source.split(find);
  if (parts.length !== 2)
    throw new Error(`${where} has this ${parts.length - 1} times instead of once: ${find}`);
  return parts.join(put);
}
