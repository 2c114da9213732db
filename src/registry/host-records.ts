/**
 * The hosts of a vPool that are alive: one record each, bound to the host's lease, so that its
 * absence proves that the host's right to serve has ended.
 *
 *   H<host id>   {instance, data, address, mount, pid, domain}
 */

import { StorageError } from '../core/errors.ts';
import type { HostId } from '../core/units.ts';
import { hostId } from '../core/units.ts';
import type { Compare, KeyValue, Lease, Registry } from '../ports/registry.ts';
import { prefixRange } from '../ports/registry.ts';
import { encodeRecord, RecordReader } from './record.ts';

export interface HostRecord {
  readonly id: HostId;
  /** Random, of this process. */
  readonly instance: string;
  /** Random, of the folder on the SSD: two processes with one never run at once. */
  readonly data: string;
  /** Where its peers reach it, as `10.0.0.1:7000`. */
  readonly address: string;
  readonly mount: string;
  readonly pid: number;
  /** Hosts with one are likely to fail together. */
  readonly domain?: string;
}

const prefix = 'H';
const keyOf = (host: HostId) => `${prefix}${host}`;

function decode({ key, value }: KeyValue): HostRecord {
  const fields = new RecordReader(`host ${key.slice(prefix.length)}`, value);
  const domain = fields.optionalText('domain');
  return {
    id: hostId(key.slice(prefix.length)),
    instance: fields.text('instance'),
    data: fields.text('data'),
    address: fields.text('address'),
    mount: fields.text('mount'),
    pid: fields.count('pid'),
    ...(domain !== undefined && { domain }),
  };
}

/** For a transaction that may only happen once the host's lease is gone. */
export function hostIsGone(host: HostId): Compare {
  return { key: keyOf(host), is: 'absent' };
}

/** For a transaction that may only happen while the host's lease of this session lives. */
export function hostIsHere(host: HostId, session: number): Compare {
  return { key: keyOf(host), is: 'at', revision: session };
}

export class HostRecords {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /**
   * Gives the revision, which grows with each time that a host joins. A record that an earlier
   * process on the same data has left is replaced: whoever holds the data's lock knows that it is
   * dead. `exists` where another daemon uses this host id.
   */
  async join({ id, ...record }: HostRecord, lease: Lease): Promise<number> {
    const key = keyOf(id);
    for (;;) {
      const found = await this.#registry.get(key);
      const other = found && decode(found);
      if (other && other.data !== record.data)
        throw new StorageError(
          'exists',
          `host: found ${id}, which a daemon at ${other.address} (process ${other.pid}) uses; ` +
            'allowed is an id of its own for each host',
        );
      const compare: Compare = found
        ? { key, is: 'at', revision: found.revision }
        : { key, is: 'absent' };
      const outcome = await this.#registry.transact({
        compares: [compare],
        writes: [{ key, put: encodeRecord(record), lease: lease.id }],
      });
      if (outcome.committed) return outcome.revision;
    }
  }

  async find(host: HostId): Promise<HostRecord | undefined> {
    const found = await this.#registry.get(keyOf(host));
    return found && decode(found);
  }

  /** Revision of the host's record, see `join`; undefined where the host is gone. */
  async session(host: HostId): Promise<number | undefined> {
    return (await this.#registry.get(keyOf(host)))?.revision;
  }

  async list(): Promise<readonly HostRecord[]> {
    return (await this.#registry.range(prefixRange(prefix))).entries.map(decode);
  }
}
