/**
 * What is known of snapshots as folders show them, beside the inodes and names in `.snapshots`:
 *
 *   v<object id><snapshot>   {parent, cookie}: the entry that shows the snapshot of a volume
 *   q<ino 8><snapshot>       {host, created, root, volumes, files}: that host is making the snapshot
 *                            in the folder. Goes with the transaction that shows it, or when all
 *                            that was made has been undone
 */

import type { HostId, Ino, ObjectId } from '../core/units.ts';
import type { Registry } from '../ports/registry.ts';
import { prefixRange } from '../ports/registry.ts';
import { inoOfKey, number8 } from './namespace.ts';
import { encodeRecord, RecordReader } from './record.ts';
import { asLatin1, asText } from './snapshot-records.ts';

/** A snapshot that is being made. */
export interface Undertaking {
  readonly folder: Ino;
  readonly name: string;
  readonly host: HostId;
  /** Tells it from others of the same name. */
  readonly createdNs: bigint;
  /** The folder under `.snapshots`, which nobody sees so far. */
  readonly root: Ino;
  readonly volumes: readonly ObjectId[];
  /** Objects that are made to hold the content of small files. */
  readonly files: readonly ObjectId[];
}

export const undertakingKey = (folder: Ino, name: string) => `q${number8(folder)}${asLatin1(name)}`;
export const placeKey = (volume: ObjectId, snapshot: string) => `v${volume}${asLatin1(snapshot)}`;

export function encodeUndertaking(undertaking: Undertaking): Uint8Array {
  const { host, createdNs, root, volumes, files } = undertaking;
  return encodeRecord({ host, created: String(createdNs), root, volumes, files });
}

export async function* listUndertakings(registry: Registry): AsyncGenerator<Undertaking> {
  const { entries } = await registry.range(prefixRange('q'));
  for (const { key, value } of entries) {
    const fields = new RecordReader('snapshot that is being made', value);
    yield {
      folder: inoOfKey(key.slice(1, 9)),
      name: asText(key.slice(9)),
      host: fields.hostId('host'),
      createdNs: fields.time('created'),
      root: fields.ino('root'),
      volumes: fields.objectIds('volumes'),
      files: fields.objectIds('files'),
    };
  }
}

/** The entry that shows the snapshot. */
export interface Place {
  readonly parent: Ino;
  readonly cookie: bigint;
}

export function encodePlace({ parent, cookie }: Place): Uint8Array {
  return encodeRecord({ parent, cookie: String(cookie) });
}

export async function findPlace(
  registry: Registry,
  volume: ObjectId,
  snapshot: string,
): Promise<Place | undefined> {
  const found = await registry.get(placeKey(volume, snapshot));
  if (!found) return undefined;
  const fields = new RecordReader('place of a snapshot', found.value);
  return { parent: fields.ino('parent'), cookie: fields.time('cookie') };
}
