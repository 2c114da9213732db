/** A registry in memory, for tests of what stands above it. */

import { StorageError } from '../core/errors.ts';
import type { KeyRange, KeyValue, Outcome, Registry, Transaction } from '../ports/registry.ts';

export class MemoryRegistry implements Registry {
  readonly #values = new Map<string, KeyValue>();
  #revision = 0;
  #isClosed = false;

  async get(key: string): Promise<KeyValue | undefined> {
    this.#assertOpen();
    return this.#values.get(key);
  }

  async range({ from, to }: KeyRange, options: { limit?: number } = {}) {
    this.#assertOpen();
    const keys = [...this.#values.keys()].filter((key) => key >= from && key < to).sort();
    return keys.slice(0, options.limit).map((key) => this.#values.get(key) as KeyValue);
  }

  async transact({ compares, writes }: Transaction): Promise<Outcome> {
    this.#assertOpen();
    for (const compare of compares) {
      const found = this.#values.get(compare.key);
      const holds =
        compare.is === 'at'
          ? found?.revision === compare.revision
          : (found === undefined) === (compare.is === 'absent');
      if (!holds) return { committed: false };
    }
    this.#revision += 1;
    for (const write of writes) {
      if ('put' in write)
        this.#values.set(write.key, {
          key: write.key,
          value: write.put.slice(),
          revision: this.#revision,
        });
      else this.#values.delete(write.key);
    }
    return { committed: true, revision: this.#revision };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new StorageError('closed', 'the registry is closed');
  }
}
