import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import S3rver from 's3rver';
import { DirectoryBackend } from '../../src/backend/directory-backend.ts';
import { MemoryBackend } from '../../src/backend/memory-backend.ts';
import { openBackend } from '../../src/backend/open-backend.ts';
import { withPrefixLayout } from '../../src/backend/prefix-layout.ts';
import { S3Backend } from '../../src/backend/s3-backend.ts';
import { withChecks } from '../../src/backend/with-checks.ts';
import { withDeadline } from '../../src/backend/with-deadline.ts';
import { noFaults, seededFaults, withFaults } from '../../src/backend/with-faults.ts';
import { withLimit } from '../../src/backend/with-limit.ts';
import { BackendMetrics, withMetrics } from '../../src/backend/with-metrics.ts';
import { RetryMonitor, withRetry } from '../../src/backend/with-retry.ts';
import { seededRandom, systemRandom } from '../../src/platform/random.ts';
import { systemClock } from '../../src/platform/system-clock.ts';
import type { Backend } from '../../src/ports/blob-store.ts';
import type { Random } from '../../src/ports/random.ts';
import { quietLog } from '../support/quiet-log.ts';
import { blobStoreSuite } from './blob-store.ts';

const clock = systemClock(undefined);

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

function retrying(inner: Backend, random: Random): Backend {
  const monitor = new RetryMonitor(clock, quietLog());
  return withRetry(inner, { clock, random, monitor }, { firstPauseMs: 1, pauseMsMax: 2 });
}

/** Half of the calls fail, before or after they took effect. */
function failing(inner: Backend): Backend {
  const random = seededRandom(42);
  const faults = seededFaults(random, { before: 0.2, after: 0.25, full: 0.02, throttled: 0.03 });
  return retrying(withFaults(inner, faults), random);
}

/** Behind retries: s3rver fails now and then when a folder of its own empties. */
async function s3() {
  const folder = await mkdtemp(join(tmpdir(), 'wharf-s3-'));
  const server = new S3rver({ port: 0, address: '127.0.0.1', silent: true, directory: folder });
  const { port } = await server.run();
  const store = S3Backend.open({
    endpoint: `http://127.0.0.1:${port}`,
    region: 'us-east-1',
    requestsMax: 16,
    credentials: { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' },
  });
  return opened(retrying(store, systemRandom()), async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });
}

async function directoryStack() {
  const folder = await mkdtemp(join(tmpdir(), 'wharf-store-'));
  const { backend } = await openBackend(
    {
      ...{ kind: 'dir', path: join(folder, 'store'), requestsMax: 16 },
      ...{ layout: 'prefix', bucketPrefix: 'wharf-all' },
    },
    { clock, random: systemRandom(), log: quietLog() },
  );
  return opened(backend, () => rm(folder, { recursive: true }));
}

/** Each call takes a while, the later ones less. */
function slow(inner: Backend): Backend {
  const random = seededRandom(7);
  const faults = noFaults();
  faults.delay = async () => {
    for (let turns = random.fraction() * 10; turns > 0; turns -= 1)
      await new Promise((resolve) => setImmediate(resolve));
  };
  return withFaults(inner, faults);
}

const memory = async (wrap: (inner: Backend) => Backend) => opened(wrap(new MemoryBackend()));
const noWait = { aborts: false };

blobStoreSuite('memory', () => memory((inner) => inner), noWait);
blobStoreSuite('a directory', directory);
blobStoreSuite('one bucket by prefixes', () => memory((inner) => withPrefixLayout(inner, 'all')), {
  ...noWait,
  missingBuckets: false,
});
blobStoreSuite('a limited store', () => memory((inner) => withLimit(inner, 1)), noWait);
blobStoreSuite(
  'a store limited in bytes',
  () => memory((inner) => withLimit(slow(inner), 8, { bytesMax: 1000 })),
  noWait,
);
blobStoreSuite('a store with a deadline', () =>
  memory((inner) =>
    withDeadline(
      slow(inner),
      { clock, monitor: new RetryMonitor(clock, quietLog()) },
      { attemptMs: 60_000, bytesPerSecondMin: 65_536 },
    ),
  ),
);
blobStoreSuite(
  'a metered store',
  () => memory((inner) => withMetrics(inner, new BackendMetrics(clock))),
  noWait,
);
blobStoreSuite('a checked store', () => memory(withChecks), noWait);
blobStoreSuite('a slow store', () => memory(slow), { aborts: true });
blobStoreSuite('a failing store behind retries', () => memory(failing), noWait);
blobStoreSuite(
  'a failing and slow store behind retries, limits and checks',
  () => memory((inner) => withChecks(failing(withLimit(slow(inner), 4)))),
  noWait,
);
blobStoreSuite('a directory with the whole stack', directoryStack, { missingBuckets: false });
// s3rver answers a page behind the first, and a range of an empty blob, with an error.
blobStoreSuite('an S3 server', s3, { pages: false, emptyRanges: false });
