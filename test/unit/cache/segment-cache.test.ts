import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { lineBytes } from '../../../src/cache/line-slots.ts';
import { isPending } from '../../../src/core/eventually.ts';
import { isStorageError, StorageError } from '../../../src/core/errors.ts';
import { KiB, MiB, objectId } from '../../../src/core/units.ts';
import { segmentKey } from '../../../src/format/segment-key.ts';
import { CacheWorld } from '../../support/cache-world.ts';

const isCorrupt = (error: unknown) => isStorageError(error, 'corrupt');
const turns = async (count = 5) => {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};
const ranges = (world: CacheWorld) =>
  world.bucket.asked.map(({ offset, length }) => [offset / lineBytes, length / lineBytes]);

describe('a read through the cache', () => {
  for (const slowReads of [false, true])
    test(`is right at any place and size${slowReads ? ' on a slow disk' : ''}`, async () => {
      const world = await new CacheWorld().open();
      world.disk.faults.slowReads = slowReads;
      // Neither lines nor chunks divide it.
      const body = world.put(1, 300_000);
      for (let pass = 0; pass < 2; pass += 1)
        for (const [offset, count, chunkBytes] of [
          [0, 1, 4096],
          [4096, 40, 4096],
          [61_440, 2, 4096],
          [100, 20, 6144],
          [65_535, 1, 2],
          [199_999, 5000, 20],
        ] as const) {
          const length = count * chunkBytes;
          const { run, expected } = world.runOf(1, body, offset, length, chunkBytes);
          const into = new Uint8Array(length).fill(0xee);
          await world.source.read(run, into);
          assert.ok(Buffer.compare(into, expected) === 0, `${count} of ${chunkBytes} at ${offset}`);
        }
      assert.equal(
        world.bucket.asked.reduce((sum, { length }) => sum + length, 0),
        5 * lineBytes,
      );
      assert.deepEqual(world.alarms(), []);
    });

  test('is answered at once by what is on the SSD', async () => {
    const world = await new CacheWorld().open();
    const body = world.put(1);
    await world.check(1, body, 0, 256 * KiB);
    const { run, expected } = world.runOf(1, body, 60 * KiB, 16 * KiB);
    const into = new Uint8Array(16 * KiB);
    assert.equal(isPending(world.source.read(run, into)), false);
    assert.deepEqual(into, expected);
    const { hits, misses, fetches, cachedBytes } = world.cache.statistics();
    assert.deepEqual([hits, misses, fetches, cachedBytes], [1, 1, 1, 256 * KiB]);
  });

  test('fetches neighbours together, and only what is missing', async () => {
    const world = await new CacheWorld().open();
    const body = world.put(1, 3 * MiB);
    await world.check(1, body, 3 * lineBytes, 4096);
    await world.check(1, body, 1 * lineBytes, 5 * lineBytes);
    assert.deepEqual(ranges(world), [
      [3, 1],
      [1, 2],
      [4, 2],
    ]);
    world.bucket.asked.length = 0;
    await world.check(1, body, 8 * lineBytes, 2 * MiB);
    assert.deepEqual(ranges(world), [
      [8, 16],
      [24, 16],
    ]);
  });

  test('shares what is under way already', async () => {
    const world = await new CacheWorld().open();
    const body = world.put(1, 1 * MiB);
    const release = world.bucket.hold();
    const readers = [
      ...Array.from({ length: 10 }, () => world.check(1, body, 2 * lineBytes, 4096)),
      world.check(1, body, 2 * lineBytes, 2 * lineBytes),
      world.check(1, body, 1 * lineBytes, 4 * lineBytes),
    ];
    await turns();
    release();
    await Promise.all(readers);
    assert.deepEqual(ranges(world), [
      [2, 1],
      [3, 1],
      [1, 1],
      [4, 1],
    ]);
    const { fetches, fetchedBytes } = world.cache.statistics();
    assert.deepEqual([fetches, fetchedBytes], [4, 4 * lineBytes]);
  });

  test('keeps bytes on their way from the backend bounded', async () => {
    const world = await new CacheWorld().open({ fetchBytesMax: 3 * lineBytes });
    const body = world.put(1, 2 * MiB);
    const reads = Array.from({ length: 32 }, (_, line) =>
      world.check(1, body, line * lineBytes, 4096),
    );
    await Promise.all(reads);
    assert.ok(world.bucket.openBytesMax <= 3 * lineBytes, `${world.bucket.openBytesMax}`);
    // One that is larger than the bound goes alone.
    await world.reopen({ folder: '/other' });
    await world.check(1, body, 0, 1 * MiB);
  });

  test('outlives the tenure whose fetch it had joined', async () => {
    const world = await new CacheWorld().open();
    const body = world.put(1);
    const release = world.bucket.hold();
    const ending = new AbortController();
    const old = world.newSource(ending.signal);
    const theirs = world.check(1, body, 0, 4096, old);
    const ours = [world.check(1, body, 0, 4096), world.check(1, body, 0, 128 * KiB)];
    await turns();
    const fenced = new StorageError('fenced', 'the tenure has ended');
    ending.abort(fenced);
    await assert.rejects(theirs, (error) => error === fenced);
    await turns();
    release();
    await Promise.all(ours);
    assert.deepEqual(world.alarms(), []);
  });

  test('ends with its own tenure, whatever it waits for', async () => {
    const world = await new CacheWorld().open({ fetchBytesMax: lineBytes });
    const body = world.put(1);
    const release = world.bucket.hold();
    const other = world.check(1, body, 0, 4096);
    const ending = new AbortController();
    const source = world.newSource(ending.signal);
    // One has joined the other's fetch, one waits for its turn.
    const joined = world.check(1, body, 0, 4096, source);
    const queued = world.check(1, body, lineBytes, 4096, source);
    await turns();
    const fenced = new StorageError('fenced', 'the tenure has ended');
    ending.abort(fenced);
    await assert.rejects(joined, (error) => error === fenced);
    await assert.rejects(queued, (error) => error === fenced);
    release();
    await other;
  });

  test('keeps the bytes of a slot that is being read', async () => {
    const world = await new CacheWorld().open({ cacheBytesMax: 1 * MiB });
    const body = world.put(1);
    await world.check(1, body, 0, 4096);
    world.bucket.asked.length = 0;
    world.disk.faults.slowReads = true;
    const reads = Array.from({ length: 4 }, () => world.check(1, body, 0, 64 * KiB));
    for (let sequence = 2; sequence < 40; sequence += 1)
      world.source.insert(1, sequence, world.put(sequence, 256 * KiB));
    await Promise.all(reads);
    assert.deepEqual(world.bucket.asked, []);
    const { hits, damagedLines } = world.cache.statistics();
    assert.deepEqual([hits, damagedLines], [4, 0]);
  });
});

describe('a backend', () => {
  test('that errs once is asked again for the wrong chunk alone', async () => {
    const world = await new CacheWorld().open();
    const body = world.put(1);
    let errors = 1;
    world.bucket.answer = async (_, bytes) => {
      if (errors > 0) bytes[9000] = (bytes[9000] as number) ^ 1;
      errors -= 1;
      return bytes;
    };
    await world.check(1, body, 0, 128 * KiB);
    assert.deepEqual(
      world.bucket.asked.map(({ offset, length }) => [offset, length]),
      [
        [0, 128 * KiB],
        [8192, 4096],
      ],
    );
    assert.deepEqual(world.alarms(), []);
    // The line that came wrong was not kept, the other one was.
    await world.check(1, body, 0, 128 * KiB);
    assert.deepEqual(ranges(world).slice(2), [[0, 1]]);
    assert.equal(world.cache.statistics().damagedLines, 0);
  });

  test('whose chunk is wrong for good fails that chunk alone, with an alarm', async () => {
    const world = await new CacheWorld().open();
    const body = world.put(1);
    const stored = world.bucket.blobs.get(segmentKey(1, 1)) as Uint8Array;
    stored[70_000] = (stored[70_000] as number) ^ 1;
    await assert.rejects(world.check(1, body, 64 * KiB, 64 * KiB), isCorrupt);
    assert.equal(world.bucket.asked.length, 3, 'the line, and the chunk twice more');
    assert.deepEqual(
      world.log.lines.map(({ level, facts }) => [level, facts]),
      [['error', { epoch: 1, sequence: 1, offset: 69_632, bytes: 4096 }]],
    );
    for (let offset = 0; offset < 256 * KiB; offset += 4096)
      if (offset !== 69_632) await world.check(1, body, offset, 4096);
    stored[70_000] = (stored[70_000] as number) ^ 1;
    await world.check(1, body, 0, 256 * KiB);
  });

  test('that lost a segment, or its end, is believed after a while', async () => {
    const world = await new CacheWorld().open();
    const body = world.put(1);
    world.bucket.blobs.set(segmentKey(1, 1), body.slice(0, 100_000));
    await assert.rejects(world.check(1, body, 64 * KiB, 64 * KiB), isCorrupt);
    await world.check(1, body, 64 * KiB, 32 * KiB);
    world.bucket.blobs.delete(segmentKey(1, 1));
    await world.reopen({ folder: '/other' });
    const before = world.clock.monotonicMs();
    await assert.rejects(world.check(1, body, 0, 4096), isCorrupt);
    const took = world.clock.monotonicMs() - before;
    assert.ok(took > 0 && took < 5000, `${took} ms`);
    assert.ok(world.alarms().includes('segment is missing on the backend'));
  });

  test('that lags behind is given the time', async () => {
    const world = await new CacheWorld().open();
    const body = world.put(1);
    const stored = world.bucket.blobs.get(segmentKey(1, 1)) as Uint8Array;
    world.bucket.blobs.delete(segmentKey(1, 1));
    const read = world.check(1, body, 0, 4096);
    await turns();
    world.bucket.blobs.set(segmentKey(1, 1), stored);
    await read;
    assert.deepEqual(world.alarms(), []);
  });
});

describe('what the cache is told before it is asked', () => {
  test('is on the SSD when it is inserted', async () => {
    const world = await new CacheWorld().open();
    const body = world.put(1, 300_000);
    const given = body.slice();
    world.source.insert(1, 1, given);
    given.fill(0);
    for (let offset = 0; offset + 8192 <= 300_000; offset += 8192)
      await world.check(1, body, offset, 8192);
    assert.deepEqual(world.bucket.asked, []);
  });

  test('is taken in part when it is large', async () => {
    const world = await new CacheWorld().open({ cacheBytesMax: 64 * MiB });
    const body = world.put(1, 20 * MiB);
    world.source.insert(1, 1, body);
    assert.equal(world.cache.statistics().cachedBytes, 8 * MiB);
    await world.check(1, body, 8 * MiB - 4096, 8192);
    assert.equal(world.bucket.asked.length, 1);
  });

  test('is fetched ahead once, within half of the bound', async () => {
    const world = await new CacheWorld().open({ fetchBytesMax: 8 * lineBytes });
    const body = world.put(1, 2 * MiB);
    const release = world.bucket.hold();
    world.source.prefetch(1, 1, 100, 2 * lineBytes);
    world.source.prefetch(1, 1, 0, 3 * lineBytes);
    world.source.prefetch(1, 1, 0, 2 * MiB);
    world.source.prefetch(1, 1, 0, 2 * MiB);
    await turns();
    assert.deepEqual(ranges(world), [
      [0, 3],
      [3, 1],
    ]);
    release();
    await turns();
    await world.check(1, body, 0, 4 * lineBytes);
    assert.equal(world.bucket.asked.length, 2);
    assert.equal(world.cache.statistics().hits, 1);
  });

  test('fails nobody when it can not be fetched ahead', async () => {
    const world = await new CacheWorld().open();
    world.bucket.answer = () => Promise.reject(new StorageError('invalid', 'wrong credentials'));
    world.source.prefetch(1, 7, 0, 4 * lineBytes);
    await turns();
    const body = world.put(7);
    world.bucket.answer = async (_, bytes) => bytes;
    await world.check(7, body, 0, 4096);
  });

  test('is forgotten with its object', async () => {
    const world = await new CacheWorld().open({ cacheBytesMax: 2 * MiB });
    const other = objectId('f'.repeat(32));
    const body = world.put(1, 1 * MiB);
    const otherSource = world.newSource(new AbortController().signal, other);
    world.source.insert(1, 1, body);
    otherSource.insert(1, 1, body);
    assert.equal(world.cache.cachedBytes(world.id), 1 * MiB);
    world.cache.forget(world.id);
    world.cache.forget(world.id);
    assert.equal(world.cache.cachedBytes(world.id), 0);
    assert.equal(world.cache.cachedBytes(other), 1 * MiB);
    await turns();
    assert.equal(world.cache.statistics().cachedBytes, 1 * MiB);
    // Its slots are used before any other line is given up.
    otherSource.insert(1, 2, world.put(2, 1 * MiB));
    assert.equal(world.cache.cachedBytes(other), 2 * MiB);
    await world.check(1, body, 0, 1 * MiB, otherSource);
    assert.deepEqual(world.bucket.asked, []);
    const anew = world.newSource(new AbortController().signal);
    await world.check(1, body, 0, 4096, anew);
    assert.equal(world.bucket.asked.length, 1);
    await world.cache.close();
  });

  test('is not washed out by a scan in small pieces', async () => {
    const world = await new CacheWorld().open({ cacheBytesMax: 4 * MiB });
    const hot = world.put(1, 2 * MiB);
    for (let round = 0; round < 3; round += 1)
      for (let at = 0; at < 2 * MiB; at += 32 * KiB) await world.check(1, hot, at, 4096);
    const fetched = world.bucket.asked.length;
    for (let sequence = 2; sequence < 12; sequence += 1) {
      const body = world.put(sequence, 1 * MiB);
      for (let at = 0; at < 1 * MiB; at += 4096) await world.check(sequence, body, at, 4096);
    }
    world.bucket.asked.length = 0;
    for (let at = 0; at < 2 * MiB; at += lineBytes) await world.check(1, hot, at, 4096);
    const lost = world.bucket.asked.length;
    assert.equal(fetched, 32);
    assert.ok(lost <= 3, `${lost} of 32 hot lines were lost`);
  });
});
