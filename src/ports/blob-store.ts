/**
 * Immutable blobs in buckets. Implementations: S3, directory, memory; decorators spell out every
 * method. The contract is test/conformance/blob-store.ts; in short:
 * - Every call is idempotent. After an error from `put` or a delete the outcome is unknown, not no.
 * - A name is written once; nobody relies on what a second put of other content does.
 * - What `put` has resolved is durable and is seen by every later get and list.
 * - Bodies are whole buffers of known length; they may be used until the promise settles.
 * - A call whose signal fires rejects with the signal's reason, unless it is done already.
 * - Errors: `not_found`, `exists` (put if absent), `unavailable` (retry), `no_space` (the store is
 *   full, or over quota), `read_only` (this account can't write), `invalid` (it never will work:
 *   wrong credentials, bad name).
 */

export interface CallOptions {
  /** Ends the waiting; what was sent may still take effect. */
  readonly signal?: AbortSignal;
}

export interface BlobInfo {
  readonly key: string;
  readonly bytes: number;
}

export interface BlobPage {
  /** In ascending order of the keys' bytes. */
  readonly blobs: readonly BlobInfo[];
  /** Pass as `after` for the next page; absent on the last. */
  readonly next?: string;
}

/**
 * One bucket. Keys are 1 to 512 characters of `A-Za-z0-9._/-`; their parts have 1 to 255 of them
 * and don't start with a dot; no key is a folder (`a`) of another (`a/b`).
 */
export interface BlobStore {
  /** `if: 'absent'` rejects with `exists` where the store honours it; see `ConditionalPut`. */
  put(
    key: string,
    body: Uint8Array,
    options?: CallOptions & { readonly if?: 'absent' },
  ): Promise<void>;

  /**
   * `length` bytes from `offset`, fewer at the end of the blob, none beyond it; without a range,
   * the whole blob.
   */
  get(
    key: string,
    options?: CallOptions & { readonly offset?: number; readonly length?: number },
  ): Promise<Uint8Array>;

  /** At most `limit` (1 to 1000) blobs whose key starts with `prefix` and lies behind `after`. */
  list(
    options: CallOptions & {
      readonly prefix: string;
      readonly after?: string;
      readonly limit?: number;
    },
  ): Promise<BlobPage>;

  /** Deletes up to 1000 blobs; those that are not there are no error. */
  deleteMany(keys: readonly string[], options?: CallOptions): Promise<void>;
}

/** How a store treats `if: 'absent'`, as probed. Correctness never rests on `honoured` alone. */
export type ConditionalPut = 'honoured' | 'ignored' | 'refused';

export interface Backend {
  readonly conditionalPut: ConditionalPut;

  /** Names are 3 to 63 of `a-z0-9-`. Idempotent: a bucket of one's own that exists is no error. */
  createBucket(name: string, options?: CallOptions): Promise<void>;

  /** Deletes what is in it and the bucket. Idempotent. */
  deleteBucket(name: string, options?: CallOptions): Promise<void>;

  /** All buckets of this backend whose name starts with `prefix`, in order. */
  listBuckets(options: CallOptions & { readonly prefix: string }): Promise<readonly string[]>;

  /** The bucket's blobs; no call is made until they are used. */
  bucket(name: string): BlobStore;

  /** Bytes in all and still free, where the store knows. */
  space(options?: CallOptions): Promise<{ totalBytes: number; freeBytes: number } | undefined>;

  close(): Promise<void>;
}
