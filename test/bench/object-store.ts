/**
 * The least that an object store costs: a loop over the client library, with nothing in between and
 * several requests under way at once.
 */

import {
  CreateBucketCommand,
  GetObjectCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { GiB, KiB } from '../../src/core/units.ts';
import type { Ceph } from '../support/ceph.ts';
import { cephMissing, startCeph } from '../support/ceph.ts';
import type { S3Server } from '../support/servers.ts';
import type { Report } from './report.ts';
import { percentile } from './report.ts';

/** Ceph's OSD keeps all that a bench writes in memory. */
const storeBytes = 6 * GiB;

export class ObjectStore {
  readonly server: S3Server;
  readonly #client: S3Client;

  constructor(server: S3Server) {
    this.server = server;
    const { endpoint, accessKey, secretKey } = server;
    const sockets = { maxSockets: 64, keepAlive: true };
    this.#client = new S3Client({
      ...{ endpoint, region: 'us-east-1', forcePathStyle: true },
      credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      // With it the client opens a connection for every put, beside the pool.
      expectContinueHeader: false,
      requestHandler: { httpAgent: sockets },
    });
  }

  /** Wharf's settings for it; the credentials are in the environment. */
  get backend(): { readonly kind: 's3'; readonly endpoint: string } {
    return { kind: 's3', endpoint: this.server.endpoint };
  }

  async makeBucket(bucket: string): Promise<void> {
    await this.#client.send(new CreateBucketCommand({ Bucket: bucket }));
  }

  /** Puts so many objects with this body; gives bytes per second. */
  putAll(bucket: string, body: Uint8Array, count: number, atOnce: number): Promise<number> {
    return this.#all(count, atOnce, async (number) => {
      const place = { Bucket: bucket, Key: `object-${number}` };
      await this.#client.send(new PutObjectCommand({ ...place, Body: body }));
      return body.length;
    });
  }

  /** Reads the objects that `putAll` has put. */
  getAll(bucket: string, count: number, atOnce: number): Promise<number> {
    return this.#all(count, atOnce, async (number) => {
      const place = { Bucket: bucket, Key: `object-${number}` };
      const { Body } = await this.#client.send(new GetObjectCommand(place));
      return ((await Body?.transformToByteArray()) ?? new Uint8Array()).length;
    });
  }

  /** Microseconds that a range of an object takes: the median of so many, one after another. */
  async rangeUs(bucket: string, objects: number, count: number, bytes: number): Promise<number> {
    const samples: number[] = [];
    for (let index = 0; index < count; index += 1) {
      const place = { Bucket: bucket, Key: `object-${index % objects}` };
      const offset = index * 64 * KiB;
      const range = { Range: `bytes=${offset}-${offset + bytes - 1}` };
      const began = performance.now();
      const { Body } = await this.#client.send(new GetObjectCommand({ ...place, ...range }));
      await Body?.transformToByteArray();
      samples.push((performance.now() - began) * 1000);
    }
    return percentile(samples, 0.5);
  }

  close(): void {
    this.#client.destroy();
  }

  async #all(
    count: number,
    atOnce: number,
    act: (number: number) => Promise<number>,
  ): Promise<number> {
    const numbers = Array.from({ length: count }, (_, number) => number).values();
    let bytes = 0;
    const began = performance.now();
    const loop = async () => {
      for (const number of numbers) bytes += await act(number);
    };
    await Promise.all(Array.from({ length: atOnce }, loop));
    return (bytes * 1000) / (performance.now() - began);
  }
}

/** With Ceph's object store up, as far as it is on this machine. */
export async function withObjectStore(
  report: Report,
  use: (store: ObjectStore, ceph: Ceph) => Promise<void>,
): Promise<void> {
  if (cephMissing !== false) {
    report.note(`nothing is measured: ${cephMissing}`);
    return;
  }
  await using ceph = await startCeph(storeBytes);
  process.env['AWS_ACCESS_KEY_ID'] = ceph.accessKey;
  process.env['AWS_SECRET_ACCESS_KEY'] = ceph.secretKey;
  const store = new ObjectStore(ceph);
  try {
    await use(store, ceph);
  } finally {
    store.close();
  }
}
