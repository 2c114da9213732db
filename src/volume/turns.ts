/**
 * Turns of long work that goes on without waiting for anything, as it does where all that it needs
 * is at hand: one ends after so many steps, or after a time that nobody minds to wait for.
 */

import type { Clock } from '../ports/clock.ts';

const turnMsMax = 4;
const stepsMax = 64;

export class Turns {
  readonly #clock: Pick<Clock, 'monotonicMs' | 'sleep'>;
  #steps = 0;
  #beganMs: number;

  constructor(clock: Pick<Clock, 'monotonicMs' | 'sleep'>) {
    this.#clock = clock;
    this.#beganMs = clock.monotonicMs();
  }

  /** After each step: to be waited for where it is others' turn. */
  step(): Promise<void> | undefined {
    this.#steps += 1;
    const isOver =
      this.#steps === stepsMax || this.#clock.monotonicMs() - this.#beganMs >= turnMsMax;
    return isOver ? this.#yield() : undefined;
  }

  async #yield(): Promise<void> {
    await this.#clock.sleep(0);
    this.#steps = 0;
    this.#beganMs = this.#clock.monotonicMs();
  }
}

/** What steps come to. */
export async function inTurns<T>(steps: Iterator<undefined, T>, turns: Turns): Promise<T> {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    const turn = turns.step();
    if (turn) await turn;
  }
}
