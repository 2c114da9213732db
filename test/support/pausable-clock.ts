/** The system's time for somebody who can be stopped: sleepers don't wake while he is. */

import { systemClock } from '../../src/platform/system-clock.ts';
import type { Clock } from '../../src/ports/clock.ts';

export class PausableClock implements Clock {
  readonly #clock = systemClock(undefined);
  #pause: PromiseWithResolvers<void> | undefined;

  monotonicMs(): number {
    return this.#clock.monotonicMs();
  }

  wallNs(): bigint {
    return this.#clock.wallNs();
  }

  async sleep(ms: number, options?: { readonly signal?: AbortSignal }): Promise<void> {
    await this.#clock.sleep(ms, options);
    await this.#pause?.promise;
  }

  pause(): void {
    this.#pause = Promise.withResolvers<void>();
  }

  resume(): void {
    this.#pause?.resolve();
    this.#pause = undefined;
  }
}
