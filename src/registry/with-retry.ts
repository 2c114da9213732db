/**
 * Waits for a registry that does not answer, visibly, so that whoever uses it sees neither
 * `unavailable` nor `unknown_outcome`: a lost answer is found out (exactly-once.ts), and a watch
 * that broke goes on behind the last change that it told. Waiting ends with the call's signal; when
 * a call is repeated is told by `core/waiting-room.ts`: the answer to any call wakes all.
 */

import { describeError, isStorageError } from '../core/errors.ts';
import { WaitingRoom, type WaitingSettings } from '../core/waiting-room.ts';
import type { CallOptions } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Random } from '../ports/random.ts';
import type { KeyRange, Lease, Registry, WatchEvent } from '../ports/registry.ts';
import { ExactlyOnce } from './exactly-once.ts';

const pauses: WaitingSettings = { firstPauseMs: 20, pauseMsMax: 1000 };
/** A moment of contention is no news. */
const silentMs = 1000;

export interface RetryDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** `name`: one process at a time uses the registry by it. */
export function withRetry(inner: Registry, deps: RetryDeps, name: string): Registry {
  const room = new WaitingRoom(deps.clock, deps.random, pauses);
  const retry: Retry = async (call, options = {}) => {
    const trouble = new Trouble(deps, room, options);
    const result = await trouble.during(call, isPassing);
    trouble.isOver();
    return result;
  };
  const exactlyOnce = new ExactlyOnce(name, deps.random);
  return {
    get: (key, options) => retry(() => inner.get(key, options), options),
    range: (range, options) => retry(() => inner.range(range, options), options),
    transact: async (transaction, options = {}) => {
      if (transaction.writes.length === 0)
        return retry(() => inner.transact(transaction, options), options);
      const trouble = new Trouble(deps, room, options);
      const outcome = await exactlyOnce.transact(waiting(inner, trouble), transaction, options);
      trouble.isOver();
      return outcome;
    },
    // What is granted by a lost answer runs out by itself; to release twice is harmless.
    grantLease: async (ttlMs, options) =>
      releasedInTheEnd(await retry(() => inner.grantLease(ttlMs, options), options), retry),
    watch: (range, fromRevision, options = {}) =>
      resumingWatch(inner, new Trouble(deps, room, options), range, fromRevision, options),
    close: () => inner.close(),
  };
}

type Retry = <T>(call: () => Promise<T>, options?: CallOptions) => Promise<T>;

const isAway = (error: unknown) => isStorageError(error, 'unavailable');
const isPassing = (error: unknown) => isAway(error) || isStorageError(error, 'unknown_outcome');

/** Waits while the registry is away; a lost answer is told, after a pause. */
function waiting(inner: Registry, trouble: Trouble): Pick<Registry, 'get' | 'transact'> {
  return {
    get: (key, options) => trouble.during(() => inner.get(key, options), isAway),
    transact: async (transaction, options) => {
      try {
        return await trouble.during(() => inner.transact(transaction, options), isAway);
      } catch (error) {
        if (isStorageError(error, 'unknown_outcome')) await trouble.pause(error);
        throw error;
      }
    },
  };
}

function releasedInTheEnd(lease: Lease, retry: Retry): Lease {
  return {
    id: lease.id,
    ttlMs: lease.ttlMs,
    signal: lease.signal,
    validUntilMs: () => lease.validUntilMs(),
    release: (options) => retry(() => lease.release(options), options),
  };
}

async function* resumingWatch(
  inner: Registry,
  trouble: Trouble,
  range: KeyRange,
  fromRevision: number,
  options: CallOptions,
): AsyncGenerator<readonly WatchEvent[], void> {
  for (let seen = fromRevision; ; ) {
    try {
      for await (const events of inner.watch(range, seen, options)) {
        trouble.noteAnswer();
        trouble.isOver();
        seen = events[0]?.revision ?? seen;
        yield events;
      }
    } catch (error) {
      if (!isAway(error)) throw error;
      await trouble.pause(error);
    }
  }
}

/** What one call goes through until it is answered. */
class Trouble {
  readonly #deps: RetryDeps;
  readonly #room: WaitingRoom;
  readonly #options: CallOptions;
  /** How often in a row it went for nothing because others were answered. */
  #inVain = 0;
  #sinceMs: number | undefined;
  #isTold = false;

  constructor(deps: RetryDeps, room: WaitingRoom, options: CallOptions) {
    this.#deps = deps;
    this.#room = room;
    this.#options = options;
  }

  async during<T>(call: () => Promise<T>, isWorthWaiting: (error: unknown) => boolean): Promise<T> {
    for (;;) {
      try {
        const result = await call();
        this.noteAnswer();
        return result;
      } catch (error) {
        if (!isWorthWaiting(error)) throw error;
        await this.pause(error);
      }
    }
  }

  /** Rejects with the signal's reason. */
  async pause(error: unknown): Promise<void> {
    const { clock, log } = this.#deps;
    this.#sinceMs ??= clock.monotonicMs();
    if (!this.#isTold && clock.monotonicMs() - this.#sinceMs >= silentMs) {
      this.#isTold = true;
      log.warn({ error: describeError(error) }, 'registry does not answer');
    }
    const reason = await this.#room.wait({ inVain: this.#inVain, ...this.#options });
    this.#inVain = reason === 'answer' ? this.#inVain + 1 : 0;
  }

  /** Wakes all who wait. For this call it may not be over: a transaction can need several. */
  noteAnswer(): void {
    this.#room.answered();
  }

  isOver(): void {
    const { clock, log } = this.#deps;
    if (this.#isTold) {
      const seconds = Math.round((clock.monotonicMs() - (this.#sinceMs ?? 0)) / 1000);
      log.info({ seconds }, 'registry answers again');
    }
    this.#sinceMs = undefined;
    this.#isTold = false;
    this.#inVain = 0;
  }
}
