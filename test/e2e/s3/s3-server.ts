/** What Wharf needs of a real S3 server: the contract of blob stores, and a playground on it. */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { S3Backend } from '../../../src/backend/s3-backend.ts';
import { RetryMonitor, withRetry } from '../../../src/backend/with-retry.ts';
import { MiB } from '../../../src/core/units.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import { systemClock } from '../../../src/platform/system-clock.ts';
import type { ConditionalPut } from '../../../src/ports/blob-store.ts';
import { blobStoreSuite } from '../../conformance/blob-store.ts';
import { cannotMount, Playground } from '../../support/playground.ts';
import { quietLog } from '../../support/quiet-log.ts';
import type { S3Server } from '../../support/servers.ts';

export function s3ServerSuite(
  name: string,
  {
    skip,
    conditionalPut,
  }: { readonly skip: string | false; readonly conditionalPut: ConditionalPut },
  start: () => Promise<S3Server>,
): void {
  describe(name, { skip }, () => {
    let server: S3Server;
    before(async () => {
      server = await start();
      process.env['AWS_ACCESS_KEY_ID'] = server.accessKey;
      process.env['AWS_SECRET_ACCESS_KEY'] = server.secretKey;
    });
    after(() => server[Symbol.asyncDispose]());
    const settings = () => ({ endpoint: server.endpoint, region: 'us-east-1', requestsMax: 16 });

    blobStoreSuite(name, async () => {
      const backend = S3Backend.open(settings());
      await backend.probe('wharf-probe');
      for (const bucket of await backend.listBuckets({ prefix: '' }))
        await backend.deleteBucket(bucket);
      // A server on a busy machine asks for patience at times.
      const clock = systemClock(undefined);
      const monitor = new RetryMonitor(clock, quietLog());
      const deps = { clock, random: seededRandom(1), monitor };
      const patient = withRetry(backend, deps, { firstPauseMs: 100, pauseMsMax: 1000 });
      return { backend: patient, [Symbol.asyncDispose]: () => backend.close() };
    });

    test('tells how it treats a conditional put', async () => {
      const backend = S3Backend.open(settings());
      await backend.probe('wharf-probe');
      assert.equal(backend.conditionalPut, conditionalPut);
      await backend.close();
    });

    test('takes a large blob in parts', async () => {
      const backend = S3Backend.open(settings());
      await backend.createBucket('wharf-large');
      const bucket = backend.bucket('wharf-large');
      const large = randomBytes(20 * MiB);
      await bucket.put('large', large);
      assert.ok(large.equals(await bucket.get('large')));
      await backend.deleteBucket('wharf-large');
      await backend.close();
    });

    test('says which credentials are wrong', async () => {
      const secret = process.env['AWS_SECRET_ACCESS_KEY'];
      process.env['AWS_SECRET_ACCESS_KEY'] = 'wrong';
      const backend = S3Backend.open(settings());
      await assert.rejects(backend.createBucket('wharf-none'), /check the credentials/);
      await backend.close();
      process.env['AWS_SECRET_ACCESS_KEY'] = secret;
    });

    test('holds a vPool, over a restart that loses the SSD', { skip: cannotMount }, async () => {
      await using playground = new Playground();
      const flags = ['--backend', 's3', '--s3-endpoint', server.endpoint];
      const { mount, admin } = await playground.start(...flags);
      const disk = join(mount, 'disk.raw');
      const content = Buffer.alloc(20 * 2 ** 20);
      for (let at = 0; at < content.length; at += 4096) content.writeUInt32LE(at, at);
      await fs.writeFile(disk, content);
      await fs.writeFile(join(mount, 'vm.xml'), '<domain/>');
      const file = await fs.open(join(mount, 'vm.xml'));
      await file.sync();
      await file.close();
      const response = await fetch(`${admin}/v1/vdisk/sync?path=/disk.raw`, { method: 'POST' });
      assert.equal(response.status, 200);
      assert.equal(await playground.stop(), 0);
      await fs.rm(join(playground.folder, 'a/data'), { recursive: true });
      await playground.start(...flags);
      assert.ok((await fs.readFile(disk)).equals(content));
      assert.equal(await fs.readFile(join(mount, 'vm.xml'), 'utf8'), '<domain/>');
    });
  });
}
