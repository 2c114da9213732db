/**
 * When a host that forwards asks for the object: pure decisions. It asks when it has forwarded
 * enough within a window, and not again for a while after a move or a refusal. The owner refuses
 * while it uses the object itself about as much, so that an object which two hosts use stays where
 * it is instead of going to and fro.
 */

import type { Threshold } from '../../registry/object-records.ts';

export interface HandoverSettings extends Threshold {
  /** After a move or a refusal nobody asks for so long. */
  readonly coolDownMs: number;
}

export class ForwardCounter {
  readonly #settings: HandoverSettings;
  #windowBeganMs = Number.NEGATIVE_INFINITY;
  #reads = 0;
  #writes = 0;
  #quietUntilMs = Number.NEGATIVE_INFINITY;

  constructor(settings: HandoverSettings) {
    this.#settings = settings;
  }

  /** True when it is time to ask; the asker then calls `pause`. `own`: the object's threshold. */
  note(what: 'read' | 'write', nowMs: number, own: Threshold | undefined): boolean {
    const { reads, writes, windowMs } = own ?? this.#settings;
    if (nowMs - this.#windowBeganMs >= windowMs) {
      this.#windowBeganMs = nowMs;
      this.#reads = 0;
      this.#writes = 0;
    }
    if (what === 'read') this.#reads += 1;
    else this.#writes += 1;
    const isEnough = (reads > 0 && this.#reads >= reads) || (writes > 0 && this.#writes >= writes);
    return isEnough && nowMs >= this.#quietUntilMs;
  }

  pause(nowMs: number): void {
    this.#quietUntilMs = nowMs + this.#settings.coolDownMs;
  }
}
