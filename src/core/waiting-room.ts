/**
 * Where calls wait that a service in trouble did not answer, until they are worth repeating.
 *
 * A call keeps a pause of its own first. Then it stands in line:
 *
 * - When any call is answered all go, a few at once, the others spread over a moment.
 * - While none is, they take turns: the first in line goes, and stands behind the others if it fails
 *   again. Turns come ever more slowly, at last each second; where many wait a little faster, so
 *   that one which alone would be answered does not stand behind the others for long. No turn waits
 *   for the end of the one before: a call may hang.
 *
 * A call that went because others were answered and failed all the same has a trouble of its own:
 * its first pause doubles each time, so that it does not go on at the others' pace.
 */

interface Time {
  monotonicMs(): number;
  sleep(ms: number, options: { readonly signal?: AbortSignal }): Promise<void>;
}

interface Chance {
  fraction(): number;
}

export interface WaitingSettings {
  readonly firstPauseMs: number;
  readonly pauseMsMax: number;
}

interface Wait {
  /** How often in a row the call went for nothing because others were answered. */
  readonly inVain: number;
  /** What the service asked for. */
  readonly atLeastMs?: number;
  readonly signal?: AbortSignal;
}

/** Why a call goes: somebody was answered, or nobody was and it is first in line. */
type Reason = 'answer' | 'turn';

interface Waiter {
  /** After a while of its own. */
  readonly go: (reason: Reason, afterMs: number) => void;
}

const turnMsMax = 1000;
/** However many wait. With the jitter it is at most five a second. */
const turnMsMin = 400;
const atOnceMax = 4;
const spreadMs = 200;

/** Ends a timer; no error is made for it, because nobody sees it. */
const over = Symbol('over');

export class WaitingRoom {
  readonly #time: Time;
  readonly #chance: Chance;
  readonly #settings: WaitingSettings;
  readonly #line: Waiter[] = [];
  #answers = 0;
  /** Turns given since somebody was answered. */
  #turns = 0;
  #nextTurnMs = 0;
  /** While somebody waits for a turn. */
  #giving: AbortController | undefined;

  constructor(time: Time, chance: Chance, settings: WaitingSettings) {
    this.#time = time;
    this.#chance = chance;
    this.#settings = settings;
  }

  /** For a call that has just failed. Abort ends the wait with the signal's reason. */
  async wait({ inVain, atLeastMs = 0, signal }: Wait): Promise<Reason> {
    const options = { ...(signal && { signal }) };
    const answers = this.#answers;
    const ownMs = this.#doubled(inVain, this.#settings.pauseMsMax);
    await this.#time.sleep(this.#jittered(Math.max(ownMs, atLeastMs)) + atLeastMs / 2, options);
    if (this.#answers !== answers) return 'answer';
    const { reason, afterMs } = await this.#inLine(signal);
    if (afterMs > 0) await this.#time.sleep(afterMs, options);
    return reason;
  }

  /** The service has answered some call. */
  answered(): void {
    this.#answers += 1;
    this.#turns = 0;
    this.#nextTurnMs = 0;
    if (this.#line.length === 0) return;
    const woken = this.#line.splice(0);
    this.#endIfEmpty();
    for (const [index, waiter] of woken.entries())
      waiter.go('answer', index < atOnceMax ? 0 : spreadMs * this.#chance.fraction());
  }

  #inLine(signal: AbortSignal | undefined): Promise<{ reason: Reason; afterMs: number }> {
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#line.splice(this.#line.indexOf(waiter), 1);
        this.#endIfEmpty();
        reject(signal?.reason as Error);
      };
      const waiter: Waiter = {
        go: (reason, afterMs) => {
          signal?.removeEventListener('abort', onAbort);
          resolve({ reason, afterMs });
        },
      };
      if (signal?.aborted === true) return reject(signal.reason as Error);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#line.push(waiter);
      if (this.#giving) return;
      this.#giving = new AbortController();
      void this.#giveTurns(this.#giving.signal);
    });
  }

  async #giveTurns(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const pauseMs = this.#nextTurnMs - this.#time.monotonicMs();
      if (pauseMs > 0) await this.#time.sleep(pauseMs, { signal }).catch(() => {});
      if (signal.aborted) return;
      this.#turns += 1;
      const turnMs = this.#jittered(this.#doubled(this.#turns, this.#slowestTurnMs()));
      this.#nextTurnMs = this.#time.monotonicMs() + turnMs;
      this.#line.shift()?.go('turn', 0);
      this.#endIfEmpty();
    }
  }

  #endIfEmpty(): void {
    if (this.#line.length > 0) return;
    this.#giving?.abort(over);
    this.#giving = undefined;
  }

  /** All who wait get a turn within the longest pause, as far as the bound allows. */
  #slowestTurnMs(): number {
    const { pauseMsMax } = this.#settings;
    const fairMs = Math.max(pauseMsMax / this.#line.length, turnMsMin);
    return Math.min(fairMs, turnMsMax, pauseMsMax);
  }

  #doubled(times: number, msMax: number): number {
    return Math.min(this.#settings.firstPauseMs * 2 ** Math.min(times, 30), msMax);
  }

  /** Half of it is chance. */
  #jittered(ms: number): number {
    return ms * (0.5 + this.#chance.fraction() / 2);
  }
}
