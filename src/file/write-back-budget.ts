/**
 * Memory for changes that are not on the backend yet, over all files of a driver. Who finds none
 * left makes every file that holds some commit at once, and waits.
 */

import { Permits } from '../core/permits.ts';

/** A file that holds memory of the budget, and gives it back by committing. */
export interface BudgetHolder {
  commitSoon(): void;
}

export class WriteBackBudget {
  readonly #permits: Permits;
  readonly #holders = new Set<BudgetHolder>();

  constructor(bytesMax: number) {
    this.#permits = new Permits(bytesMax);
  }

  /** Bytes that are held now. */
  get heldBytes(): number {
    return this.#permits.out;
  }

  tryAcquire(bytes: number): boolean {
    return bytes <= 0 || this.#permits.tryAcquire(bytes);
  }

  async acquire(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.tryAcquire(bytes)) return;
    const granted = this.#permits.acquire(bytes, { signal });
    for (const holder of this.#holders) holder.commitSoon();
    await granted;
  }

  release(bytes: number): void {
    if (bytes > 0) this.#permits.release(bytes);
  }

  join(holder: BudgetHolder): void {
    this.#holders.add(holder);
    // Somebody waits already: what this file takes must come back as soon as it can.
    if (this.#permits.waiting > 0) holder.commitSoon();
  }

  leave(holder: BudgetHolder): void {
    this.#holders.delete(holder);
  }
}
