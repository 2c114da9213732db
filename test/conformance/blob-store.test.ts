import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import S3rver from 's3rver';
import { DirectoryBackend } from '../../src/backend/directory-backend.ts';
import { MemoryBackend } from '../../src/backend/memory-backend.ts';
import { withPrefixLayout } from '../../src/backend/prefix-layout.ts';
import { S3Backend } from '../../src/backend/s3-backend.ts';
import { noFaults, withFaults } from '../../src/backend/with-faults.ts';
import { withLimit } from '../../src/backend/with-limit.ts';
import { RetryMonitor, withRetry } from '../../src/backend/with-retry.ts';
import { seededRandom } from '../../src/platform/random.ts';
import { systemClock } from '../../src/platform/system-clock.ts';
import type { Backend } from '../../src/ports/blob-store.ts';
import { quietLog } from '../support/quiet-log.ts';
import { blobStoreSuite } from './blob-store.ts';

const opened = (backend: Backend, close = async () => {}) => ({
  backend,
  [Symbol.asyncDispose]: async () => {
    await backend.close();
    await close();
  },
});

async function directory() {
  const folder = await mkdtemp(join(tmpdir(), 'wharf-store-'));
  const backend = await DirectoryBackend.open(join(folder, 'store'));
  return opened(backend, () => rm(folder, { recursive: true }));
}

/** Half of the calls fail, before or after they took effect. */
function failing(inner: Backend): Backend {
  const random = seededRandom(42);
  const faults = noFaults();
  faults.choose = () => {
    const fate = random.fraction();
    return fate < 0.25 ? 'before' : fate < 0.5 ? 'after' : 'none';
  };
  const clock = systemClock(undefined);
  const monitor = new RetryMonitor(clock, quietLog());
  return withRetry(
    withFaults(inner, faults),
    { clock, random, monitor },
    { firstPauseMs: 1, pauseMsMax: 2 },
  );
}

async function s3() {
  const folder = await mkdtemp(join(tmpdir(), 'wharf-s3-'));
  const server = new S3rver({ port: 0, address: '127.0.0.1', silent: true, directory: folder });
  const { port } = await server.run();
  process.env['AWS_ACCESS_KEY_ID'] = 'S3RVER';
  process.env['AWS_SECRET_ACCESS_KEY'] = 'S3RVER';
  const endpoint = `http://127.0.0.1:${port}`;
  const backend = S3Backend.open({ endpoint, region: 'us-east-1', requestsMax: 16 });
  return opened(backend, async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });
}

blobStoreSuite('memory', async () => opened(new MemoryBackend()));
blobStoreSuite('a directory', directory);
blobStoreSuite('one bucket by prefixes', async () =>
  opened(withPrefixLayout(new MemoryBackend(), 'all')),
);
blobStoreSuite('a limited store', async () => opened(withLimit(new MemoryBackend(), 1)));
blobStoreSuite('a failing store behind retries', async () => {
  return opened(failing(new MemoryBackend()));
});
// s3rver answers a page behind the first with an error.
blobStoreSuite('an S3 server', s3, { pages: false });
