/**
 * Waits for a registry that does not answer, visibly. A transaction is repeated only when it
 * surely did not happen (`unavailable`); an unknown outcome goes to whoever can read back.
 */

import { describeError, isStorageError } from '../core/errors.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Random } from '../ports/random.ts';
import type { Registry } from '../ports/registry.ts';

const firstPauseMs = 20;
const pauseMsMax = 1000;

export function withRetry(inner: Registry, clock: Clock, random: Random, log: Log): Registry {
  const retry = async <T>(call: () => Promise<T>): Promise<T> => {
    for (let pauseMs = firstPauseMs, attempts = 1; ; attempts += 1) {
      try {
        const result = await call();
        if (attempts > 1) log.info({ attempts }, 'registry answers again');
        return result;
      } catch (error) {
        if (!isStorageError(error, 'unavailable')) throw error;
        if (attempts === 1) log.warn({ error: describeError(error) }, 'registry does not answer');
      }
      await clock.sleep(pauseMs * (0.5 + random.fraction()));
      pauseMs = Math.min(pauseMs * 2, pauseMsMax);
    }
  };
  return {
    get: (key, options) => retry(() => inner.get(key, options)),
    range: (range, options) => retry(() => inner.range(range, options)),
    transact: (transaction, options) => retry(() => inner.transact(transaction, options)),
    close: () => inner.close(),
  };
}
