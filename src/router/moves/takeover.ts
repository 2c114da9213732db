/** Takes an object from a host that is gone because it is ordered, not because somebody uses it. */

import { StorageError } from '../../core/errors.ts';
import type { ObjectId } from '../../core/units.ts';
import type { Log } from '../../ports/log.ts';
import type { Objects } from '../../ports/objects.ts';
import type { HostRecords } from '../../registry/host-records.ts';
import type { ObjectRecord, ObjectRecords } from '../../registry/object-records.ts';
import { whoHas } from '../../registry/object-records.ts';

export interface TakeoverDeps {
  readonly router: Pick<Objects, 'open' | 'release'>;
  readonly records: ObjectRecords;
  readonly hosts: HostRecords;
  readonly log: Log;
}

/**
 * Has the object served here, or by the host of its copy. Where only the SSDs of hosts that are
 * gone have its last changes, `accept` gives those up; without, `unavailable`. `busy` where a host
 * has come back.
 */
export async function takeOver(deps: TakeoverDeps, id: ObjectId, accept: boolean): Promise<void> {
  const { router, records, log } = deps;
  const record = await records.get(id);
  if (await isAbandoned(deps, record)) {
    if (!accept) throw new StorageError('unavailable', `it waits for ${whoHas(record)}`);
    if (!(await records.acceptLoss(record)))
      throw new StorageError('busy', 'a host that it waits for has come back');
    log.warn({ object: id, of: record.owner }, 'an administrator gives its last changes up');
  }
  const object = await router.open(id);
  try {
    // Where it was forwarded until now, a request finds out that its owner is gone.
    await object.refresh();
  } finally {
    router.release(id);
  }
}

/** Whether nobody who is up has the last changes. */
export async function isAbandoned(
  { hosts }: Pick<TakeoverDeps, 'hosts'>,
  { kind, owner, tail }: ObjectRecord,
): Promise<boolean> {
  if (kind === 'file' || tail === 'backend' || (await hosts.find(owner))) return false;
  return typeof tail === 'string' || !(await hosts.find(tail.host));
}
