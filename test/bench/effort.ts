/** How much is measured: everything briefly, or what is named thoroughly. */

export interface Effort {
  readonly how: 'brief' | 'thorough';
  /** Subject and baselines take turns so often. */
  readonly rounds: number;
  /** Of one sample. */
  readonly seconds: number;
}

/** Fits all benches into 15 minutes. */
export const brief: Effort = { how: 'brief', rounds: 3, seconds: 0.5 };
export const thorough: Effort = { how: 'thorough', rounds: 5, seconds: 2 };
