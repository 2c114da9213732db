/** A vPool that its registry knows nothing of: it is new, or the registry is lost. */

import { isStorageError, StorageError } from '../core/errors.ts';
import type { Backend, CallOptions } from '../ports/blob-store.ts';
import type { Random } from '../ports/random.ts';
import type { Registry } from '../ports/registry.ts';
import { copyBucketOf } from '../registry/copy/copy-bucket.ts';
import type { VpoolRecord } from '../registry/vpool-record.ts';
import { findVpool, openVpool } from '../registry/vpool-record.ts';

export interface BeginDeps {
  readonly registry: Registry;
  readonly random: Random;
  readonly backend: Backend;
}

/**
 * Makes it. `exists` where the buckets hold the copy of a registry: a new one beside it would have no
 * names for what is there, and would take the copy's place in the end.
 */
export async function beginVpool(
  { registry, random, backend }: BeginDeps,
  name: string,
  options: CallOptions = {},
): Promise<VpoolRecord> {
  const bucket = copyBucketOf(`wharf-${name}`);
  const isLost = await holdsBlobs(backend, bucket, options);
  // Unless another host has begun it meanwhile.
  if (isLost && !(await findVpool(registry, name)))
    throw new StorageError(
      'exists',
      `registry: found an empty one, but the object store holds vPool ${name}; ` +
        `\`wharf vpool recover ${name}\` brings its names back (to begin anew, delete bucket ${bucket})`,
    );
  return openVpool(registry, random, name);
}

async function holdsBlobs(
  backend: Backend,
  bucket: string,
  options: CallOptions,
): Promise<boolean> {
  try {
    return (await backend.bucket(bucket).list({ ...options, prefix: '' })).blobs.length > 0;
  } catch (error) {
    if (isStorageError(error, 'not_found')) return false;
    throw error;
  }
}
