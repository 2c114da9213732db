/** The bucket of a vPool that its registry's copy lies in. */

import { limits } from '../../core/limits.ts';
import type { CopyBlobName } from '../../format/registry-copy.ts';
import { parseCopyBlobKey } from '../../format/registry-copy.ts';
import type { BlobStore, CallOptions } from '../../ports/blob-store.ts';

export const copyBucketOf = (bucketPrefix: string) => `${bucketPrefix}-registry`;

export interface CopyListing {
  readonly key: string;
  /** Undefined where the key is none of a copy. */
  readonly name: CopyBlobName | undefined;
}

/** All that is there, in the order of the keys. */
export async function listCopy(
  store: BlobStore,
  options: CallOptions = {},
): Promise<readonly CopyListing[]> {
  const found: CopyListing[] = [];
  for (let after: string | undefined; ; ) {
    const page = await store.list({
      ...options,
      prefix: '',
      ...(after !== undefined && { after }),
    });
    found.push(...page.blobs.map(({ key }) => ({ key, name: parseCopyBlobKey(key) })));
    after = page.next;
    if (after === undefined) return found;
  }
}

/**
 * Deletes what a copy whose newest bases are of these terms needs no more: other bases, and changes
 * from before them. What may be a later host's stays.
 */
export async function tidyCopy(
  store: BlobStore,
  { base, before }: { readonly base: number; readonly before: number },
  options: CallOptions,
): Promise<void> {
  const oldest = before === 0 ? base : before;
  const isStale = ({ kind, term }: CopyBlobName) =>
    term < base && (kind === 'change' ? term < oldest : term !== before);
  const keys = (await listCopy(store, options)).flatMap(({ key, name }) =>
    name && isStale(name) ? key : [],
  );
  for (let first = 0; first < keys.length; first += limits.listEntriesMax)
    await store.deleteMany(keys.slice(first, first + limits.listEntriesMax), options);
}
