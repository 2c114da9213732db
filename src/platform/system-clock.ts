/** The machine's time. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../ports/clock.ts';
import type { Native } from './native.ts';

/** Without the addon the monotonic clock stands still while the machine is suspended. */
export function systemClock(native: Native | undefined): Clock {
  return {
    monotonicMs: () => native?.bootTimeMs() ?? performance.now(),
    wallNs: () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1000n,
    async sleep(ms, options = {}) {
      try {
        await sleep(ms, undefined, { ...(options.signal && { signal: options.signal }) });
      } catch (error) {
        throw options.signal?.aborted === true ? options.signal.reason : error;
      }
    },
  };
}
