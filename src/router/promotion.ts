/** A file that outgrew its driver becomes a volume under the same id and tenure. */

import { limits } from '../core/limits.ts';
import type { DataObject } from '../ports/data-object.ts';
import type { Log } from '../ports/log.ts';
import type { ObjectDriver } from '../ports/object-driver.ts';
import type { ObjectRecords } from '../registry/object-records.ts';
import type { Here } from './backing.ts';

const copyBytes = limits.requestBytesMax;

export interface PromotionDeps {
  readonly records: ObjectRecords;
  readonly volumes: ObjectDriver;
  readonly files: ObjectDriver;
  readonly log: Log;
}

/** Rejects with the file as it was. Nobody else uses it meanwhile. */
export async function promoteFile(deps: PromotionDeps, file: Here): Promise<Here> {
  const { volumes, files, records, log } = deps;
  const { object, tenure } = file;
  await object.flush();
  // Whatever an earlier attempt left.
  await volumes.delete(tenure.objectId);
  await volumes.create(tenure, object.changes);
  const volume = await volumes.open(tenure);
  try {
    await copy(object, volume);
    await volume.sync();
    await records.promote(tenure.objectId, tenure.epoch);
  } catch (error) {
    await volume.abandon();
    throw error;
  }
  // It is a volume now, whatever becomes of the file's pieces: they go with the object at last.
  await object.abandon();
  const facts = { object: tenure.objectId, sizeBytes: volume.size() };
  log.info(facts, 'file has become a volume');
  files.delete(tenure.objectId).catch((error: unknown) => {
    log.warn({ ...facts, error: String(error) }, 'pieces of the file are left');
  });
  return { ...file, object: volume, kind: 'volume' };
}

async function copy(from: DataObject, to: DataObject): Promise<void> {
  const buffer = new Uint8Array(copyBytes);
  const size = from.size();
  for (let offset = 0; offset < size; offset += copyBytes) {
    const bytes = await from.read(offset, buffer);
    await to.write(offset, buffer.subarray(0, bytes));
  }
  await to.resize(size);
}
