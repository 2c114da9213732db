/**
 * A process of a simulated host. Whatever comes to it from outside comes by `later`: while it is
 * stopped (SIGSTOP) that waits, when it is dead it never comes, so its code runs no further than to
 * the next thing that it waits for, and reaches nobody any more.
 */

import type { Random } from '../../src/ports/random.ts';
import { StorageError } from '../../src/core/errors.ts';
import type { Scheduler } from './scheduler.ts';

/** After so long without a word a peer is given up: see platform/peers/connection.ts. */
export const silenceMs = 5000;

export class SimProcess {
  readonly name: string;
  readonly scheduler: Scheduler;
  readonly random: Random;
  /** Resolves when it dies. */
  readonly died: Promise<void>;
  #state: 'running' | 'stopped' | 'dead' = 'running';
  #waiting: { readonly label: string; readonly act: () => void }[] = [];
  #noteDeath: () => void = () => {};
  readonly #ends: (() => void)[] = [];
  readonly #silences: (() => void)[] = [];
  #stops = 0;

  constructor(name: string, scheduler: Scheduler, random: Random) {
    this.name = name;
    this.scheduler = scheduler;
    this.random = random;
    this.died = new Promise((resolve) => {
      this.#noteDeath = resolve;
    });
  }

  get isAlive(): boolean {
    return this.#state !== 'dead';
  }

  get isStopped(): boolean {
    return this.#state === 'stopped';
  }

  later(ms: number, label: string, act: () => void): void {
    this.scheduler.after(ms, `${this.name} ${label}`, () => this.#come(label, act));
  }

  /** What `answer` gives, `ms` later. */
  async answer<T>(ms: number, label: string, answer: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.later(ms, label, () => {
        try {
          resolve(answer());
        } catch (error) {
          reject(error as Error);
        }
      });
    });
  }

  onEnd(act: () => void): void {
    this.#ends.push(act);
  }

  /** It has been stopped for so long that others have given up its connections. */
  onSilence(act: () => void): void {
    this.#silences.push(act);
  }

  stop(): void {
    if (this.#state !== 'running') return;
    this.#state = 'stopped';
    this.#stops += 1;
    const stop = this.#stops;
    this.scheduler.after(silenceMs, `${this.name} is silent`, () => {
      if (this.#state === 'stopped' && this.#stops === stop)
        for (const act of this.#silences) act();
    });
  }

  resume(): void {
    if (this.#state !== 'stopped') return;
    this.#state = 'running';
    const waiting = this.#waiting;
    this.#waiting = [];
    // Each is an event of its own, as it would have been.
    for (const { label, act } of waiting) this.later(0, label, act);
  }

  die(): void {
    if (this.#state === 'dead') return;
    this.#state = 'dead';
    this.#waiting = [];
    for (const act of this.#ends) act();
    this.#noteDeath();
  }

  /** For what is called in a stretch of code that goes on although the process has died in it. */
  assertAlive(): void {
    if (this.#state === 'dead') throw new StorageError('closed', 'the process has died');
  }

  #come(label: string, act: () => void): void {
    if (this.#state === 'dead') return;
    if (this.#state === 'stopped') this.#waiting.push({ label, act });
    else act();
  }
}
