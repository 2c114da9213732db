import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ChunkVerifier } from '../../../src/cache/chunk-verifier.ts';
import { directSource } from '../../../src/cache/direct-source.ts';
import { SegmentFetcher } from '../../../src/cache/segment-fetcher.ts';
import { isStorageError } from '../../../src/core/errors.ts';
import { KiB } from '../../../src/core/units.ts';
import { segmentKey } from '../../../src/format/segment-key.ts';
import { CacheWorld } from '../../support/cache-world.ts';

function directWorld() {
  const world = new CacheWorld();
  const { clock, log, checksum } = world;
  const ending = new AbortController();
  const verifier = new ChunkVerifier(checksum);
  const fetcher = new SegmentFetcher({ clock, log, verifier }, world.bucket.store, ending.signal);
  return { world, ending, source: directSource(fetcher) };
}

describe('segments straight from the bucket', () => {
  test('are read as they were asked for, each time', async () => {
    const { world, source } = directWorld();
    const body = world.put(1);
    source.insert(1, 1, body);
    source.prefetch(1, 1, 0, 256 * KiB);
    for (let pass = 0; pass < 2; pass += 1) await world.check(1, body, 61_440, 8192, source);
    assert.deepEqual(
      world.bucket.asked.map(({ offset, length }) => [offset, length]),
      [
        [61_440, 8192],
        [61_440, 8192],
      ],
    );
  });

  test('are verified, and asked for again where they are wrong', async () => {
    const { world, source } = directWorld();
    const body = world.put(1);
    let errors = 2;
    world.bucket.answer = async (_, bytes) => {
      if (errors > 0) bytes.fill(1, 10, 20);
      errors -= 1;
      return bytes;
    };
    await world.check(1, body, 0, 16_384, source);
    assert.deepEqual(
      world.bucket.asked.map(({ length }) => length),
      [16_384, 4096, 4096],
    );
    (world.bucket.blobs.get(segmentKey(1, 1)) as Uint8Array).fill(1, 10, 20);
    await assert.rejects(world.check(1, body, 0, 4096, source), (error) =>
      isStorageError(error, 'corrupt'),
    );
    await world.check(1, body, 4096, 4096, source);
  });

  test('are waited for no longer than their tenure lasts', async () => {
    const { world, ending, source } = directWorld();
    const body = world.put(1);
    world.bucket.hold();
    const read = world.check(1, body, 0, 4096, source);
    const reason = new Error('fenced');
    ending.abort(reason);
    await assert.rejects(read, (error) => error === reason);
    world.bucket.blobs.clear();
    await assert.rejects(world.check(1, body, 0, 4096, source), (error) => error === reason);
  });
});
