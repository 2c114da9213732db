/** What scripts can rely on. */

export const exitCode = {
  ok: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  unreachable: 4,
  /** Recovered, but for something that is missing. */
  incomplete: 5,
  /** A scrub has found damage that is not repaired. */
  damaged: 6,
  /** The daemon died of a bug. */
  software: 70,
} as const;

/** An error of which one line is for the user. */
export class CliError extends Error {
  readonly code: number;

  constructor(message: string, code: number) {
    super(message);
    this.code = code;
  }
}
