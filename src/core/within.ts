/** Waits for work as long as is worth it. */

interface Sleeper {
  sleep(ms: number, options: { readonly signal: AbortSignal }): Promise<void>;
}

/** No error is made for it: nobody sees it. */
const over = Symbol('over');

/** `late` when `ms` have passed first; the work goes on then, and its failure is not seen. */
export async function within(
  clock: Sleeper,
  ms: number,
  work: Promise<unknown>,
): Promise<'done' | 'late'> {
  const done = new AbortController();
  const late = clock.sleep(ms, { signal: done.signal }).then(
    () => 'late' as const,
    () => 'done' as const,
  );
  work.catch(() => {});
  try {
    return await Promise.race([work.then(() => 'done' as const), late]);
  } finally {
    done.abort(over);
  }
}
