import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { lineBytes } from '../../../src/cache/line-slots.ts';
import { KiB, MiB } from '../../../src/core/units.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import { CacheWorld, dataPath, indexPath } from '../../support/cache-world.ts';

const offAlarm = 'read cache takes no lines: its disk fails or is full';

/** A world whose cache holds the whole of segment 1: four lines in slots 0 to 3. */
async function warmWorld() {
  const world = await new CacheWorld().open();
  const body = world.put(1);
  await world.check(1, body, 0, 256 * KiB);
  world.bucket.asked.length = 0;
  return { world, body };
}

describe('the files of the cache', () => {
  test('keep it warm over a restart', async () => {
    const { world, body } = await warmWorld();
    await world.reopen();
    assert.equal(world.cache.statistics().cachedBytes, 256 * KiB);
    assert.equal(world.cache.cachedBytes(world.id), 256 * KiB);
    await world.check(1, body, 0, 256 * KiB);
    assert.deepEqual(world.bucket.asked, []);
  });

  test('are a miss where they are damaged, and right again after it', async () => {
    for (const slowReads of [false, true]) {
      const { world, body } = await warmWorld();
      world.disk.faults.slowReads = slowReads;
      world.disk.flip(dataPath, 1 * lineBytes + 5000);
      world.disk.flip(dataPath, 3 * lineBytes + 1, 60_000);
      await world.check(1, body, 0, 256 * KiB);
      assert.deepEqual(
        world.bucket.asked.map(({ offset, length }) => [offset / lineBytes, length / lineBytes]),
        [
          [1, 1],
          [3, 1],
        ],
      );
      await world.check(1, body, 0, 256 * KiB);
      const { hits, misses, damagedLines } = world.cache.statistics();
      assert.deepEqual([hits, misses, damagedLines], [1, 2, 2]);
      await world.reopen();
      await world.check(1, body, 0, 256 * KiB);
      assert.equal(world.bucket.asked.length, 2);
      assert.deepEqual(world.alarms(), []);
    }
  });

  test('are not believed about a damaged line after a restart', async () => {
    const { world, body } = await warmWorld();
    world.disk.flip(dataPath, 5000);
    // The line can't be fetched, so it is not written anew.
    world.bucket.blobs.clear();
    await assert.rejects(world.check(1, body, 0, 64 * KiB));
    world.put(1);
    await world.reopen();
    assert.equal(world.cache.statistics().cachedBytes, 192 * KiB);
  });

  test('are filled again where the power took their bytes', async () => {
    const { world, body } = await warmWorld();
    await world.cache.close();
    const data = world.disk.open(dataPath, 'existing');
    data.truncate(70_000);
    await world.open();
    await world.check(1, body, 0, 256 * KiB);
    await world.check(1, body, 0, 256 * KiB);
    assert.equal(world.cache.statistics().hits, 1);
    assert.equal(world.bucket.asked.length, 1, 'three neighbours, once');
  });

  test('are an empty slot for each record that is not whole', async () => {
    for (let bit = 0; bit < 64 * 8; bit += 5) {
      const { world, body } = await warmWorld();
      await world.cache.close();
      world.disk.flip(indexPath, 2 * 64 + (bit >> 3));
      await world.open();
      assert.equal(world.cache.statistics().cachedBytes, 192 * KiB, `byte ${bit >> 3}`);
      await world.check(1, body, 0, 256 * KiB);
      assert.equal(world.bucket.asked.length, 1);
      await world.cache.close();
    }
    const { world, body } = await warmWorld();
    await world.cache.close();
    world.disk.open(indexPath, 'existing').truncate(64 * 2 + 30);
    await world.open();
    assert.equal(world.cache.statistics().cachedBytes, 128 * KiB);
    await world.check(1, body, 0, 256 * KiB);
  });

  test('are right after any crash', async () => {
    for (let seed = 1; seed <= 60; seed += 1) {
      const world = await new CacheWorld().open({ cacheBytesMax: 1 * MiB });
      const bodies = Array.from({ length: 12 }, (_, index) => world.put(index + 1, 200_000));
      for (const [index, body] of bodies.entries()) world.source.insert(1, index + 1, body);
      world.disk = world.disk.crash(seededRandom(seed));
      await world.open();
      for (const [index, body] of bodies.entries())
        for (let at = 0; at + 8192 <= 200_000; at += 24_576)
          await world.check(index + 1, body, at, 8192);
      assert.deepEqual(world.alarms(), [], `seed ${seed}`);
    }
  });

  test('shrink with their bound', async () => {
    const world = await new CacheWorld().open({ cacheBytesMax: 4 * MiB });
    const body = world.put(1, 4 * MiB);
    world.source.insert(1, 1, body);
    await world.reopen({ cacheBytesMax: 1 * MiB });
    assert.equal(world.disk.open(dataPath, 'read').size(), 1 * MiB);
    assert.equal(world.disk.open(indexPath, 'read').size(), 16 * 64);
    assert.equal(world.cache.statistics().cachedBytes, 1 * MiB);
    await world.check(1, body, 0, 4 * MiB);
    assert.equal(world.disk.open(dataPath, 'read').size(), 1 * MiB);
    await world.reopen({ cacheBytesMax: 4 * MiB });
    await world.check(1, body, 0, 4 * MiB);
  });

  test('never outgrow their bound', async () => {
    const world = await new CacheWorld().open({ cacheBytesMax: 1 * MiB });
    const bodies = Array.from({ length: 40 }, (_, index) => world.put(index + 1));
    for (let round = 0; round < 3; round += 1)
      for (const [index, body] of bodies.entries())
        await world.check(index + 1, body, 0, 256 * KiB);
    assert.equal(world.disk.open(dataPath, 'read').size(), 1 * MiB);
    assert.equal(world.cache.statistics().cachedBytes, 1 * MiB);
  });
});

describe('a disk in trouble under the cache', () => {
  test('that is full costs no read, tells so once, and is tried again', async () => {
    const { world, body } = await warmWorld();
    world.disk.faults.fails = (operation) => operation === 'write';
    const more = world.put(2);
    for (let at = 0; at < 256 * KiB; at += lineBytes) await world.check(2, more, at, 4096);
    assert.equal(world.cache.statistics().isOff, true);
    await world.check(1, body, 0, 256 * KiB);
    assert.equal(world.cache.statistics().hits, 1, 'what is there is read');
    // While it is off, no more is fetched than what is asked for.
    assert.deepEqual(world.bucket.asked.at(-1)?.length, 4096);
    for (let round = 0; round < 5; round += 1) {
      await world.clock.advance(31_000);
      await world.check(2, more, (round % 4) * lineBytes, 4096);
    }
    assert.deepEqual(world.alarms(), [offAlarm]);
    world.disk.faults.fails = () => false;
    await world.clock.advance(31_000);
    await world.check(2, more, 0, 4096);
    assert.equal(world.cache.statistics().isOff, false);
    assert.ok(world.log.lines.some(({ message }) => message === 'read cache takes lines again'));
    const asked = world.bucket.asked.length;
    await world.check(2, more, 0, 4096);
    assert.equal(world.bucket.asked.length, asked);
  });

  test('runs out of space in the middle of a line without harm', async () => {
    for (const freeBytes of [0, 1, 70_000, 200_000]) {
      const world = await new CacheWorld().open();
      const body = world.put(1);
      world.disk.faults.freeBytes = freeBytes;
      for (let round = 0; round < 2; round += 1)
        for (let at = 0; at < 256 * KiB; at += 8192) await world.check(1, body, at, 8192);
      await world.reopen();
      for (let at = 0; at < 256 * KiB; at += 8192) await world.check(1, body, at, 8192);
    }
  });

  test('gives bytes back for a journal, and does not take them again at once', async () => {
    const world = await new CacheWorld().open();
    const body = world.put(1, 1 * MiB);
    await world.check(1, body, 0, 1 * MiB);
    world.disk.faults.freeBytes = 0;
    world.cache.giveWay(200 * KiB);
    assert.equal(world.cache.statistics().cachedBytes, 768 * KiB);
    const freed = world.disk.faults.freeBytes;
    assert.ok(freed >= 256 * KiB);
    for (let round = 0; round < 2; round += 1) await world.check(1, body, 0, 1 * MiB);
    assert.equal(world.disk.faults.freeBytes, freed);
    await world.reopen();
    await world.check(1, body, 0, 1 * MiB);
    world.cache.giveWay(100 * MiB);
    assert.equal(world.cache.statistics().cachedBytes, 0);
    await world.check(1, body, 0, 1 * MiB);
  });

  test('leaves its last bytes to others', async () => {
    const world = await new CacheWorld().open();
    const first = world.put(1, 1 * MiB);
    await world.check(1, first, 0, 1 * MiB);
    world.disk.faults.freeBytes = 40 * KiB;
    const second = world.put(2, 1 * MiB);
    for (let round = 0; round < 2; round += 1) await world.check(2, second, 0, 1 * MiB);
    assert.equal(world.disk.faults.freeBytes, 40 * KiB, 'nothing was taken');
    assert.equal(world.cache.statistics().cachedBytes, 1 * MiB);
    assert.deepEqual(world.alarms(), []);
  });

  test('that can not be opened is no cache, until it can', async () => {
    const world = new CacheWorld();
    world.disk.faults.fails = (operation) => operation === 'open';
    await world.open();
    const body = world.put(1);
    for (let round = 0; round < 2; round += 1) await world.check(1, body, 0, 8192);
    assert.equal(world.cache.statistics().isOff, true);
    await world.clock.advance(31_000);
    await world.check(1, body, 0, 8192);
    assert.deepEqual(world.alarms(), [offAlarm]);
    world.disk.faults.fails = () => false;
    await world.clock.advance(31_000);
    await world.check(1, body, 0, 8192);
    const asked = world.bucket.asked.length;
    await world.check(1, body, 0, 8192);
    assert.equal(world.bucket.asked.length, asked);
    await world.cache.close();
  });

  test('that can not be read is a miss, with one alarm', async () => {
    for (const slowReads of [false, true]) {
      const { world, body } = await warmWorld();
      world.disk.faults.slowReads = slowReads;
      world.disk.faults.fails = (operation) => operation === 'read';
      for (let at = 0; at < 256 * KiB; at += lineBytes) await world.check(1, body, at, 4096);
      assert.deepEqual(world.alarms(), ['read cache can not be read in part']);
      assert.equal(world.bucket.asked.length, 4);
      world.disk.faults.fails = () => false;
      await world.check(1, body, 0, 256 * KiB);
      assert.equal(world.bucket.asked.length, 4, 'the lines were written anew');
    }
  });

  test('whose index can not be read starts empty', async () => {
    const { world, body } = await warmWorld();
    await world.cache.close();
    world.disk.faults.fails = (operation, path) => operation === 'read' && path === indexPath;
    await world.open();
    assert.deepEqual(world.alarms(), ['index of the read cache is lost']);
    assert.equal(world.cache.statistics().cachedBytes, 0);
    await world.check(1, body, 0, 256 * KiB);
    await world.check(1, body, 0, 256 * KiB);
    assert.equal(world.cache.statistics().hits, 1);
  });

  test('is left alone once the cache is closed', async () => {
    const { world, body } = await warmWorld();
    world.disk.faults.slowReads = true;
    const release = world.bucket.hold();
    const more = world.put(2);
    const fetching = world.check(2, more, 0, 64 * KiB);
    const reading = world.check(1, body, 0, 64 * KiB);
    const closed = world.cache.close();
    release();
    await Promise.all([fetching, reading, closed]);
    await world.check(1, body, 0, 64 * KiB);
    await world.cache.close();
    assert.deepEqual(world.alarms(), []);
  });
});
