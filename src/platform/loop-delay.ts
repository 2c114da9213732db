/**
 * How late the event loop is: the daemon serves all I/O of a host on one loop, so its delay is
 * part of every request's time.
 */

import { monitorEventLoopDelay } from 'node:perf_hooks';

const resolutionMs = 20;
const nsPerMs = 1e6;

export interface LoopDelay {
  /** Milliseconds; `fraction` of all samples since the start are not later. */
  percentileMs(fraction: number): number;
  /** The latest since this was last called. */
  takeMaxMs(): number;
  close(): void;
}

/** Its own timer, every 20 ms, is part of what it measures; a loop that is on time shows 0. */
export function measureLoopDelay(): LoopDelay {
  const overall = monitorEventLoopDelay({ resolution: resolutionMs });
  const recent = monitorEventLoopDelay({ resolution: resolutionMs });
  for (const histogram of [overall, recent]) histogram.enable();
  const lateness = (ns: number) => Math.max(0, ns / nsPerMs - resolutionMs);
  return {
    percentileMs: (fraction) => lateness(overall.percentile(fraction * 100)),
    takeMaxMs() {
      const latest = lateness(recent.max);
      recent.reset();
      return latest;
    },
    close() {
      for (const histogram of [overall, recent]) histogram.disable();
    },
  };
}
