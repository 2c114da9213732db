/**
 * A registry that is put together again. While that goes on a mark stands in it, which daemons
 * respect, and one process at a time has its lock. A run that was cut short leaves the mark: the
 * next one removes what there is and begins again. The vPool's record comes last, with the mark.
 */

import { StorageError } from '../../core/errors.ts';
import type { CopyEntry } from '../../format/registry-copy.ts';
import type { Clock } from '../../ports/clock.ts';
import type { KeyRange, KeyValue, Lease, Registry } from '../../ports/registry.ts';
import { prefixRange } from '../../ports/registry.ts';
import { copiedRanges } from '../../registry/copy/copied-keys.ts';
import type { CopyRecord } from '../../registry/copy/copy-record.ts';
import { copierKey, copyKey, encodeCopyRecord } from '../../registry/copy/copy-record.ts';
import { HostRecords } from '../../registry/host-records.ts';
import { encodeRecord } from '../../registry/record.ts';
import { recoveryKey, vpoolKey } from '../../registry/vpool-record.ts';
import { BatchWriter } from './batch-writer.ts';

const keysPerPage = 500;
const lockTtlMs = 5000;
const lockPauseMs = 250;

/** All keys of a range, a page at a time. */
export async function* keysOf(
  registry: Registry,
  { from, to }: KeyRange,
): AsyncGenerator<KeyValue, void> {
  for (let next: string | undefined = from; next !== undefined; ) {
    const { entries } = await registry.range({ from: next, to }, { limit: keysPerPage });
    yield* entries;
    const last = entries.at(-1);
    next = last && entries.length === keysPerPage ? `${last.key}\0` : undefined;
  }
}

/** `exists`, `busy`; where a recovery was cut short it may be anything. */
export async function refuseUnlessEmpty(registry: Registry): Promise<void> {
  const [host] = await new HostRecords(registry).list();
  if (host)
    throw new StorageError(
      'busy',
      `host ${host.id} (${host.address}) is up: stop all hosts of the vPool first`,
    );
  if (await registry.get(recoveryKey)) return;
  for (const range of copiedRanges)
    if ((await registry.range(range, { limit: 1 })).entries.length > 0)
      throw new StorageError(
        'exists',
        'registry: found one that is not empty; a recovery fills an empty one, and changes no other',
      );
}

export class RestoredRegistry implements AsyncDisposable {
  readonly #registry: Registry;
  readonly #lock: Lease;
  #vpool: Uint8Array | undefined;

  private constructor(registry: Registry, lock: Lease) {
    this.#registry = registry;
    this.#lock = lock;
  }

  /** Takes the lock, of a run that was killed once it is over; sets the mark, and removes the rest. */
  static async begin(registry: Registry, clock: Clock): Promise<RestoredRegistry> {
    await refuseUnlessEmpty(registry);
    const lock = await registry.grantLease(lockTtlMs);
    const restored = new RestoredRegistry(registry, lock);
    try {
      const untilMs = clock.monotonicMs() + 2 * lock.ttlMs;
      while (!(await restored.#mark())) {
        if (clock.monotonicMs() > untilMs)
          throw new StorageError('busy', 'somebody else recovers or uses the registry');
        await clock.sleep(lockPauseMs);
      }
      const writer = new BatchWriter(registry);
      for (const range of [...copiedRanges, prefixRange('hv')])
        for await (const { key } of keysOf(registry, range))
          await writer.add({ key, delete: true });
      await writer.drained();
      return restored;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /** Entries of one blob of the copy. */
  async apply(entries: readonly CopyEntry[]): Promise<void> {
    this.#lock.signal.throwIfAborted();
    const writer = new BatchWriter(this.#registry);
    for (const { key, value } of entries)
      if (key === vpoolKey) this.#vpool = value && Uint8Array.from(value);
      else await writer.add(value ? { key, put: value } : { key, delete: true });
    await writer.drained();
  }

  /** It is whole: daemons may begin. */
  async finish(copy: CopyRecord): Promise<void> {
    const put = this.#vpool;
    if (!put) throw new StorageError('corrupt', 'the copy of the registry names no vPool');
    this.#lock.signal.throwIfAborted();
    const { committed } = await this.#registry.transact({
      compares: [{ key: recoveryKey, is: 'present' }],
      writes: [
        { key: vpoolKey, put },
        { key: copyKey, put: encodeCopyRecord(copy) },
        { key: recoveryKey, delete: true },
      ],
    });
    if (!committed) throw new StorageError('busy', 'somebody else has changed the registry');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lock.release();
  }

  async #mark(): Promise<boolean> {
    const outcome = await this.#registry.transact({
      compares: [
        { key: copierKey, is: 'absent' },
        { key: vpoolKey, is: 'absent' },
      ],
      writes: [
        { key: copierKey, put: encodeRecord({ host: 'recovery' }), lease: this.#lock.id },
        { key: recoveryKey, put: encodeRecord({}) },
      ],
    });
    return outcome.committed;
  }
}
