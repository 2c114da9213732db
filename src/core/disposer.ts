/** Closes what was opened, last first, and reports every failure instead of the first alone. */
export class Disposer implements AsyncDisposable {
  #closers: (() => Promise<void> | void)[] = [];

  /** Remembers how to close `resource` and hands it back. */
  use<T extends AsyncDisposable | Disposable>(resource: T): T {
    this.defer(() =>
      Symbol.asyncDispose in resource
        ? (resource[Symbol.asyncDispose]() as Promise<void>)
        : (resource as Disposable)[Symbol.dispose](),
    );
    return resource;
  }

  defer(close: () => Promise<void> | void): void {
    this.#closers.push(close);
  }

  /** Idempotent. Throws an AggregateError of all that failed. */
  async close(): Promise<void> {
    const failures: unknown[] = [];
    for (let close = this.#closers.pop(); close; close = this.#closers.pop()) {
      try {
        await close();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length === 1) throw failures[0];
    if (failures.length > 1) throw new AggregateError(failures, 'closing failed in several places');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
