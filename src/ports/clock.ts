/** Time. Implementations: the system's, and a simulated one. */
export interface Clock {
  /** Milliseconds of a clock that never steps and counts suspend (CLOCK_BOOTTIME). */
  monotonicMs(): number;
  /** Nanoseconds since 1970, for the times of files alone. */
  wallNs(): bigint;
  /** Resolves after `ms`; abort rejects with the signal's reason. */
  sleep(ms: number, options?: { readonly signal?: AbortSignal }): Promise<void>;
}
