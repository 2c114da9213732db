/**
 * What was acknowledged to this host's front ends and nobody has flushed since: the last change of
 * each tenure that acknowledged any. A flush compares it with what is there when it has been done,
 * so an owner that was lost in between, with what it alone had, is not taken for one that flushed.
 */

import type { Change } from '../core/changes.ts';
import { tenureStartsMax } from '../core/changes.ts';
import type { HostId } from '../core/units.ts';

export interface Claim extends Change {
  /** Who acknowledged it. */
  readonly host: HostId;
}

export class Unflushed {
  #claims: { epoch: number; number: number; host: HostId }[] = [];

  get isEmpty(): boolean {
    return this.#claims.length === 0;
  }

  /** Epoch 0: an owner that does not tell. Number 0: nothing was changed. */
  note(epoch: number, number: number, host: HostId): void {
    if (epoch === 0 || number === 0) return;
    const last = this.#claims[this.#claims.length - 1];
    if (last?.epoch !== epoch) this.#noteAnother({ epoch, number, host });
    else if (number > last.number) last.number = number;
  }

  /** The first one of a tenure, or one whose answer comes late, when its tenure is over. */
  #noteAnother(change: Claim): void {
    const claim = this.#claims.find(({ epoch }) => epoch === change.epoch);
    if (claim) claim.number = Math.max(claim.number, change.number);
    // Beyond that the first one counts as lost, and the flush fails anyway.
    else if (this.#claims.length <= tenureStartsMax) this.#claims.push({ ...change });
  }

  /** As it is now. */
  claims(): readonly Claim[] {
    return this.#claims.map((claim) => ({ ...claim }));
  }

  /** What has become of them is told: only what came later counts from now on. */
  settle(claims: readonly Claim[]): void {
    const isSettled = ({ epoch, number }: Change) =>
      claims.some((claim) => claim.epoch === epoch && claim.number >= number);
    this.#claims = this.#claims.filter((claim) => !isSettled(claim));
  }
}
