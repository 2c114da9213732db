/**
 * Calls that hang. A call may wait for as long as a host's lease lasts and a moment more; then the
 * host that it was made at has to be in trouble itself, or to say what it waits for.
 */

import { nowMs } from '../support/mount-user.ts';
import type { Chronicle } from './chronicle.ts';
import type { HostName } from './plan.ts';
import { leaseMs } from './plan.ts';

/** For a takeover, and for a machine that is busy with other things. */
const takeoverMs = 1000;
const marginMs = 5000;
export const hangMs = leaseMs + takeoverMs + marginMs;
const lookMs = 500;
/** For what hung to go on, when what it waited for has come about. */
const echoMs = 3000;

interface Watched {
  readonly name: HostName;
  whatItWaitsFor(): Promise<readonly string[]>;
}

interface Pending {
  readonly host: Watched;
  readonly what: string;
  readonly fromMs: number;
  nextLookMs: number;
  /** Its host was asked, and said nothing. */
  isSilent: boolean;
  isJudged: boolean;
}

export class Stalls implements Disposable {
  readonly #chronicle: Chronicle;
  readonly #pending = new Set<Pending>();
  /** All at which a call was made. */
  readonly #hosts = new Set<Watched>();
  readonly #timer: NodeJS.Timeout;

  constructor(chronicle: Chronicle) {
    this.#chronicle = chronicle;
    this.#timer = setInterval(() => this.#look(), lookMs);
  }

  /** Until the function that this gives is called. */
  watch(host: Watched, what: string): () => void {
    const pending: Pending = {
      host,
      what,
      fromMs: nowMs(),
      nextLookMs: 0,
      isSilent: false,
      isJudged: false,
    };
    this.#pending.add(pending);
    this.#hosts.add(host);
    return () => {
      this.#pending.delete(pending);
      this.#chronicle.took(what, pending.fromMs);
    };
  }

  #look(): void {
    const atMs = nowMs();
    for (const pending of this.#pending) {
      if (pending.isJudged || atMs < Math.max(pending.fromMs + hangMs, pending.nextLookMs))
        continue;
      if (this.#chronicle.excuse(pending.host.name, atMs - hangMs) !== undefined) continue;
      // One question at a time.
      pending.nextLookMs = Number.POSITIVE_INFINITY;
      void this.#judge(pending);
    }
  }

  /** Silence has to last: what is waited for may have come about just now. */
  async #judge(pending: Pending): Promise<void> {
    const { host, what, fromMs } = pending;
    let silence = 'without saying why';
    const whys = await host.whatItWaitsFor().catch((error: unknown) => {
      silence = `and its host does not answer: ${String(error)}`;
      return [];
    });
    const seconds = ((nowMs() - fromMs) / 1000).toFixed(1);
    if (!this.#pending.has(pending)) return;
    pending.nextLookMs = nowMs() + echoMs;
    if (whys.length > 0) {
      pending.isSilent = false;
      this.#chronicle.note(`${what} hangs for ${seconds} s: ${[...new Set(whys)].join('; ')}`);
      this.#chronicle.count('looks at long waits, which were explained');
    } else if (await this.#isExplainedElsewhere(host)) {
      this.#chronicle.count('known: long waits that only the owner explained');
    } else if (!pending.isSilent) pending.isSilent = true;
    else {
      pending.isJudged = true;
      this.#chronicle.find(`${what} hangs for ${seconds} s ${silence}`);
    }
  }

  /** A host that forwards does not know what its requests wait for at the owner. This is known. */
  async #isExplainedElsewhere(host: Watched): Promise<boolean> {
    const others = [...this.#hosts].filter((other) => other !== host);
    const asked = others.map((other) => other.whatItWaitsFor().catch(() => []));
    return (await Promise.all(asked)).some((whys) => whys.length > 0);
  }

  /** What still hangs. */
  describe(): string[] {
    return [...this.#pending].map(
      ({ what, fromMs }) => `${what}, for ${(nowMs() - fromMs).toFixed(0)} ms`,
    );
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
