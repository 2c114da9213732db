/**
 * Random work on a tiny cache over a disk that is slow, fails, fills up, loses bytes and crashes:
 * whatever happens to the SSD, every read gives the bytes that were put (invariant 7), and when the
 * disk is well again the cache works.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KiB, MiB, objectId } from '../../src/core/units.ts';
import { seededRandom } from '../../src/platform/random.ts';
import type { SegmentSource } from '../../src/ports/segment-source.ts';
import { CacheWorld, dataPath, indexPath } from '../support/cache-world.ts';

const segmentCount = 12;
const cacheBytesMax = 1 * MiB;

async function life(seed: number, steps: number): Promise<void> {
  const random = seededRandom(seed);
  const below = (bound: number) => Math.floor(random.fraction() * bound);
  const world = await new CacheWorld().open({ cacheBytesMax, fetchBytesMax: 512 * KiB });
  const bodies = Array.from({ length: segmentCount }, (_, index) =>
    world.put(index + 1, 4096 * (1 + below(60)) + (index % 2) * 1000),
  );
  const ids = [world.id, objectId('a'.repeat(32))];
  const live = () => ids.map((id) => world.newSource(new AbortController().signal, id));
  let sources = live();
  let pending: Promise<void>[] = [];
  const settle = async () => {
    await Promise.all(pending);
    pending = [];
  };
  const anySource = () => sources[below(sources.length)] as SegmentSource;
  const anySegment = () => {
    const sequence = 1 + below(segmentCount);
    return [sequence, bodies[sequence - 1] as Uint8Array] as const;
  };
  const damage = (path: string, bound: number) => {
    if (world.disk.list('/cache').length > 0) world.disk.flip(path, below(bound), 1 + below(9000));
  };
  const restart = async () => {
    await settle();
    await world.cache.close();
    await world.open({
      cacheBytesMax: random.fraction() < 0.2 ? cacheBytesMax / 2 : cacheBytesMax,
    });
    sources = live();
  };
  const actions: readonly (readonly [weight: number, act: () => Promise<void> | void])[] = [
    [
      60,
      () => {
        const [sequence, body] = anySegment();
        const blocks = Math.floor(body.length / 4096);
        const first = below(blocks);
        const length = 4096 * (1 + below(blocks - first));
        pending.push(world.check(sequence, body, first * 4096, length, anySource()));
      },
    ],
    [5, () => anySource().insert(1, ...anySegment())],
    [10, () => anySource().prefetch(1, 1 + below(segmentCount), 0, 128 * KiB)],
    [10, settle],
    [4, () => damage(dataPath, cacheBytesMax)],
    [1, () => damage(indexPath, 1024)],
    [
      3,
      () => {
        world.disk.faults.slowReads = random.fraction() < 0.5;
      },
    ],
    [
      2,
      () => {
        const share = random.fraction() < 0.5 ? 0 : 0.3;
        world.disk.faults.fails = () => random.fraction() < share;
      },
    ],
    [
      1,
      () => {
        world.disk.faults.freeBytes =
          random.fraction() < 0.5 ? 100 * KiB : Number.POSITIVE_INFINITY;
      },
    ],
    [2, () => world.clock.advance(20_000)],
    [1, restart],
    [
      1,
      async () => {
        await settle();
        world.disk = world.disk.crash(seededRandom(below(1e9)));
        await restart();
      },
    ],
    [
      1,
      async () => {
        await settle();
        world.cache.forget(ids[1] as (typeof ids)[number]);
        sources = live();
      },
    ],
  ];
  const total = actions.reduce((sum, [weight]) => sum + weight, 0);
  for (let step = 0; step < steps; step += 1) {
    let fate = below(total);
    const [, act] = actions.find(([weight]) => (fate -= weight) < 0) as (typeof actions)[number];
    await act();
    assert.ok(world.cache.statistics().cachedBytes <= cacheBytesMax, `seed ${seed} step ${step}`);
  }
  await settle();
  Object.assign(world.disk.faults, { fails: () => false, slowReads: false });
  world.disk.faults.freeBytes = Number.POSITIVE_INFINITY;
  await world.clock.advance(60_000);
  const [body] = bodies as [Uint8Array];
  const whole = Math.floor(body.length / 4096) * 4096;
  for (let round = 0; round < 3; round += 1) await world.check(1, body, 0, whole);
  const { hits } = world.cache.statistics();
  await world.check(1, body, 0, whole);
  assert.equal(world.cache.statistics().hits, hits + 1, `seed ${seed}: it works again`);
  await world.cache.close();
}

const first = Number(process.env['WHARF_SEED'] ?? 1);
const count = process.env['WHARF_SEED'] === undefined ? 25 : 1;

test(`a cache never gives wrong bytes, whatever happens to its disk (${count} lives)`, async () => {
  for (let seed = first; seed < first + count; seed += 1)
    await life(seed, 400).catch((error: unknown) => {
      throw new Error(`seed ${seed}`, { cause: error });
    });
});
