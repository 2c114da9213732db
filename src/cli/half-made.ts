/**
 * Work that leaves nothing half-made: what it makes has a temporary name until it is whole, and that
 * name goes when the work fails or somebody interrupts it. A process that was interrupted ends by the
 * signal: a write that still waits in the kernel would keep it from ending in any other way.
 */

import { rm } from 'node:fs/promises';
import { aborted } from '../core/aborted.ts';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Has no message: the user knows. */
class Interrupted extends Error {}

export interface Making {
  /** On this machine. */
  readonly temporary: string;
  /** Makes it, and is not interrupted. */
  readonly begin: () => Promise<unknown>;
}

export async function orNothing<T>(
  { temporary, begin }: Making,
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
    await rm(temporary, { force: true });
    throw error;
  } finally {
    for (const name of signals) process.removeListener(name, onSignal);
    if (by !== undefined) process.kill(process.pid, by);
  }
}
