/** What each decorator of an object store promises beyond the contract that it passes on. */

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { MemoryBackend } from '../../../src/backend/memory-backend.ts';
import { openBackend } from '../../../src/backend/open-backend.ts';
import { withChecks } from '../../../src/backend/with-checks.ts';
import { withDeadline } from '../../../src/backend/with-deadline.ts';
import { noFaults, scriptedFaults, stall, withFaults } from '../../../src/backend/with-faults.ts';
import { withLimit } from '../../../src/backend/with-limit.ts';
import { BackendMetrics, withMetrics } from '../../../src/backend/with-metrics.ts';
import { RetryMonitor, withRetry } from '../../../src/backend/with-retry.ts';
import { isStorageError, StorageError } from '../../../src/core/errors.ts';
import { seededRandom, systemRandom } from '../../../src/platform/random.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import { systemClock } from '../../../src/platform/system-clock.ts';
import type { Backend } from '../../../src/ports/blob-store.ts';
import { quietLog } from '../../support/quiet-log.ts';
import { refusal, scriptedS3 } from '../../support/scripted-s3.ts';

const body = Buffer.from('body');
const turn = () => new Promise((resolve) => setImmediate(resolve));

async function memory(wrap: (inner: Backend) => Backend): Promise<Backend> {
  const inner = new MemoryBackend();
  await inner.createBucket('one');
  return wrap(inner);
}

describe('a deadline', () => {
  const world = async (attemptMs: number) => {
    const clock = new SimulatedClock();
    const faults = noFaults();
    const monitor = new RetryMonitor(clock, quietLog());
    const settings = { attemptMs, bytesPerSecondMin: 1000 };
    const backend = await memory((inner) =>
      withDeadline(withFaults(inner, faults), { clock, monitor }, settings),
    );
    return { clock, faults, monitor, backend };
  };

  test('shows a store that takes calls and answers none, long before it ends them', async () => {
    const { clock, faults, monitor, backend } = await world(30_000);
    const release = stall(faults);
    const calls = [1, 2].map((index) => backend.bucket('one').put(`key${index}`, body));
    await turn();
    await clock.advance(1500);
    assert.equal(monitor.outage, undefined, 'answers take a while');
    await clock.advance(1500);
    assert.deepEqual(monitor.outage, {
      ...{ sinceMs: 0, attempts: 0, waiting: 2, error: 'no answer for 3 s' },
    });
    release();
    await Promise.all(calls);
    assert.equal(monitor.outage, undefined);
  });

  test('ends a call that nobody answers, and grows with the bytes', async () => {
    const { clock, faults, monitor, backend } = await world(1000);
    const release = stall(faults);
    let outcome: unknown;
    const put = backend.bucket('one').put('key', Buffer.alloc(5000));
    put.catch((error: unknown) => {
      outcome = error;
    });
    await turn();
    await clock.advance(5900);
    assert.equal(outcome, undefined);
    await clock.advance(200);
    assert.ok(isStorageError(outcome, 'unavailable'), String(outcome));
    assert.equal(monitor.outage, undefined, 'what was given up waits for nothing');
    release();
    await backend.bucket('one').put('key', body);
    assert.equal(clock.sleeping, 0);
  });
});

describe('retries', () => {
  const world = async (script: Parameters<typeof scriptedFaults>[0]) => {
    const clock = new SimulatedClock();
    const log = quietLog();
    const monitor = new RetryMonitor(clock, log);
    const faults = scriptedFaults(script);
    const backend = await memory((inner) =>
      withRetry(
        withFaults(inner, faults),
        { clock, random: seededRandom(1), monitor },
        { firstPauseMs: 100, pauseMsMax: 1000 },
      ),
    );
    return { clock, log, monitor, faults, bucket: backend.bucket('one') };
  };

  test('show an outage while it lasts, and tell it once at either end', async () => {
    const { clock, log, monitor, bucket } = await world(Array(6).fill('before'));
    let isDone = false;
    const put = bucket.put('key', body).then(() => (isDone = true));
    for (let step = 0; !isDone; step += 1) {
      assert.ok(step < 200);
      await clock.advance(50);
      if (!isDone && step > 2) assert.equal(monitor.outage?.waiting, 1);
    }
    await put;
    assert.equal(monitor.outage, undefined);
    assert.deepEqual(
      log.lines.map(({ level, message }) => [level, message]),
      [
        ['warn', 'backend in trouble; calls wait for it'],
        ['info', 'backend answers again'],
      ],
    );
  });

  test('take an own put that was stored and not answered for done', async () => {
    const { clock, bucket } = await world(['after']);
    const put = bucket.put('key', body, { if: 'absent' });
    await turn();
    await clock.advance(1000);
    await put;
    await assert.rejects(bucket.put('key', Buffer.from('other'), { if: 'absent' }), (error) =>
      isStorageError(error, 'exists'),
    );
  });

  test('end the wait of all when any call is answered', async () => {
    const { clock, faults, monitor, bucket } = await world([]);
    await bucket.put('key', body);
    faults.choose = () => 'before';
    const gets = Promise.all(Array.from({ length: 50 }, () => bucket.get('key')));
    await turn();
    await clock.advance(60_000);
    assert.equal(monitor.outage?.waiting, 50);
    faults.choose = () => 'none';
    // That there is no such key is an answer.
    await assert.rejects(bucket.get('other'));
    await clock.advance(300);
    assert.equal(monitor.outage, undefined);
    await gets;
  });

  test('do not hammer a store that is down', async () => {
    const { clock, faults, monitor, bucket } = await world([]);
    faults.choose = () => 'before';
    const stop = new AbortController();
    const gets = Array.from({ length: 200 }, () => bucket.get('key', { signal: stop.signal }));
    await turn();
    await clock.advance(10_000);
    const attempts = monitor.outage?.attempts ?? 0;
    await clock.advance(10_000);
    const tried = (monitor.outage?.attempts ?? 0) - attempts;
    assert.ok(tried >= 10 && tried <= 50, String(tried));
    stop.abort(new Error('enough'));
    for (const get of gets) await assert.rejects(get, /enough/);
    assert.equal(clock.sleeping, 0);
  });

  test('repeat a call that alone fails ever more slowly, and no sooner than was asked', async () => {
    const { clock, faults, bucket } = await world([]);
    for (const key of ['bad', 'busy', 'good']) await bucket.put(key, body);
    const tries = { bad: 0, busy: 0, good: 0 };
    const detail = { retryAfterMs: 5000 };
    faults.delay = async (_operation, key) => {
      tries[key as keyof typeof tries] += 1;
      if (key === 'bad') throw new StorageError('unavailable', 'no');
      if (key === 'busy') throw new StorageError('unavailable', 'not now', { detail });
    };
    const stop = new AbortController();
    const { signal } = stop;
    const failing = ['bad', 'busy'].map((key) => bucket.get(key, { signal }));
    for (let step = 0; step < 1000; step += 1) {
      await bucket.get('good');
      await clock.advance(20);
    }
    // Pauses of 0.1, 0.2, 0.4, 0.8 and 1 s, half of each by chance; and of 5 s at least.
    assert.ok(tries.bad >= 20 && tries.bad <= 45, String(tries.bad));
    assert.ok(tries.busy >= 3 && tries.busy <= 4, String(tries.busy));
    stop.abort(new Error('enough'));
    for (const get of failing) await assert.rejects(get, /enough/);
  });

  test('do not take the answers of a full store for room', async () => {
    const { clock, faults, bucket } = await world([]);
    let isFull = true;
    let puts = 0;
    faults.choose = (operation) => {
      if (operation === 'put') puts += 1;
      return operation === 'put' && isFull ? 'full' : 'none';
    };
    const all = Promise.all([1, 2, 3, 4, 5].map((index) => bucket.put(`key${index}`, body)));
    for (let step = 0; step < 1000; step += 1) {
      await bucket.list({ prefix: '', limit: 1 });
      await clock.advance(10);
    }
    assert.ok(puts < 40, String(puts));
    isFull = false;
    await clock.advance(1300);
    await all;
    assert.ok(puts < 47, String(puts));
  });

  test('go on with what was away as soon as the store answers that it is full', async () => {
    const { clock, faults, monitor, bucket } = await world([]);
    await bucket.put('key', body);
    faults.choose = () => 'before';
    const get = bucket.get('key');
    await turn();
    await clock.advance(60_000);
    // The next turn is half a second away at least.
    for (const { attempts = 0 } = monitor.outage ?? {}; monitor.outage?.attempts === attempts; )
      await clock.advance(10);
    faults.choose = (operation) => (operation === 'put' ? 'full' : 'none');
    const stop = new AbortController();
    const put = bucket.put('other', body, { signal: stop.signal });
    await clock.advance(100);
    await get;
    stop.abort(new Error('enough'));
    await assert.rejects(put, /enough/);
  });

  test('wait for room in a full store', async () => {
    const { clock, bucket } = await world(['full', 'full']);
    const put = bucket.put('key', body);
    for (let step = 0; step < 20; step += 1) await clock.advance(100);
    await put;
    assert.ok(body.equals(await bucket.get('key')));
  });
});

test('a limit in bytes keeps bodies from being under way together', async () => {
  const faults = noFaults();
  const backend = await memory((inner) =>
    withLimit(withFaults(inner, faults), 8, { bytesMax: 10 }),
  );
  const release = stall(faults);
  let most = 0;
  let underWay = 0;
  faults.delay = async () => {
    underWay += 1;
    most = Math.max(most, underWay);
  };
  faults.choose = () => {
    underWay -= 1;
    return 'none';
  };
  const bucket = backend.bucket('one');
  const puts = ['a', 'b', 'c', 'd'].map((key) => bucket.put(key, Buffer.alloc(5)));
  await turn();
  release();
  await Promise.all(puts);
  assert.equal(most, 2);
});

test('metrics count calls, bytes and errors of each kind', async () => {
  const metrics = new BackendMetrics(new SimulatedClock());
  const backend = await memory((inner) =>
    withMetrics(withFaults(inner, scriptedFaults(['none', 'full'])), metrics),
  );
  await backend.bucket('one').put('key', body);
  await assert.rejects(backend.bucket('one').put('key', body));
  await backend.bucket('one').get('key');
  const puts = metrics.of('put');
  assert.deepEqual([puts.calls, puts.bytes, puts.errors], [2, 4, { no_space: 1 }]);
  assert.equal(metrics.of('get').bytes, 4);
  assert.equal(
    puts.latency.reduce((sum, count) => sum + count, 0),
    2,
  );
});

test('checks refuse what the contract does not allow, before it is sent', async () => {
  const faults = noFaults();
  const backend = await memory((inner) => withChecks(withFaults(inner, faults)));
  for (const key of ['', '/a', 'a/', 'a//b', '../a', 'a'.repeat(600)])
    await assert.rejects(backend.bucket('one').put(key, body), (error) =>
      isStorageError(error, 'invalid'),
    );
  assert.equal(faults.counts.put, 0);
});

describe('an object store that is opened', () => {
  const deps = () => ({
    clock: systemClock(undefined),
    random: systemRandom(),
    log: quietLog(),
  });
  const settings = { layout: 'buckets', bucketPrefix: 'wharf-demo', requestsMax: 4 } as const;

  test('is known to take nothing from an account that may only read', async () => {
    const empty =
      '<?xml version="1.0"?><ListAllMyBucketsResult><Buckets></Buckets></ListAllMyBucketsResult>';
    await using server = await scriptedS3(({ method }) =>
      method === 'GET' ? { status: 200, body: empty } : refusal(403, 'AccessDenied'),
    );
    const opened = await openBackend(
      {
        ...{ ...settings, kind: 's3', region: 'us-east-1', endpoint: server.endpoint },
        credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
      },
      deps(),
    );
    assert.equal(opened.isReadOnly, true);
    await opened.backend.close();
  });

  test('leaves nothing of its trial behind', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'wharf-store-'));
    const opened = await openBackend({ ...settings, kind: 'dir', path: folder }, deps());
    assert.equal(opened.isReadOnly, false);
    assert.deepEqual(await opened.backend.listBuckets({ prefix: '' }), []);
    await opened.backend.close();
    await rm(folder, { recursive: true });
  });

  test('is waited for until the signal ends it', async () => {
    const server = await scriptedS3(() => ({ status: 200 }));
    await server[Symbol.asyncDispose]();
    const stop = new AbortController();
    const { log, ...rest } = deps();
    const opening = openBackend(
      {
        ...{ ...settings, kind: 's3', region: 'us-east-1', endpoint: server.endpoint },
        credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
        retry: { firstPauseMs: 1, pauseMsMax: 2 },
      },
      { ...rest, log },
      { signal: stop.signal },
    );
    while (log.lines.length === 0) await turn();
    assert.match(log.lines[0]?.message ?? '', /calls wait/);
    stop.abort(new Error('enough'));
    await assert.rejects(opening, /enough/);
  });
});
