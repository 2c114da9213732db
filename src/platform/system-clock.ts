/** The machine's time. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../ports/clock.ts';
import type { Native } from './native.ts';

/**
 * The monotonic clock counts from the machine's start, so that all its processes agree on it.
 * Without the addon it stands still while the machine is suspended.
 */
export function systemClock(native: Native | undefined): Clock {
  return {
    monotonicMs: () => native?.bootTimeMs() ?? Number(process.hrtime.bigint()) / 1e6,
    // The clock of the day itself: what is derived from the monotonic one lags after a suspend and
    // misses every correction.
    wallNs: () => BigInt(Date.now()) * 1_000_000n,
    async sleep(ms, options = {}) {
      try {
        await sleep(ms, undefined, { ...(options.signal && { signal: options.signal }) });
      } catch (error) {
        throw options.signal?.aborted === true ? options.signal.reason : error;
      }
    },
  };
}
