/** A volume from its bucket alone, on an empty disk, in a registry that has lost it. */

import { encodeHead } from '../../src/format/head.ts';
import { putObject } from '../../src/registry/object-records.ts';
import type { Rebuilt } from '../../src/volume/rebuild.ts';
import { rebuildHead } from '../../src/volume/rebuild.ts';
import { host, VolumeWorld } from './volume-world.ts';

export interface RebuiltVolume extends Rebuilt {
  readonly content: Uint8Array;
}

export async function rebuildVolume(from: VolumeWorld): Promise<RebuiltVolume> {
  const world = new VolumeWorld(from.settings, Number.parseInt(from.id, 16));
  await world.backend.createBucket(from.bucket);
  for (const [key, blob] of from.backend.blobs(from.bucket))
    world.backend.blobs(from.bucket).set(key, Uint8Array.from(blob));
  const { checksum, id, registry } = world;
  const { signal } = new AbortController();
  const buckets = [{ id, store: world.backend.bucket(world.bucket) }];
  const rebuilt = await rebuildHead({ buckets, checksum, signal });
  const state = { kind: 'volume', owner: host, epoch: rebuilt.epoch, tail: 'backend' } as const;
  const writes = putObject(id, { ...state, isPinned: false }, encodeHead(rebuilt.head, checksum));
  await registry.transact({ compares: [], writes });
  const volume = await world.open();
  const content = new Uint8Array(volume.size());
  await volume.read(0, content);
  await volume.close();
  await registry.close();
  return { ...rebuilt, content };
}
