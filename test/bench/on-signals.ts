/** A bench that is interrupted takes its servers down: whoever uses them then fails, and cleans up. */

const signals = ['SIGINT', 'SIGTERM'] as const;

export function onSignals(end: () => void): Disposable {
  for (const signal of signals) process.on(signal, end);
  return {
    [Symbol.dispose]() {
      for (const signal of signals) process.off(signal, end);
    },
  };
}
