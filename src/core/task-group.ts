/**
 * Background work that nobody awaits belongs to a group: its failures are reported, and closing
 * the owner waits for it.
 */
export class TaskGroup {
  readonly #running = new Set<Promise<void>>();
  readonly #onFailure: (error: unknown) => void;

  constructor(onFailure: (error: unknown) => void) {
    this.#onFailure = onFailure;
  }

  get size(): number {
    return this.#running.size;
  }

  run(work: () => Promise<void>): void {
    const task = work()
      .catch(this.#onFailure)
      .finally(() => this.#running.delete(task));
    this.#running.add(task);
  }

  /** Resolves when no task is left, including those that tasks started meanwhile. */
  async drained(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}
