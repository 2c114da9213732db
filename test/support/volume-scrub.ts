/** Looks through a volume of a `VolumeWorld` at rest. */

import { decodeHead } from '../../src/format/head.ts';
import type { KeptHead, VolumeReport } from '../../src/volume/scrub-volume.ts';
import { VolumeScrub } from '../../src/volume/scrub-volume.ts';
import type { VolumeWorld } from './volume-world.ts';

export async function scrubVolume(world: VolumeWorld): Promise<VolumeReport> {
  const { id, records, checksum } = world;
  const { epoch } = await records.get(id);
  const found = await records.findHead(id, 'volume');
  const snapshots: KeptHead[] = [];
  for await (const snapshot of world.snapshots.list(id)) snapshots.push(snapshot);
  const store = world.backend.bucket(world.bucket);
  const { signal } = new AbortController();
  const volume = { id, epoch, head: found?.head, snapshots };
  return new VolumeScrub({ store, checksum, signal }, volume).run();
}

export async function headOf({ id, records, checksum }: VolumeWorld) {
  const found = await records.findHead(id, 'volume');
  return decodeHead(found?.head as Uint8Array, checksum);
}
