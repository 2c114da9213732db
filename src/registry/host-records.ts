/**
 * The hosts of a vPool that are alive: one record each, bound to the host's lease, so that its
 * absence proves that the host's right to serve has ended.
 *
 *   H<host id>   {instance, data, address, mount, pid, domain, shared}
 *   joining      the host that joined last: each join changes it, so that of two at once one sees
 *                the other
 */

import { StorageError } from '../core/errors.ts';
import type { HostId } from '../core/units.ts';
import { hostId } from '../core/units.ts';
import type { Compare, KeyValue, Lease, Registry } from '../ports/registry.ts';
import { prefixRange } from '../ports/registry.ts';
import { encodeRecord, RecordReader } from './record.ts';
import type { SharedSettings } from './shared-settings.ts';
import { checkShared } from './shared-settings.ts';

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
  readonly shared: SharedSettings;
}

const prefix = 'H';
const joiningKey = 'joining';
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
    shared: fields.texts('shared'),
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

function unchanged(key: string, found: KeyValue | undefined): Compare {
  return found ? { key, is: 'at', revision: found.revision } : { key, is: 'absent' };
}

function checkTogether(record: HostRecord, other: HostRecord): void {
  if (other.id !== record.id) return checkShared(record.shared, other);
  if (other.data !== record.data)
    throw new StorageError(
      'exists',
      `host: found ${other.id}, which a daemon at ${other.address} (process ${other.pid}) uses; ` +
        'allowed is an id of its own for each host',
    );
}

export class HostRecords {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /**
   * Gives the revision, which grows with each time that a host joins. A record that an earlier
   * process on the same data has left is replaced: whoever holds the data's lock knows that it is
   * dead. `exists` where another daemon uses this host id, `invalid` where a host that is here has
   * other settings.
   */
  async join(record: HostRecord, lease: Lease): Promise<number> {
    const { id, ...fields } = record;
    const key = keyOf(id);
    for (;;) {
      const joined = await this.#registry.get(joiningKey);
      const { entries } = await this.#registry.range(prefixRange(prefix));
      for (const other of entries.map(decode)) checkTogether(record, other);
      const found = entries.find((entry) => entry.key === key);
      const outcome = await this.#registry.transact({
        compares: [unchanged(key, found), unchanged(joiningKey, joined)],
        writes: [
          { key, put: encodeRecord(fields), lease: lease.id },
          { key: joiningKey, put: encodeRecord({ host: id }) },
        ],
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
