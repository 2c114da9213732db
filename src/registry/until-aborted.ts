/** Waits for `promise`, but no longer than until one of the signals fires: then for its reason. */
export async function untilAborted<T>(
  promise: Promise<T>,
  ...signals: readonly (AbortSignal | undefined)[]
): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const stops = signals.map((signal) => {
    const onAbort = () => aborted.reject(signal?.reason);
    if (signal?.aborted === true) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    return () => signal?.removeEventListener('abort', onAbort);
  });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    for (const stop of stops) stop();
  }
}
