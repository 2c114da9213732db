/** What the suite of `Registry` runs in, and how it looks at watches. */

import assert from 'node:assert/strict';
import type { Clock } from '../../src/ports/clock.ts';
import type { KeyRange, Registry, WatchEvent } from '../../src/ports/registry.ts';
import { prefixRange } from '../../src/ports/registry.ts';

export interface RegistryWorld extends AsyncDisposable {
  readonly registry: Registry;
  /** The same store, as somebody else sees it. */
  readonly other: Registry;
  readonly clock: Clock;
  /** The shortest lease that can be asked for. */
  readonly ttlMs: number;
  /** Time goes by. */
  pass(ms: number): Promise<void>;
  /** Makes the store forget all changes so far. */
  compact(): Promise<void>;
}

export const bytes = (text: string) => new Uint8Array(Buffer.from(text));
export const text = (value: Uint8Array | undefined) => value && Buffer.from(value).toString();
export const put = (key: string, value: string) => ({ key, put: bytes(value) });
export const wholeRange = prefixRange('k');

export async function write(
  registry: Registry,
  ...writes: (readonly [string, string | undefined])[]
) {
  const outcome = await registry.transact({
    compares: [],
    writes: writes.map(([key, value]) =>
      value === undefined ? { key, delete: true } : put(key, value),
    ),
  });
  assert.ok(outcome.committed);
  return outcome.revision;
}

export const revisionOf = async (registry: Registry) => (await registry.range(wholeRange)).revision;

/** Waits for `promise` while time goes by. */
async function settled<T>(world: RegistryWorld, promise: Promise<T>): Promise<T> {
  let done = false;
  const noted = promise.finally(() => {
    done = true;
  });
  noted.catch(() => undefined);
  for (let round = 0; !done; round += 1) {
    assert.ok(round < 10_000, 'nothing comes');
    await world.pass(10);
  }
  return noted;
}

/** What a watch tells, one event a line: `a=1` or `a-`, of one transaction joined by commas. */
export class Seen {
  readonly transactions: (readonly WatchEvent[])[] = [];
  readonly #iterator: AsyncIterator<readonly WatchEvent[]>;
  readonly #world: RegistryWorld;

  constructor(
    world: RegistryWorld,
    registry: Registry,
    from: number,
    options: { readonly range?: KeyRange; readonly signal?: AbortSignal } = {},
  ) {
    const { range = wholeRange, signal } = options;
    this.#world = world;
    this.#iterator = registry
      .watch(range, from, { ...(signal && { signal }) })
      [Symbol.asyncIterator]();
  }

  async next(count = 1): Promise<this> {
    for (let left = count; left > 0; left -= 1) {
      const { value } = await settled(this.#world, this.#iterator.next());
      this.transactions.push(value as readonly WatchEvent[]);
    }
    return this;
  }

  async end(): Promise<void> {
    await this.#iterator.return?.();
  }

  get last(): number {
    return this.transactions.at(-1)?.[0]?.revision ?? 0;
  }

  get lines(): string[] {
    return this.transactions.map((events) =>
      events
        .map(({ key, value }) => (value === undefined ? `${key}-` : `${key}=${text(value)}`))
        .sort()
        .join(),
    );
  }
}
