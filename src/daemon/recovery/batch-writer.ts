/** Many writes of a registry, in transactions of bounded size, several of them on their way. */

import { limits } from '../../core/limits.ts';
import { Permits } from '../../core/permits.ts';
import { TaskGroup } from '../../core/task-group.ts';
import type { Registry, Write } from '../../ports/registry.ts';

const { registryOperationsMax, registryTransactionBytesMax } = limits;
const atOnceMax = 8;

export class BatchWriter {
  readonly #registry: Registry;
  readonly #onTheirWay = new Permits(atOnceMax);
  readonly #tasks: TaskGroup;
  #writes: Write[] = [];
  #bytes = 0;
  #failure: { readonly error: unknown } | undefined;

  constructor(registry: Registry) {
    this.#registry = registry;
    this.#tasks = new TaskGroup((error) => {
      this.#failure ??= { error };
    });
  }

  /** No key twice before `drained`. */
  async add(write: Write): Promise<void> {
    const bytes = 'put' in write ? write.put.length : 0;
    while (
      this.#writes.length === registryOperationsMax ||
      this.#bytes + bytes > registryTransactionBytesMax
    )
      await this.#send();
    this.#writes.push(write);
    this.#bytes += bytes;
  }

  /** Resolves when all is written. */
  async drained(): Promise<void> {
    await this.#send();
    await this.#tasks.drained();
    if (this.#failure) throw this.#failure.error;
  }

  async #send(): Promise<void> {
    const writes = this.#writes;
    [this.#writes, this.#bytes] = [[], 0];
    if (writes.length === 0) return;
    await this.#onTheirWay.acquire(1);
    this.#tasks.run(async () => {
      try {
        await this.#registry.transact({ compares: [], writes });
      } finally {
        this.#onTheirWay.release(1);
      }
    });
    if (this.#failure) throw this.#failure.error;
  }
}
