/**
 * The registry of many hosts: etcd, version 3.4 or newer. All keys lie under `wharf/`; a revision is
 * etcd's own. Reads and compares ask a majority of the members, never a member that was cut off.
 *
 * A leader that was deposed and does not know it yet may answer a renewal for as long as an election
 * takes (a second by default): margins of those who hold leases are larger.
 */

import { StorageError } from '../core/errors.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { LeaseId } from '../core/units.ts';
import { leaseId } from '../core/units.ts';
import type { CallOptions } from '../ports/blob-store.ts';
import type { Clock } from '../ports/clock.ts';
import type {
  Compare,
  KeyRange,
  KeyValue,
  Lease,
  Outcome,
  RangeResult,
  Registry,
  Transaction,
  WatchEvent,
  Write,
} from '../ports/registry.ts';
import type { EtcdClient, EtcdSettings } from './etcd-client.ts';
import { makeEtcdClient } from './etcd-client.ts';
import { findMistake, translate } from './etcd-errors.ts';
import { bytesOfKey, endOfRange, keyOfBytes } from './etcd-keys.ts';
import { renewOnce } from './etcd-lease.ts';
import { watchOnce } from './etcd-watch.ts';
import { KeptLease } from './kept-lease.ts';
import { checkTransaction } from './transaction-check.ts';
import { untilAborted } from './until-aborted.ts';

const entriesPerCall = 500;
/** One that is ours whatever the prefix of other users of the cluster. */
const probeKey = bytesOfKey('probe');

export class EtcdRegistry implements Registry {
  readonly #client: EtcdClient;
  readonly #clock: Clock;
  readonly #closing = new AbortController();
  readonly #tasks = new TaskGroup((error) => {
    throw error;
  });

  private constructor(client: EtcdClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  /**
   * `invalid`, naming the setting to change, where one of the endpoints shows that settings are
   * wrong; `unavailable` where none answers. Once it is open, everything is waited for: what has
   * worked may work again.
   */
  static async open(settings: EtcdSettings, clock: Clock): Promise<EtcdRegistry> {
    const client = makeEtcdClient(settings, clock);
    const answers = await Promise.all(
      settings.endpoints.map(async (endpoint) => {
        const probe = makeEtcdClient({ ...settings, endpoints: [endpoint] }, clock);
        try {
          await probe.kv.range({ key: probeKey });
          return 'answered';
        } catch (error) {
          const mistake = findMistake(error, endpoint);
          if (mistake !== undefined) return new StorageError('invalid', mistake, { cause: error });
          return translate(error, 'read');
        } finally {
          probe.close();
        }
      }),
    );
    const failures = answers.filter((answer) => answer !== 'answered');
    const [failure] = failures.toSorted((a, b) => Number(isInvalid(b)) - Number(isInvalid(a)));
    if (failure && (isInvalid(failure) || failures.length === answers.length)) {
      client.close();
      if (isInvalid(failure)) throw failure;
      const text = 'registry.etcd.endpoints: found that none answers; start etcd or change them';
      throw new StorageError('unavailable', text, { cause: failure });
    }
    return new EtcdRegistry(client, clock);
  }

  async get(key: string, options: CallOptions = {}): Promise<KeyValue | undefined> {
    const request = { key: bytesOfKey(key) };
    const { kvs } = await this.#call('read', options, ({ kv }) => kv.range(request));
    return kvs[0] && toKeyValue(kvs[0]);
  }

  /** In pages, all as they were at the moment of the first. */
  async range(
    range: KeyRange,
    options: CallOptions & { readonly limit?: number } = {},
  ): Promise<RangeResult> {
    const { limit = Number.POSITIVE_INFINITY, ...rest } = options;
    const entries: KeyValue[] = [];
    let revision: number | undefined;
    for (let from = bytesOfKey(range.from); ; ) {
      const request = {
        key: from,
        range_end: endOfRange(range),
        limit: Math.min(entriesPerCall, limit - entries.length),
        ...(revision !== undefined && { revision }),
      };
      const { header, kvs, more } = await this.#call('read', rest, ({ kv }) => kv.range(request));
      revision ??= Number(header.revision);
      entries.push(...kvs.map(toKeyValue));
      const last = kvs.at(-1);
      if (!more || !last || entries.length >= limit) return { entries, revision };
      from = Buffer.concat([last.key, Buffer.of(0)]);
    }
  }

  async transact(transaction: Transaction, options: CallOptions = {}): Promise<Outcome> {
    checkTransaction(transaction);
    const { compares, writes } = transaction;
    // Without a read, etcd takes a transaction that writes nothing for one that may be answered by
    // any member from what it happens to know.
    const read = { request_range: { key: probeKey, count_only: true } };
    const request = {
      compare: compares.map(toEtcdCompare),
      success: writes.map(toEtcdWrite),
      failure: [read],
    };
    const what = writes.length === 0 ? 'read' : 'write';
    const answer = await this.#call(what, options, ({ kv }) => kv.txn(request));
    if (!answer.succeeded) return { committed: false };
    return { committed: true, revision: Number(answer.header.revision) };
  }

  async grantLease(askedMs: number, options: CallOptions = {}): Promise<Lease> {
    const sentMs = this.#clock.monotonicMs();
    const request = { TTL: Math.ceil(askedMs / 1000) };
    const { ID, TTL } = await this.#call('write', options, ({ leaseClient }) =>
      leaseClient.leaseGrant(request),
    );
    const granted = { id: leaseId(ID), ttlMs: Number(TTL) * 1000, sentMs };
    // A member that does not answer must leave time to ask another.
    const withinMs = granted.ttlMs / 4;
    const calls = {
      renew: (id: LeaseId, renewOptions: CallOptions) =>
        this.#call('read', renewOptions, ({ leaseClient }) =>
          renewOnce(leaseClient, { id, withinMs }, this.#clock),
        ),
      revoke: (id: LeaseId, revokeOptions: CallOptions) => this.#revoke(id, revokeOptions),
    };
    return new KeptLease(granted, calls, this.#clock, this.#tasks, this.#closing.signal);
  }

  async *watch(
    range: KeyRange,
    fromRevision: number,
    { signal }: CallOptions = {},
  ): AsyncGenerator<readonly WatchEvent[], never> {
    const signals = [this.#closing.signal, ...(signal ? [signal] : [])];
    const stop = AbortSignal.any(signals);
    stop.throwIfAborted();
    try {
      yield* watchOnce(this.#client.watchClient, range, fromRevision, stop);
    } catch (error) {
      throw stop.aborted ? stop.reason : translate(error, 'read');
    }
    stop.throwIfAborted();
    throw new StorageError('unavailable', 'etcd has ended the watch');
  }

  async close(): Promise<void> {
    if (!this.#closing.signal.aborted)
      this.#closing.abort(new StorageError('closed', 'the registry is closed'));
    await this.#tasks.drained();
    this.#client.close();
  }

  async #revoke(id: LeaseId, options: CallOptions): Promise<void> {
    try {
      await this.#call('write', options, ({ leaseClient }) => leaseClient.leaseRevoke({ ID: id }));
    } catch (error) {
      // It has ended already.
      if (!(error instanceof StorageError) || error.code !== 'fenced') throw error;
    }
  }

  async #call<T>(
    what: 'read' | 'write',
    { signal }: CallOptions,
    send: (client: EtcdClient) => Promise<T>,
  ): Promise<T> {
    this.#closing.signal.throwIfAborted();
    signal?.throwIfAborted();
    const answer = send(this.#client).catch((error: unknown) => {
      throw translate(error, what);
    });
    return untilAborted(answer, this.#closing.signal, signal);
  }
}

function isInvalid(error: Error): boolean {
  return error instanceof StorageError && error.code === 'invalid';
}

function toKeyValue(kv: { key: Buffer; value: Buffer; mod_revision: string }): KeyValue {
  return { key: keyOfBytes(kv.key), value: kv.value, revision: Number(kv.mod_revision) };
}

function toEtcdCompare(compare: Compare) {
  const key = bytesOfKey(compare.key);
  if (compare.is === 'at')
    return { key, target: 'Mod', result: 'Equal', mod_revision: compare.revision } as const;
  const result = compare.is === 'absent' ? 'Equal' : 'Greater';
  return { key, target: 'Version', result, version: 0 } as const;
}

function toEtcdWrite(write: Write) {
  const key = bytesOfKey(write.key);
  if (!('put' in write)) return { request_delete_range: { key } };
  const value = Buffer.from(write.put);
  return { request_put: { key, value, ...(write.lease && { lease: write.lease }) } };
}
