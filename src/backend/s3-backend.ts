/**
 * An object store that speaks S3. Every call is one attempt, or the few requests that make one up:
 * retries and deadlines are decorators, which show them.
 *
 * - Bodies are buffers of known length; some servers refuse or mangle streams.
 * - A conditional put is one request whatever its size, because servers that honour the condition
 *   there ignore it at the end of a multipart upload. Where the server refuses conditions, puts go
 *   without: correctness never rests on them.
 * - Bodies are guarded on their way by the SHA-256 in the signature, and for good by the checksums
 *   inside them. The checksums of the client library are off: few servers know them.
 */

import { randomUUID } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { isStorageError, StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { TaskGroup } from '../core/task-group.ts';
import type {
  Backend,
  BlobPage,
  BlobStore,
  CallOptions,
  ConditionalPut,
} from '../ports/blob-store.ts';
import type { ListRequest } from './blob-rules.ts';
import { bufferOf, multipartBytesMin, partUpload, sendInParts } from './part-upload.ts';
import { nameOf, statusOf, translateS3Error } from './s3-errors.ts';
import { addContentMd5, cutRange, isRefusalOfLists, learnConditionalPut } from './s3-quirks.ts';

const connectionTimeoutMs = 5000;
/** Of a connection on which nothing moves. */
const idleTimeoutMs = 30_000;
const deletionsAtOnce = 16;
const silent = { debug() {}, info() {}, warn() {}, error() {} };

export interface S3Settings {
  readonly endpoint: string;
  readonly region: string;
  /** Requests at once, each with a connection that is kept. */
  readonly requestsMax: number;
  /** From the AWS provider chain where they are absent. */
  readonly credentials?: {
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    readonly sessionToken?: string;
  };
}

type Sent = { readonly abortSignal?: AbortSignal };

/** The client, and what was learnt of the server: shared by all buckets. */
class Session {
  readonly client: S3Client;
  conditionalPut: ConditionalPut = 'ignored';
  deletesMany = true;
  #hasWorked = false;
  /** What can't be cleaned up goes with its bucket. */
  readonly #cleaning = new TaskGroup(() => {});
  readonly #closing = new AbortController();

  constructor({ endpoint, region, credentials, requestsMax }: S3Settings) {
    const agent = { maxSockets: requestsMax, maxFreeSockets: requestsMax, keepAlive: true };
    this.client = new S3Client({
      endpoint,
      region,
      ...(credentials && { credentials }),
      forcePathStyle: true,
      maxAttempts: 1,
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      // With it the client opens a connection for every put, beside the pool.
      expectContinueHeader: false,
      logger: silent,
      requestHandler: {
        connectionTimeout: connectionTimeoutMs,
        socketTimeout: idleTimeoutMs,
        logger: silent,
        httpAgent: agent,
        httpsAgent: agent,
      },
    });
  }

  /** In the background: neither an aborted call nor one that failed waits for it. */
  cleanUp(action: (sent: Sent) => Promise<unknown>): void {
    this.#cleaning.run(async () => {
      await action({ abortSignal: this.#closing.signal });
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#cleaning.drained();
    this.client.destroy();
  }

  async call<T>(
    what: string,
    kind: 'reads' | 'writes',
    { signal }: CallOptions,
    action: (sent: Sent) => Promise<T>,
  ): Promise<T> {
    signal?.throwIfAborted();
    try {
      const result = await action(signal ? { abortSignal: signal } : {});
      this.#hasWorked = true;
      return result;
    } catch (error) {
      if (signal?.aborted === true) throw signal.reason;
      const hasWorked = this.#hasWorked;
      throw translateS3Error(error, { what, writes: kind === 'writes', hasWorked });
    }
  }
}

export class S3Backend implements Backend {
  readonly #session: Session;

  private constructor(session: Session) {
    this.#session = session;
  }

  /** Nothing is sent yet. */
  static open(settings: S3Settings): S3Backend {
    return new S3Backend(new Session(settings));
  }

  /** As `probe` or the first conditional put learnt it. */
  get conditionalPut(): ConditionalPut {
    return this.#session.conditionalPut;
  }

  /** Learns in `bucket`, which it makes, how the server treats a put if absent. */
  async probe(bucket: string, options: CallOptions = {}): Promise<void> {
    await this.createBucket(bucket, options);
    const store = new S3Bucket(this.#session, bucket);
    const key = `probe-${randomUUID()}`;
    try {
      this.#session.conditionalPut = await store.learnConditions(key, options);
    } finally {
      // What is left of a probe is a byte, and no reason to hide what it found.
      await store.deleteMany([key], options).catch(() => undefined);
    }
  }

  createBucket(name: string, options: CallOptions = {}): Promise<void> {
    const { client } = this.#session;
    return this.#session.call('create bucket', 'writes', options, async (sent) => {
      try {
        await client.send(new CreateBucketCommand({ Bucket: name }), sent);
      } catch (error) {
        if (nameOf(error) === 'BucketAlreadyOwnedByYou') return;
        if (nameOf(error) !== 'BucketAlreadyExists') throw error;
        // Some servers say so of one's own. One that answers us will do; another's won't.
        try {
          await client.send(new HeadBucketCommand({ Bucket: name }), sent);
        } catch (cause) {
          if (statusOf(cause) !== 403) throw cause;
          const text = `S3 create bucket: ${name} belongs to another account; choose another name`;
          throw new StorageError('invalid', text, { cause });
        }
      }
    });
  }

  async deleteBucket(name: string, options: CallOptions = {}): Promise<void> {
    const bucket = new S3Bucket(this.#session, name);
    const { client } = this.#session;
    try {
      for (;;) {
        const { blobs } = await bucket.list({ prefix: '', ...options });
        if (blobs.length === 0) break;
        const keys = blobs.map(({ key }) => key);
        await bucket.deleteMany(keys, options);
      }
      await this.#session.call('delete bucket', 'writes', options, async (sent) => {
        try {
          await client.send(new DeleteBucketCommand({ Bucket: name }), sent);
        } catch (error) {
          if (nameOf(error) !== 'BucketNotEmpty') throw error;
          // Uploads that a killed process began count as content for some servers.
          await bucket.abortUploads(sent);
          await client.send(new DeleteBucketCommand({ Bucket: name }), sent);
        }
      });
    } catch (error) {
      if (!isStorageError(error, 'not_found')) throw error;
    }
  }

  listBuckets({ prefix, ...options }: CallOptions & { readonly prefix: string }) {
    return this.#session.call('list buckets', 'reads', options, async (sent) => {
      const names: string[] = [];
      for (let token: string | undefined; ; ) {
        const from = token === undefined ? {} : { ContinuationToken: token };
        const page = await this.#session.client.send(new ListBucketsCommand(from), sent);
        names.push(...(page.Buckets ?? []).flatMap(({ Name }) => Name ?? []));
        token = page.ContinuationToken;
        if (token === undefined || token === '') break;
      }
      return names.filter((name) => name.startsWith(prefix)).sort();
    });
  }

  bucket(name: string): BlobStore {
    return new S3Bucket(this.#session, name);
  }

  space(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  async close(): Promise<void> {
    await this.#session.close();
  }
}

class S3Bucket implements BlobStore {
  readonly #session: Session;
  readonly #client: S3Client;
  readonly #name: string;

  constructor(session: Session, name: string) {
    this.#session = session;
    this.#client = session.client;
    this.#name = name;
  }

  put(
    key: string,
    body: Uint8Array,
    { if: condition, ...options }: CallOptions & { readonly if?: 'absent' } = {},
  ): Promise<void> {
    return this.#session.call('put', 'writes', options, async (sent) => {
      if (condition === 'absent' && this.#session.conditionalPut !== 'refused') {
        if ((await this.#putIfAbsent(key, body, sent)) === 'done') return;
        this.#session.conditionalPut = 'refused';
      }
      if (body.length > multipartBytesMin) await this.#putInParts(key, body, sent);
      else await this.#putWhole(key, body, sent);
    });
  }

  get(
    key: string,
    options: CallOptions & { readonly offset?: number; readonly length?: number } = {},
  ): Promise<Uint8Array> {
    const { offset = 0, length } = options;
    const place = { Bucket: this.#name, Key: key };
    return this.#session.call('get', 'reads', options, async (sent) => {
      if (length === 0) {
        await this.#client.send(new HeadObjectCommand(place), sent);
        return new Uint8Array(0);
      }
      const isWhole = offset === 0 && length === undefined;
      const end = length === undefined ? '' : offset + length - 1;
      const range = isWhole ? {} : { Range: `bytes=${offset}-${end}` };
      try {
        const found = await this.#client.send(new GetObjectCommand({ ...place, ...range }), sent);
        const bytes = (await found.Body?.transformToByteArray()) ?? new Uint8Array(0);
        if (found.ContentLength !== undefined && bytes.length !== found.ContentLength)
          throw new StorageError('unavailable', 'S3 get: the answer was cut short');
        return cutRange(bytes, found.ContentRange, options);
      } catch (error) {
        if (nameOf(error) === 'InvalidRange') return new Uint8Array(0);
        throw error;
      }
    });
  }

  list(options: CallOptions & ListRequest): Promise<BlobPage> {
    const { prefix, after, limit = limits.listEntriesMax } = options;
    const asked = {
      Bucket: this.#name,
      Prefix: prefix,
      MaxKeys: limit,
      ...(after !== undefined && { StartAfter: after }),
    };
    return this.#session.call('list', 'reads', options, async (sent) => {
      const found = await this.#client.send(new ListObjectsV2Command(asked), sent);
      const blobs = (found.Contents ?? []).map(({ Key = '', Size = 0 }) => ({
        key: Key,
        bytes: Size,
      }));
      const last = blobs.at(-1);
      return { blobs, ...(found.IsTruncated === true && last && { next: last.key }) };
    });
  }

  deleteMany(keys: readonly string[], options: CallOptions = {}): Promise<void> {
    return this.#session.call('delete', 'writes', options, async (sent) => {
      if (keys.length === 0) return;
      if (keys.length > 1 && this.#session.deletesMany) {
        if ((await this.#deleteTogether(keys, sent)) === 'done') return;
        this.#session.deletesMany = false;
      }
      for (let first = 0; first < keys.length; first += deletionsAtOnce)
        await Promise.all(
          keys.slice(first, first + deletionsAtOnce).map((key) => this.#deleteOne(key, sent)),
        );
    });
  }

  learnConditions(key: string, options: CallOptions): Promise<ConditionalPut> {
    return this.#session.call('probe', 'writes', options, (sent) =>
      learnConditionalPut(() => this.#putIfAbsent(key, new Uint8Array(1), sent)),
    );
  }

  async abortUploads(sent: Sent): Promise<void> {
    const place = { Bucket: this.#name };
    const { Uploads = [] } = await this.#client.send(new ListMultipartUploadsCommand(place), sent);
    for (const { Key, UploadId } of Uploads)
      await this.#client.send(new AbortMultipartUploadCommand({ ...place, Key, UploadId }), sent);
  }

  async #putWhole(key: string, body: Uint8Array, sent: Sent, condition = {}): Promise<void> {
    const asked = { Bucket: this.#name, Key: key, Body: bufferOf(body), ...condition };
    await this.#client.send(new PutObjectCommand(asked), sent);
  }

  async #putIfAbsent(key: string, body: Uint8Array, sent: Sent): Promise<'done' | 'refused'> {
    try {
      await this.#putWhole(key, body, sent, { IfNoneMatch: '*' });
      return 'done';
    } catch (error) {
      if (nameOf(error) === 'NotImplemented') return 'refused';
      throw error;
    }
  }

  async #putInParts(key: string, body: Uint8Array, sent: Sent): Promise<void> {
    const place = { Bucket: this.#name, Key: key };
    const { UploadId } = await this.#client.send(new CreateMultipartUploadCommand(place), sent);
    const upload = { ...place, UploadId };
    try {
      const Parts = await sendInParts(body, partUpload, async (part, index) => {
        const PartNumber = index + 1;
        const asked = { ...upload, PartNumber, Body: bufferOf(part) };
        const { ETag } = await this.#client.send(new UploadPartCommand(asked), sent);
        return { PartNumber, ETag };
      });
      const asked = { ...upload, MultipartUpload: { Parts } };
      await this.#client.send(new CompleteMultipartUploadCommand(asked), sent);
    } catch (error) {
      const abort = new AbortMultipartUploadCommand(upload);
      this.#session.cleanUp((cleaning) => this.#client.send(abort, cleaning));
      throw error;
    }
  }

  async #deleteOne(key: string, sent: Sent): Promise<void> {
    try {
      await this.#client.send(new DeleteObjectCommand({ Bucket: this.#name, Key: key }), sent);
    } catch (error) {
      if (nameOf(error) !== 'NoSuchKey') throw error;
    }
  }

  async #deleteTogether(keys: readonly string[], sent: Sent): Promise<'done' | 'refused'> {
    const command = new DeleteObjectsCommand({
      Bucket: this.#name,
      Delete: { Objects: keys.map((Key) => ({ Key })), Quiet: true },
    });
    command.middlewareStack.add(
      (next) => (step) => {
        addContentMd5(step.request);
        return next(step);
      },
      { step: 'build' },
    );
    try {
      const { Errors = [] } = await this.#client.send(command, sent);
      const error = Errors.find(({ Code }) => Code !== 'NoSuchKey');
      if (error) throw Object.assign(new Error(error.Message ?? ''), { name: error.Code ?? '' });
      return 'done';
    } catch (error) {
      if (isRefusalOfLists(error)) return 'refused';
      throw error;
    }
  }
}
