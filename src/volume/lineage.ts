/** The buckets of a volume and of what it is a clone of, by origin: the volume's own first. */

import type { ObjectId } from '../core/units.ts';
import type { SourcesByOrigin } from './page-tree.ts';
import type { Bucket } from './recovery.ts';
import type { VolumeDriverDeps } from './volume-deps.ts';

export interface Lineage {
  readonly buckets: readonly Bucket[];
  readonly sources: SourcesByOrigin;
}

export function openLineage(
  { backend, bucketOf, sources }: Pick<VolumeDriverDeps, 'backend' | 'bucketOf' | 'sources'>,
  ids: readonly ObjectId[],
  signal: AbortSignal,
): Lineage {
  const buckets = ids.map((id) => ({ id, store: backend.bucket(bucketOf(id)) }));
  return { buckets, sources: buckets.map(({ id, store }) => sources.source(id, store, signal)) };
}
