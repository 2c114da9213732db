/**
 * AbortSignal.any for worlds that end while much still waits: the runtime's own keeps signals that
 * somebody listens to until they fire, and a world's never do, so that all worlds would stay in memory.
 */

function anySignal(signals: Iterable<AbortSignal>): AbortSignal {
  const either = new AbortController();
  for (const signal of signals) {
    if (signal.aborted) either.abort(signal.reason);
    const onAbort = () => either.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
  }
  return either.signal;
}

/** For the rest of the process. */
export function letWorldsGo(): void {
  AbortSignal.any = anySignal;
}
