/**
 * What happened, as it happens: steps, troubles and findings, in memory and in files of the run's
 * folder, where they are kept if a promise was broken.
 *
 *   events.log     faults, errands, restarts, findings, with milliseconds since the beginning
 *   io.log         each write and flush of each disk: asked, acknowledged, unknown
 */

import { createWriteStream, type WriteStream } from 'node:fs';
import { join } from 'node:path';
import { nowMs } from '../support/mount-user.ts';
import type { HostName, Step } from './plan.ts';
import { describeStep } from './plan.ts';

/** More findings are counted, and not kept one by one. */
const findingsMax = 100;

/** A call that the end of its daemon cut short: nobody knows whether it happened. */
export class Interrupted extends Error {}

interface Trouble {
  readonly step: Step;
  readonly fromMs: number;
  toMs: number | undefined;
}

export interface Stall {
  readonly what: string;
  readonly ms: number;
  readonly cause: string;
}

export class Chronicle {
  readonly folder: string;
  readonly findings: string[] = [];
  findingCount = 0;
  readonly counts = new Map<string, number>();
  longest: Stall = { what: 'nothing', ms: 0, cause: 'nothing' };
  readonly #events: WriteStream;
  readonly #io: WriteStream;
  readonly #beganMs = nowMs();
  readonly #troubles: Trouble[] = [];
  readonly #print: (line: string) => void;

  constructor(folder: string, print: (line: string) => void) {
    this.folder = folder;
    this.#print = print;
    this.#events = createWriteStream(join(folder, 'events.log'));
    this.#io = createWriteStream(join(folder, 'io.log'));
  }

  /** For the file alone. */
  note(text: string): void {
    this.#events.write(`${this.#time()} ${text}\n`);
  }

  say(text: string): void {
    this.note(text);
    this.#print(`${(this.#nowMs() / 1000).toFixed(1).padStart(7)} s  ${text}\n`);
  }

  /** A promise was broken. */
  find(text: string): void {
    this.findingCount += 1;
    if (this.findingCount > findingsMax) return;
    this.findings.push(`at ${this.#time()} ms: ${text}`);
    this.say(`FOUND: ${text}`);
  }

  /** Of one read, all that is wrong with it. */
  findWrong(wrong: readonly string[], where: string): void {
    const [first, ...others] = wrong;
    if (first === undefined) return;
    for (const each of others) this.note(`and ${each}`);
    this.find(`${first}${others.length > 0 ? `, and ${others.length} more` : ''}, ${where}`);
  }

  io(text: string): void {
    this.#io.write(`${this.#time()} ${text}\n`);
  }

  count(what: string, more = 1): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + more);
  }

  /** A call of the load came to nothing. */
  lost(error: unknown): void {
    if (error instanceof Interrupted) this.count('calls that a daemon took along');
    else this.find(`the run itself fails: ${(error as Error).stack}`);
  }

  begin(step: Step): () => void {
    const trouble: Trouble = { step, fromMs: nowMs(), toMs: undefined };
    this.#troubles.push(trouble);
    this.note(`begins: ${describeStep(step)}`);
    return () => {
      trouble.toMs = nowMs();
      this.note(`ended: ${describeStep(step)}`);
    };
  }

  /** Steps that were on at some time between the two. */
  during(fromMs: number, toMs = nowMs()): Step[] {
    return this.#troubles
      .filter((trouble) => trouble.fromMs <= toMs && (trouble.toMs ?? toMs) >= fromMs)
      .map(({ step }) => step);
  }

  /** Why nobody can expect that a call at this host goes on, or undefined. */
  excuse(host: HostName, fromMs: number): string | undefined {
    const isOfHost = new Set(['kill', 'stop-short', 'stop-long', 'drain']);
    const hidesRegistry = new Set(['cut-all', 'cut-registry', 'lose-to-etcd']);
    const found = this.during(fromMs).find((step) => {
      if (step.kind === 'etcd-kill-two') return true;
      return step.host === host && (isOfHost.has(step.kind) || hidesRegistry.has(step.kind));
    });
    return found && describeStep(found);
  }

  /** A call that has returned, or hangs since. */
  took(what: string, fromMs: number): void {
    const ms = nowMs() - fromMs;
    if (ms <= this.longest.ms) return;
    const steps = this.during(fromMs).map(describeStep);
    this.longest = { what, ms, cause: steps.join('; ') || 'no fault' };
  }

  #nowMs(): number {
    return nowMs() - this.#beganMs;
  }

  #time(): string {
    return this.#nowMs().toFixed(0);
  }

  async close(): Promise<void> {
    for (const stream of [this.#events, this.#io])
      await new Promise<void>((resolve) => stream.end(resolve));
  }
}
