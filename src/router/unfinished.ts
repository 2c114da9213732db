/** What a host that starts finds on its SSD: journals of volumes that it may own still. */

import { isStorageError } from '../core/errors.ts';
import type { HostId, ObjectId } from '../core/units.ts';
import type { Log } from '../ports/log.ts';
import type { Objects } from '../ports/objects.ts';
import type { ObjectRecords } from '../registry/object-records.ts';
import type { Tails } from './moves/handover.ts';

export interface UnfinishedDeps {
  readonly host: HostId;
  readonly router: Pick<Objects, 'open' | 'release'>;
  readonly records: ObjectRecords;
  readonly tails: Pick<Tails, 'discard'>;
  readonly log: Log;
}

export interface Recovered {
  readonly id: ObjectId;
  readonly sizeBytes: number;
}

/** Opens those that are this host's, and gives their sizes; what lies here of others is old. */
export async function recoverUnfinished(
  { host, router, records, tails, log }: UnfinishedDeps,
  ids: readonly ObjectId[],
): Promise<readonly Recovered[]> {
  const recovered: Recovered[] = [];
  for (const id of ids) {
    try {
      const record = await records.find(id);
      if (record?.owner !== host) {
        await tails.discard(id);
        continue;
      }
      const object = await router.open(id);
      recovered.push({ id, sizeBytes: object.size() });
      router.release(id);
    } catch (error) {
      if (!isStorageError(error)) throw error;
      const { code, message } = error;
      log.error({ object: id, code, error: message }, 'object is not recovered');
    }
  }
  return recovered;
}
