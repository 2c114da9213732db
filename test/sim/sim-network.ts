/**
 * The network between simulated hosts, as TCP is one: what one host sends to another arrives in
 * order, or the connection is lost. Then whoever waits for an answer learns that none will come, at
 * once (a reset) or after a silence, and what was sent may still be handled.
 */

import { describeError, isStorageError, StorageError } from '../../src/core/errors.ts';
import type { HostId } from '../../src/core/units.ts';
import type { ListeningPeers } from '../../src/daemon/host-ports.ts';
import type { PeerAddress, PeerHandler, PeerMessage } from '../../src/ports/peers.ts';
import type { Random } from '../../src/ports/random.ts';
import type { Coverage } from './protocol.ts';
import { stepOfMessage } from './protocol.ts';
import type { Scheduler } from './scheduler.ts';
import type { SimProcess } from './sim-process.ts';
import { silenceMs } from './sim-process.ts';

const connectMs = 5000;
/** What lies in a connection that was given up after a silence is handled by then. */
const lateMsMax = 20;
/** The same of one that broke while its host had much to do. */
const brokenLateMsMax = 500;

/** A call without an answer learns that its connection is lost. */
interface Call {
  readonly from: HostId;
  readonly lose: (lateMs: number) => void;
}

interface Place {
  readonly process: SimProcess;
  readonly handler: PeerHandler;
  readonly host: HostId;
  readonly unanswered: Set<Call>;
}

const copyOf = ({ kind, head, payload }: PeerMessage): PeerMessage => ({
  kind,
  head: new Uint8Array(head),
  payload: new Uint8Array(payload),
});

const lost = (host: string) => new StorageError('unknown_outcome', `host ${host} was lost`);

export class SimNetwork {
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #coverage: Coverage;
  readonly #places = new Map<string, Place>();
  readonly #cut = new Map<string, number>();
  /** When the last message of one host to another arrives. */
  readonly #arrivals = new Map<string, number>();
  /** What a host had sent to another and was lost with its power, so often. */
  readonly #lostWords = new Map<string, number>();
  /** How long messages travel: fast at most times. */
  slowMs = 0;
  /** That a call breaks its connection, from 0 to 1. */
  trouble = 0;

  constructor(scheduler: Scheduler, random: Random, coverage: Coverage) {
    this.#scheduler = scheduler;
    this.#coverage = coverage;
    this.#random = random;
  }

  listen(
    process: SimProcess,
    host: HostId,
    instance: string,
    handler: PeerHandler,
  ): ListeningPeers {
    const address = `${host}:${instance}`;
    const unanswered = new Set<Call>();
    const loseAll = () => {
      for (const { lose } of unanswered) lose(lateMsMax);
    };
    this.#places.set(address, { process, handler, host, unanswered });
    process.onEnd(() => {
      this.#places.delete(address);
      loseAll();
    });
    process.onSilence(loseAll);
    let isClosed = false;
    return {
      address,
      call: async (to, message, { deadlineMs, signal }) => {
        if (isClosed) throw new StorageError('closed', 'this host is stopping');
        process.assertAlive();
        signal?.throwIfAborted();
        return this.#call(process, host, to, message, deadlineMs, signal);
      },
      close: async () => {
        isClosed = true;
        this.#places.delete(address);
      },
    };
  }

  /** Nothing that `from` sends reaches `to` any more. Cuts of one way add up. */
  cut(from: string, to: string): void {
    const way = `${from}>${to}`;
    this.#cut.set(way, (this.#cut.get(way) ?? 0) + 1);
  }

  mend(from: string, to: string): void {
    const way = `${from}>${to}`;
    const cuts = (this.#cut.get(way) ?? 1) - 1;
    if (cuts > 0) this.#cut.set(way, cuts);
    else this.#cut.delete(way);
  }

  /** All connections of the host, or to the other one, break; what lies in them comes up to `lateMs` later. */
  reset(host: string, lateMs: number, other?: string): void {
    const isMeant = (...ends: readonly string[]) =>
      ends.includes(host) && (other === undefined || ends.includes(other));
    for (const place of this.#places.values())
      for (const { from, lose } of place.unanswered) if (isMeant(place.host, from)) lose(lateMs);
  }

  /** What is on its way from the host arrives at some, and at others not. */
  losePower(host: string): void {
    for (const { host: to } of this.#places.values()) {
      const way = `${host}>${to}`;
      if (this.#random.fraction() < 0.5)
        this.#lostWords.set(way, (this.#lostWords.get(way) ?? 0) + 1);
    }
  }

  isCut(from: string, to: string): boolean {
    return this.#cut.has(`${from}>${to}`);
  }

  #call(
    sender: SimProcess,
    from: HostId,
    to: PeerAddress,
    message: PeerMessage,
    deadlineMs: number,
    signal: AbortSignal | undefined,
  ): Promise<PeerMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<PeerMessage>();
    const sent = copyOf(message);
    const step = stepOfMessage(message.kind);
    const over = this.#coverage.begin(step, from, to.host);
    promise.then(over, over);
    const fail = (ms: number, error: () => StorageError) =>
      sender.later(ms, 'no answer', () => reject(error()));
    signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    const silent = () => lost(to.host);
    fail(deadlineMs, silent);
    const place = this.#places.get(to.address);
    if (!place?.process.isAlive) {
      fail(this.#travelMs(), () => new StorageError('unavailable', `no host at ${to.address}`));
      return promise;
    }
    const answer = (act: () => void) => {
      if (this.isCut(place.host, from)) {
        this.#coverage.met(step, 'cut link');
        return fail(silenceMs, silent);
      }
      this.#deliver(sender, place.host, from, `answer ${sent.kind}`, act);
    };
    if (this.isCut(from, place.host)) {
      // A connection that stands falls silent; a new one does not come about.
      this.#coverage.met(step, 'cut link');
      const isNew = this.#random.fraction() < 0.5;
      if (isNew) fail(connectMs, () => new StorageError('unavailable', 'no way'));
      else fail(silenceMs, silent);
      return promise;
    }
    let lostMs: number | undefined;
    const lose = (lateMs: number) => {
      lostMs ??= lateMs;
      fail(this.#travelMs(), silent);
    };
    const call = { from, lose };
    const forget = () => void place.unanswered.delete(call);
    place.unanswered.add(call);
    promise.then(forget, forget);
    const handle = () => {
      if (!this.#places.has(to.address)) return;
      void handled(place.handler, from, sent).then((made) => {
        if (!place.process.isAlive || lostMs !== undefined) return;
        answer(() => made(resolve, reject));
      });
    };
    if (this.#random.fraction() < this.trouble)
      this.#scheduler.after(this.#random.fraction(), 'connection breaks', () =>
        this.reset(from, brokenLateMsMax, place.host),
      );
    this.#deliver(place.process, from, place.host, `message ${sent.kind}`, () => {
      if (lostMs === undefined) return handle();
      place.process.later(this.#random.fraction() * lostMs, 'late message', handle);
    });
    return promise;
  }

  #deliver(to: SimProcess, from: string, host: string, label: string, act: () => void): void {
    const way = `${from}>${host}`;
    const { nowMs } = this.#scheduler;
    const atMs = Math.max(nowMs + this.#travelMs(), this.#arrivals.get(way) ?? 0);
    this.#arrivals.set(way, atMs);
    const lostBefore = this.#lostWords.get(way);
    to.later(atMs - nowMs, label, () => {
      if (this.#lostWords.get(way) === lostBefore) act();
    });
  }

  #travelMs(): number {
    const fate = this.#random.fraction();
    if (this.slowMs > 0 && fate < 0.3) return fate * this.slowMs;
    return fate < 0.99 ? 0.05 + fate * 0.2 : fate * 30;
  }
}

type Settle = (resolve: (answer: PeerMessage) => void, reject: (error: Error) => void) => void;

/** What travels back: a copy, or the code of an error. */
async function handled(handler: PeerHandler, from: HostId, message: PeerMessage): Promise<Settle> {
  try {
    const answer = copyOf(await handler(from, message));
    return (resolve) => resolve(answer);
  } catch (error) {
    const code = isStorageError(error) ? error.code : 'failed';
    const travelled = new StorageError(code, describeError(error));
    return (_, reject) => reject(travelled);
  }
}
