/**
 * A registry whose every state is remembered, hosts that copy it into a bucket, and what a recovery
 * would read there. Time is simulated; hosts die without a word, and the bucket can fail each of them.
 */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { MemoryBackend } from '../../src/backend/memory-backend.ts';
import type { Faults } from '../../src/backend/with-faults.ts';
import { noFaults, withFaults } from '../../src/backend/with-faults.ts';
import { isStorageError } from '../../src/core/errors.ts';
import { hostId } from '../../src/core/units.ts';
import { tableChecksum } from '../../src/platform/checksum.ts';
import { seededRandom } from '../../src/platform/random.ts';
import { SimulatedClock } from '../../src/platform/simulated-clock.ts';
import type { Registry } from '../../src/ports/registry.ts';
import { isCopied } from '../../src/registry/copy/copied-keys.ts';
import type { CopySearch } from '../../src/registry/copy/copy-reader.ts';
import { CopyReader } from '../../src/registry/copy/copy-reader.ts';
import { RegistryCopier } from '../../src/registry/copy/registry-copier.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { MemoryStore } from '../../src/registry/memory-store.ts';
import { openVpool } from '../../src/registry/vpool-record.ts';
import { quietLog } from './quiet-log.ts';

export const copyBucket = 'wharf-demo-registry';
export const copyDelayMs = 30_000;

/** A registry as it was, but for what is not copied. */
type State = ReadonlyMap<string, string>;

const digest = (value: Uint8Array) => createHash('sha1').update(value).digest('hex');

interface Host {
  readonly copier: RegistryCopier;
  readonly registry: Registry;
  readonly faults: Faults;
}

export class CopyWorld {
  readonly clock = new SimulatedClock();
  readonly backend = new MemoryBackend();
  readonly checksum = tableChecksum();
  readonly log = quietLog();
  readonly #store = new MemoryStore(this.clock);
  /** Of whoever changes what is copied. */
  readonly registry = new MemoryRegistry(this.clock, this.#store);
  readonly #states = new Map<number, State>();
  #state = new Map<string, string>();
  #watching: Promise<void> | undefined;
  salt = '';

  async open(): Promise<void> {
    await this.backend.createBucket(copyBucket);
    this.#states.set(0, this.#state);
    this.#watching = this.#remember();
    this.salt = (await openVpool(this.registry, seededRandom(1), 'demo')).salt;
  }

  get blobs(): Map<string, Uint8Array> {
    return this.backend.blobs(copyBucket);
  }

  get revision(): number {
    return this.#store.revision;
  }

  join(name: string): Host {
    const registry = new MemoryRegistry(this.clock, this.#store);
    const faults = noFaults();
    const store = withFaults(this.backend, faults).bucket(copyBucket);
    const { clock, checksum, log, salt } = this;
    const copier = new RegistryCopier({
      ...{ registry, store, checksum, clock, log, salt },
      ...{ host: hostId(name), delayMs: copyDelayMs },
    });
    copier.start();
    return { copier, registry, faults };
  }

  /** Nothing of it reaches anybody any more, and its leases run out. */
  async kill({ copier, registry, faults }: Host): Promise<void> {
    faults.choose = () => 'before';
    await registry.close();
    await this.during(copier.close());
  }

  async change(...writes: readonly (readonly [key: string, value: Uint8Array | undefined])[]) {
    await this.registry.transact({
      compares: [],
      writes: writes.map(([key, value]) => (value ? { key, put: value } : { key, delete: true })),
    });
  }

  /** Time goes by until it is done. */
  async during<T>(promise: Promise<T>): Promise<T> {
    let isDone = false;
    const settled = promise.finally(() => {
      isDone = true;
    });
    settled.catch(() => {});
    for (let turn = 0; !isDone; turn += 1) {
      assert.ok(turn < 100_000, 'it never ends');
      await this.clock.advance(10);
    }
    return settled;
  }

  /** Until `isSo`, a second at a time. */
  async until(what: string, isSo: () => Promise<boolean>): Promise<void> {
    for (let second = 0; !(await isSo()); second += 1) {
      assert.ok(second < 1000, `never happens: ${what}`);
      await this.clock.advance(1000);
    }
  }

  search(): Promise<CopySearch> {
    return new CopyReader(this.backend.bucket(copyBucket), this.checksum).find('demo');
  }

  /** The copy is a state that the registry had, the one of its revision; gives that. */
  async check(): Promise<number> {
    const { copy } = await this.search();
    if (!copy) return 0;
    const found = new Map<string, string>();
    const reader = new CopyReader(this.backend.bucket(copyBucket), this.checksum);
    for await (const entries of reader.read(copy))
      for (const { key, value } of entries)
        if (value) found.set(key, digest(value));
        else found.delete(key);
    const revisions = [...this.#states.keys()].filter((revision) => revision <= copy.revision);
    const expected = this.#states.get(Math.max(...revisions));
    assert.deepEqual(sorted(found), sorted(expected ?? new Map()));
    return copy.revision;
  }

  /** The copy holds all that is there now. */
  async isCurrent(): Promise<boolean> {
    const revisions = [...this.#states.keys()];
    return (await this.check()) >= Math.max(...revisions);
  }

  async close(): Promise<void> {
    await this.registry.close();
    await this.#watching;
  }

  async #remember(): Promise<void> {
    try {
      for await (const events of this.registry.watch({ from: '', to: '\u0100' }, 0)) {
        const copied = events.filter(({ key }) => isCopied(key));
        if (copied.length === 0) continue;
        this.#state = new Map(this.#state);
        for (const { key, value } of copied)
          if (value) this.#state.set(key, digest(value));
          else this.#state.delete(key);
        this.#states.set(events[0]?.revision ?? 0, this.#state);
      }
    } catch (error) {
      if (!isStorageError(error, 'closed')) throw error;
    }
  }
}

function sorted(state: State): [string, string][] {
  return [...state].sort(([a], [b]) => (a < b ? -1 : 1));
}
