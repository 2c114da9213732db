/** An object store that speaks S3. Retries are the decorator's, which shows them. */

import { createHash, randomUUID } from 'node:crypto';
import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListBucketsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import type { ErrorCode } from '../core/errors.ts';
import { StorageError } from '../core/errors.ts';
import type { Backend, BlobStore, CallOptions, ConditionalPut } from '../ports/blob-store.ts';

const connectionTimeoutMs = 3000;
const requestTimeoutMs = 30_000;
const deletesAtOnce = 16;

export interface S3Settings {
  readonly endpoint: string;
  readonly region: string;
  readonly requestsMax: number;
}

/** By HTTP status; anything else and every failure of the network is `unavailable`. */
const codes: Readonly<Record<number, ErrorCode>> = {
  400: 'invalid',
  401: 'invalid',
  403: 'invalid',
  301: 'invalid',
  404: 'not_found',
  412: 'exists',
  501: 'unsupported',
  507: 'no_space',
};
const namedCodes: Readonly<Record<string, ErrorCode>> = {
  QuotaExceeded: 'no_space',
  NoSuchKey: 'not_found',
  NoSuchBucket: 'not_found',
  SlowDown: 'unavailable',
  RequestTimeout: 'unavailable',
  CredentialsProviderError: 'invalid',
};

function translate(error: unknown, what: string, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted === true) return signal.reason;
  if (error instanceof StorageError) return error;
  const { name, message } = error as Error;
  const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
  const code = namedCodes[name] ?? codes[status ?? 0] ?? 'unavailable';
  const hint =
    status === 403 || status === 401 || name === 'CredentialsProviderError'
      ? ' (check the credentials and the region)'
      : '';
  return new StorageError(code, `S3 ${what}: ${name}: ${message}${hint}`, {
    cause: error,
    detail: { status },
  });
}

export class S3Backend implements Backend {
  #conditionalPut: ConditionalPut = 'ignored';
  readonly #client: S3Client;

  private constructor(client: S3Client) {
    this.#client = client;
  }

  /** Credentials come from the AWS provider chain. Nothing is sent yet. */
  static open(settings: S3Settings): S3Backend {
    const client = new S3Client({
      endpoint: settings.endpoint,
      region: settings.region,
      forcePathStyle: true,
      maxAttempts: 1,
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: {
        connectionTimeout: connectionTimeoutMs,
        requestTimeout: requestTimeoutMs,
        httpAgent: { maxSockets: settings.requestsMax, keepAlive: true },
        httpsAgent: { maxSockets: settings.requestsMax, keepAlive: true },
      },
    });
    return new S3Backend(client);
  }

  get conditionalPut(): ConditionalPut {
    return this.#conditionalPut;
  }

  /** Learns in `bucket`, which it makes, how the server treats a put if absent. */
  async probe(bucket: string): Promise<void> {
    const key = `probe-${randomUUID()}`;
    await this.createBucket(bucket);
    const store = this.bucket(bucket);
    const body = new Uint8Array(1);
    try {
      await store.put(key, body);
      await store.put(key, body, { if: 'absent' });
      this.#conditionalPut = 'ignored';
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      if (error.code === 'exists') this.#conditionalPut = 'honoured';
      else if (error.code === 'unsupported') this.#conditionalPut = 'refused';
      else throw error;
    } finally {
      await store.deleteMany([key]);
    }
  }

  createBucket(name: string, { signal }: CallOptions = {}): Promise<void> {
    return this.#call('create bucket', signal, async (options) => {
      try {
        await this.#client.send(new CreateBucketCommand({ Bucket: name }), options);
      } catch (error) {
        const { name: reason } = error as Error;
        if (reason !== 'BucketAlreadyOwnedByYou' && reason !== 'BucketAlreadyExists') throw error;
      }
    });
  }

  async deleteBucket(name: string, options: CallOptions = {}): Promise<void> {
    const bucket = this.bucket(name);
    try {
      for (;;) {
        const { blobs } = await bucket.list({ prefix: '', ...options });
        if (blobs.length === 0) break;
        await bucket.deleteMany(
          blobs.map(({ key }) => key),
          options,
        );
      }
      await this.#call('delete bucket', options.signal, (sent) =>
        this.#client.send(new DeleteBucketCommand({ Bucket: name }), sent),
      );
    } catch (error) {
      if (!(error instanceof StorageError) || error.code !== 'not_found') throw error;
    }
  }

  listBuckets({ prefix, signal }: CallOptions & { readonly prefix: string }) {
    return this.#call('list buckets', signal, async (options) => {
      const { Buckets = [] } = await this.#client.send(new ListBucketsCommand({}), options);
      const names = Buckets.flatMap(({ Name }) => Name ?? []);
      return names.filter((name) => name.startsWith(prefix)).sort();
    });
  }

  bucket(name: string): BlobStore {
    const client = this.#client;
    return {
      put: (key, body, { signal, ...given } = {}) =>
        this.#call('put', signal, async (options) => {
          // The body is a buffer of known length: streams are framed by some servers.
          const Body = Buffer.from(body.buffer, body.byteOffset, body.length);
          const condition = given.if === 'absent' ? { IfNoneMatch: '*' } : {};
          const ContentMD5 = createHash('md5').update(Body).digest('base64');
          const command = { Bucket: name, Key: key, Body, ContentMD5, ...condition };
          await client.send(new PutObjectCommand(command), options);
        }),
      get: (key, { signal, offset = 0, length } = {}) =>
        this.#call('get', signal, async (options) => {
          if (length === 0) return new Uint8Array(0);
          const end = length === undefined ? '' : offset + length - 1;
          const Range = offset === 0 && length === undefined ? undefined : `bytes=${offset}-${end}`;
          try {
            const found = await client.send(
              new GetObjectCommand({ Bucket: name, Key: key, ...(Range && { Range }) }),
              options,
            );
            return (await found.Body?.transformToByteArray()) ?? new Uint8Array(0);
          } catch (error) {
            // Behind the end of the blob.
            if ((error as Error).name === 'InvalidRange') return new Uint8Array(0);
            throw error;
          }
        }),
      list: ({ prefix, after, limit = 1000, signal }) =>
        this.#call('list', signal, async (options) => {
          const found = await client.send(
            new ListObjectsV2Command({
              Bucket: name,
              Prefix: prefix,
              MaxKeys: limit,
              ...(after !== undefined && { StartAfter: after }),
            }),
            options,
          );
          const blobs = (found.Contents ?? []).map(({ Key = '', Size = 0 }) => ({
            key: Key,
            bytes: Size,
          }));
          const last = blobs.at(-1);
          return { blobs, ...(found.IsTruncated === true && last && { next: last.key }) };
        }),
      deleteMany: (keys, { signal } = {}) =>
        this.#call('delete', signal, async (options) => {
          // One by one: not every server takes a list of them.
          for (let first = 0; first < keys.length; first += deletesAtOnce)
            await Promise.all(
              keys
                .slice(first, first + deletesAtOnce)
                .map((Key) => client.send(new DeleteObjectCommand({ Bucket: name, Key }), options)),
            );
        }),
    };
  }

  async space(): Promise<undefined> {
    return undefined;
  }

  async close(): Promise<void> {
    this.#client.destroy();
  }

  async #call<T>(
    what: string,
    signal: AbortSignal | undefined,
    action: (options: { abortSignal?: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    try {
      return await action(signal ? { abortSignal: signal } : {});
    } catch (error) {
      throw translate(error, what, signal);
    }
  }
}
