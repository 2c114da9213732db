/**
 * A registry that misbehaves, as one behind a network does: calls are refused, answers are lost
 * before and after the commit, transactions arrive late, and watches break off.
 */

import { StorageError } from '../../src/core/errors.ts';
import type { CallOptions } from '../../src/ports/blob-store.ts';
import type { Clock } from '../../src/ports/clock.ts';
import type { Registry } from '../../src/ports/registry.ts';

/** What happens to a call; `late`: it takes effect some calls after its answer was given up. */
export type Fault = 'none' | 'refused' | 'lost' | 'done' | 'late';

const away = () => new StorageError('unavailable', 'refused before it took effect');
const lost = () => new StorageError('unknown_outcome', 'the answer was lost');

/** `choose` is asked before each call, and before each event of a watch. */
export function faultyRegistry(inner: Registry, choose: () => Fault): Registry {
  const delayed: (() => Promise<unknown>)[] = [];
  /** Half of those that are still on their way arrive now. */
  const arrive = async () => {
    for (const send of delayed.splice(0, Math.ceil(delayed.length / 2)))
      await send().catch(() => undefined);
  };
  const read = <T>(call: () => Promise<T>): Promise<T> =>
    choose() === 'refused' ? Promise.reject(away()) : call();
  const change = async <T>(
    call: (options?: CallOptions) => Promise<T>,
    options?: CallOptions,
  ): Promise<T> => {
    const fault = choose();
    await arrive();
    if (fault === 'refused') throw away();
    // What is on its way does not come back when its sender gives up.
    if (fault === 'late') delayed.push(() => call());
    if (fault === 'late' || fault === 'lost') throw lost();
    const result = await call(options);
    if (fault === 'done') throw lost();
    return result;
  };
  return {
    get: (key, options) => read(() => inner.get(key, options)),
    range: (range, options) => read(() => inner.range(range, options)),
    transact: (transaction, options) =>
      change((chosen) => inner.transact(transaction, chosen), options),
    grantLease: (ttlMs, options) => change((chosen) => inner.grantLease(ttlMs, chosen), options),
    async *watch(range, fromRevision, options) {
      for await (const events of inner.watch(range, fromRevision, options)) {
        if (choose() !== 'none') throw away();
        yield events;
      }
    },
    close: () => inner.close(),
  };
}

/** For whoever waits for others: pauses end in the next turn of the loop. */
export function impatientClock(clock: Clock): Clock {
  return {
    monotonicMs: () => clock.monotonicMs(),
    wallNs: () => clock.wallNs(),
    async sleep(_ms, { signal } = {}) {
      signal?.throwIfAborted();
      await new Promise((resolve) => setImmediate(resolve));
      signal?.throwIfAborted();
    },
  };
}
