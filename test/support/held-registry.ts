/** A registry whose answers and news a test holds back, to let them arrive in the order it wants. */

import type { Registry, WatchEvent } from '../../src/ports/registry.ts';

/** Closed, it lets nothing through until it is opened. */
export class Gate {
  #open = Promise.resolve();
  #release: (() => void) | undefined;

  close(): void {
    if (this.#release) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#open = promise;
    this.#release = resolve;
  }

  open(): void {
    this.#release?.();
    this.#release = undefined;
  }

  async pass<T>(what: T): Promise<T> {
    await this.#open;
    return what;
  }
}

export class HeldRegistry {
  readonly reads = new Gate();
  readonly commits = new Gate();
  readonly news = new Gate();
  readonly registry: Registry;
  /** Reads that were made. */
  readCount = 0;
  /** All watches end with this the next time that they would tell something. */
  broken: Error | undefined;
  /** So many transactions each watch tells before the gate closes by itself. */
  newsLeft = Number.POSITIVE_INFINITY;

  constructor(inner: Registry) {
    const { reads, commits, news } = this;
    this.registry = {
      get: async (key, options) => {
        this.readCount += 1;
        return reads.pass(await inner.get(key, options));
      },
      range: async (range, options) => {
        this.readCount += 1;
        return reads.pass(await inner.range(range, options));
      },
      transact: async (transaction, options) =>
        commits.pass(await inner.transact(transaction, options)),
      grantLease: (ttlMs, options) => inner.grantLease(ttlMs, options),
      watch: (range, from, options) => this.#watch(inner.watch(range, from, options), news),
      close: () => inner.close(),
    };
  }

  async *#watch(inner: AsyncIterable<readonly WatchEvent[]>, news: Gate) {
    let told = 0;
    for await (const events of inner) {
      if (told === this.newsLeft) news.close();
      await news.pass(events);
      told += 1;
      if (this.broken) throw this.broken;
      yield events;
    }
  }
}
