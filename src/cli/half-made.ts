/**
 * Work that leaves nothing half-made: what it has made so far is undone when it fails or somebody
 * interrupts it. A process that was interrupted ends by the
 * signal: a write that still waits in the kernel would keep it from ending in any other way.
 */

import { rm } from 'node:fs/promises';
import { aborted } from '../core/aborted.ts';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Has no message: the user knows. */
class Interrupted extends Error {}

export interface Making {
  /** Is not interrupted. */
  readonly begin: () => Promise<unknown>;
  /** The work that was interrupted may still be under way. */
  readonly undo: () => Promise<unknown>;
}

/** What has a temporary name on this machine until it is whole. */
export function making(temporary: string, begin: () => Promise<unknown>): Making {
  return { begin, undo: () => rm(temporary, { force: true }) };
}

export async function orNothing<T>(
  { begin, undo }: Making,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  let by: NodeJS.Signals | undefined;
  const onSignal = (name: NodeJS.Signals) => {
    by ??= name;
    stop.abort(new Interrupted());
  };
  for (const name of signals) process.on(name, onSignal);
  try {
    await begin();
    return await Promise.race([aborted(stop.signal), work(stop.signal)]);
  } catch (error) {
    await undo();
    throw error;
  } finally {
    for (const name of signals) process.removeListener(name, onSignal);
    if (by !== undefined) process.kill(process.pid, by);
  }
}
