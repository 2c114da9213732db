/**
 * Brings a vPool back whose registry is lost, from its buckets alone (invariant 11): names as they
 * were at the last write-out, volumes up to what was last brought to the object store.
 */

import { isStorageError, StorageError } from '../../core/errors.ts';
import type { Backend } from '../../ports/blob-store.ts';
import type { Checksum } from '../../ports/checksum.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Registry } from '../../ports/registry.ts';
import { copyBucketOf } from '../../registry/copy/copy-bucket.ts';
import type { CopySearch } from '../../registry/copy/copy-reader.ts';
import { CopyReader } from '../../registry/copy/copy-reader.ts';
import { noCopy } from '../../registry/copy/copy-record.ts';
import { Namespace } from '../../registry/namespace.ts';
import { findPaths, nameRecovered } from './recovered-names.ts';
import type { Loss } from './recovered-objects.ts';
import { recoverObjects } from './recovered-objects.ts';
import { RestoredRegistry } from './restored-registry.ts';

export interface RecoverDeps {
  readonly registry: Registry;
  readonly backend: Backend;
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onProgress: (text: string) => void;
}

export interface RecoveryReport {
  readonly vpool: string;
  /** When the names were as they are now, ms since 1970. */
  readonly namesOfMs: number;
  readonly namesAgeMs: number;
  readonly names: number;
  readonly volumes: number;
  readonly files: number;
  /** Paths of volumes that had none. */
  readonly recovered: readonly string[];
  /** What is missing or damaged, a line each. */
  readonly losses: readonly string[];
}

/** `exists`, `busy`: see restored-registry.ts. `not_found` where the buckets hold no whole copy. */
export async function recoverVpool(deps: RecoverDeps, vpool: string): Promise<RecoveryReport> {
  const { registry, backend, checksum, clock, signal, onProgress } = deps;
  const bucketPrefix = `wharf-${vpool}`;
  const store = backend.bucket(copyBucketOf(bucketPrefix));
  const reader = new CopyReader(store, checksum, { signal });
  onProgress('looking for the newest copy of the registry');
  const { copy, newestTerm, faults } = await findCopy(reader, vpool);
  await using restored = await RestoredRegistry.begin(registry, clock);
  let blobs = 0;
  for await (const entries of reader.read(copy)) {
    blobs += 1;
    onProgress(`names, ${blobs} of ${copy.keys.length} blobs`);
    await restored.apply(entries);
  }
  const found = await recoverObjects({
    ...{ registry, backend, checksum, bucketPrefix, signal, onProgress },
  });
  onProgress('paths');
  const namespace = new Namespace(registry, copy.salt);
  const recovered = await nameRecovered(namespace, clock, found.unnamed);
  const inos = new Set(found.losses.flatMap(({ ino }) => ino ?? []));
  const { names, paths } = await findPaths(namespace, inos);
  await restored.finish({ ...noCopy, term: newestTerm, before: copy.term });
  const whereOf = ({ id, ino }: Loss) => (ino !== undefined && paths.get(ino)) || `object ${id}`;
  const { volumes, files } = found;
  return {
    ...{ vpool, names, volumes, files, recovered },
    namesOfMs: copy.madeMs,
    namesAgeMs: Math.max(0, Number(clock.wallNs() / 1_000_000n) - copy.madeMs),
    losses: [...faults, ...found.losses.map((loss) => `${whereOf(loss)}: ${loss.what}`)],
  };
}

async function findCopy(reader: CopyReader, vpool: string) {
  let search: CopySearch;
  try {
    search = await reader.find(vpool);
  } catch (error) {
    if (!isStorageError(error, 'not_found')) throw error;
    throw new StorageError('not_found', `the object store holds no vPool ${vpool}`, {
      cause: error,
    });
  }
  const { copy } = search;
  if (copy) return { ...search, copy };
  const why = search.faults.length > 0 ? `: ${search.faults.join('; ')}` : '';
  throw new StorageError('not_found', `no whole copy of the registry of vPool ${vpool}${why}`);
}
