/** What hosts write of the registry into its bucket, when, and what is read there again. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryBackend } from '../../../src/backend/memory-backend.ts';
import { stall } from '../../../src/backend/with-faults.ts';
import { isStorageError } from '../../../src/core/errors.ts';
import { KiB, MiB } from '../../../src/core/units.ts';
import { beginVpool } from '../../../src/daemon/begin-vpool.ts';
import type { CopyBlobHead, CopyEntry } from '../../../src/format/registry-copy.ts';
import { copyBlobKey, encodeCopyBlob } from '../../../src/format/registry-copy.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import { systemClock } from '../../../src/platform/system-clock.ts';
import { MemoryRegistry } from '../../../src/registry/memory-registry.ts';
import { recoveryKey } from '../../../src/registry/vpool-record.ts';
import { copyBucket, copyDelayMs, CopyWorld } from '../../support/copy-world.ts';

async function inWorld(work: (world: CopyWorld) => Promise<void>): Promise<void> {
  const world = new CopyWorld();
  await world.open();
  await work(world);
  await world.close();
}

const current = (world: CopyWorld) => world.until('it is current', () => world.isCurrent());
const terms = (world: CopyWorld, kind: string) => {
  const found = [...world.blobs.keys()].filter((key) => key.startsWith(kind));
  return [...new Set(found.map((key) => Number.parseInt(key.split('/')[1] ?? '', 16)))];
};
const bytes = (count: number) => new Uint8Array(count).fill(7);

describe('the copy of a registry', () => {
  test('has a change after the delay at the latest', () =>
    inWorld(async (world) => {
      const { copier } = world.join('a');
      await current(world);
      await world.change(['i1', bytes(10)]);
      await world.clock.advance(copyDelayMs + 1);
      assert.ok(await world.isCurrent());
      assert.deepEqual(copier.status()?.isBehind, false);
      await world.during(copier.close());
    }));

  test('costs nothing while nothing changes that is in it', () =>
    inWorld(async (world) => {
      const { copier, faults } = world.join('a');
      await current(world);
      const [revision, { put }] = [world.revision, { ...faults.counts }];
      for (let minute = 0; minute < 10; minute += 1) {
        await world.change([`hv${minute}`, bytes(10)], [`ta/${minute}`, bytes(10)]);
        await world.clock.advance(60_000);
      }
      assert.deepEqual([world.revision, faults.counts.put], [revision + 10, put]);
      assert.ok((copier.status()?.ageMs ?? 0) >= 600_000);
      await world.during(copier.close());
    }));

  test('has everything when its host stops', () =>
    inWorld(async (world) => {
      const { copier } = world.join('a');
      await current(world);
      await world.change(['i1', bytes(10)]);
      await world.during(copier.close());
      assert.ok(await world.isCurrent());
    }));

  test('has what the last of two hosts does before it stops', () =>
    inWorld(async (world) => {
      const a = world.join('a');
      await current(world);
      const b = world.join('b');
      await world.during(a.copier.close());
      await world.change(['i1', bytes(10)]);
      await world.during(b.copier.close());
      assert.ok(await world.isCurrent());
      assert.equal(terms(world, 'base').length, 1);
    }));

  test('is continued by another host when one dies, without a new base', () =>
    inWorld(async (world) => {
      const a = world.join('a');
      await current(world);
      const b = world.join('b');
      await world.clock.advance(1000);
      await world.kill(a);
      await world.change(['i1', bytes(10)]);
      await world.clock.advance(60_000);
      assert.ok(await world.isCurrent());
      assert.deepEqual([terms(world, 'base'), b.copier.status()?.host], [[2], 'b']);
      await world.during(b.copier.close());
    }));

  test('is begun anew when changes were missed, and the old one stays until then', () =>
    inWorld(async (world) => {
      const { copier, faults } = world.join('a');
      await current(world);
      const before = await world.check();
      const release = stall(faults);
      for (let count = 0; count < 40; count += 1)
        await world.change([`i${count}`, bytes(50 * KiB)]);
      await world.clock.advance(copyDelayMs + 1000);
      for (let count = 0; count < 5000; count += 1) await world.change(['m', bytes(400)]);
      await world.clock.advance(60_000);
      assert.equal(await world.check(), before);
      release();
      await current(world);
      assert.equal(terms(world, 'base').length, 2);
      await world.during(copier.close());
    }));

  test('is begun anew when more was changed than it holds, and two are kept', () =>
    inWorld(async (world) => {
      const { copier } = world.join('a');
      for (let count = 0; count < 60; count += 1) {
        await world.change([`i${count % 8}`, bytes(400 * KiB)]);
        await world.clock.advance(copyDelayMs);
      }
      await current(world);
      const bases = terms(world, 'base').sort((x, y) => x - y);
      assert.equal(bases.length, 2);
      assert.ok((bases[0] ?? 0) > 2, 'bases were replaced');
      assert.ok(terms(world, 'change').every((term) => term >= (bases[0] ?? 0)));
      const largest = Math.max(...[...world.blobs.values()].map((blob) => blob.length));
      assert.ok(largest < 1.5 * MiB);
      await world.during(copier.close());
    }));

  test('is begun anew where the registry has forgotten what is in the bucket', () =>
    inWorld(async (world) => {
      const a = world.join('a');
      await current(world);
      await world.during(a.copier.close());
      const [key, blob] = [...world.blobs].find(([name]) => name.startsWith('base/')) ?? [];
      world.blobs.set(copyBlobKey('base', 9, 1), blob as Uint8Array);
      const b = world.join('b');
      await world.until('there is a new base', async () => terms(world, 'base').includes(11));
      await current(world);
      assert.ok(world.blobs.has(key as string));
      await world.during(b.copier.close());
    }));
});

describe('what is damaged in the copy of a registry', () => {
  test('is told and not believed, whatever it is', () =>
    inWorld(async (world) => {
      const { copier } = world.join('a');
      for (let count = 0; count < 30; count += 1) {
        await world.change([`i${count % 8}`, bytes(400 * KiB)], [`d${count}`, bytes(10)]);
        await world.clock.advance(copyDelayMs);
      }
      await world.during(copier.close());
      const newest = await world.check();
      for (const [key, blob] of [...world.blobs]) {
        const damaged = Uint8Array.from(blob);
        damaged[blob.length >> 1] = (damaged[blob.length >> 1] as number) ^ 1;
        world.blobs.set(key, damaged);
        const { faults } = await world.search();
        const reached = await world.check();
        assert.ok(reached === newest || faults.some((line) => line.includes(key)), key);
        world.blobs.delete(key);
        assert.ok((await world.check()) <= reached, key);
        world.blobs.set(key, blob);
      }
      assert.equal(await world.check(), newest);
    }));

  test('is told where it is of another vPool', () =>
    inWorld(async (world) => {
      const { copier } = world.join('a');
      await current(world);
      await world.during(copier.close());
      const other = new CopyWorld();
      await other.open();
      other.salt = '55'.repeat(16);
      const stranger = other.join('a');
      await other.change(['i1', bytes(10)]);
      await other.during(stranger.copier.close());
      const [blob] = [...other.blobs.values()];
      world.blobs.set(copyBlobKey('base', 7, 1), blob as Uint8Array);
      world.blobs.set('base/notes.txt', bytes(1));
      const { faults, copy } = await world.search();
      assert.ok(copy);
      assert.match(faults.join('\n'), /base\/notes\.txt: no part.*\n.*of another vPool/);
      await other.close();
    }));
});

describe('a base', () => {
  const world = new CopyWorld();
  const put = async (head: Partial<CopyBlobHead>, ...entries: CopyEntry[]) => {
    const whole = {
      ...({
        kind: 'base',
        isLast: false,
        salt: world.salt,
        term: 2,
        number: 1,
        madeMs: 1,
      } as const),
      ...{ fromRevision: 5, untilRevision: 10, ...head },
    };
    const { kind, term, number } = whole;
    const blob = encodeCopyBlob(whole, entries, world.checksum);
    await world.backend.bucket(copyBucket).put(copyBlobKey(kind, term, number), blob);
  };
  const revision = async () => (await world.search()).copy?.revision;

  test('counts once the changes up to its last piece are there', async () => {
    await world.open();
    const vpool = await world.registry.get('vpool');
    await put({ isLast: true }, { key: 'vpool', value: vpool?.value });
    assert.equal(await revision(), undefined);
    const change = { kind: 'change' } as const;
    await put({ ...change, untilRevision: 7 }, { key: 'i1', value: bytes(1) });
    assert.equal(await revision(), undefined);
    // Of a host whose turn was before the base: not what follows it.
    await put({ ...change, term: 1, number: 2, fromRevision: 7 });
    assert.equal(await revision(), undefined);
    await put({ ...change, number: 2, fromRevision: 7 });
    assert.equal(await revision(), 10);
    // A gap, and then the turn of another host that continues what two have written.
    await put({ ...change, number: 4, fromRevision: 12, untilRevision: 15 });
    assert.equal(await revision(), 10);
    await put({ ...change, number: 3, fromRevision: 10, untilRevision: 12 });
    assert.equal(await revision(), 15);
    await put({ ...change, term: 3, number: 1, fromRevision: 10, untilRevision: 11 });
    assert.equal(await revision(), 11);
    await world.close();
  });
});

describe('an empty registry', () => {
  const clock = systemClock(undefined);
  const random = seededRandom(1);

  test('is no new vPool where the object store holds one already', async () => {
    const [registry, backend] = [new MemoryRegistry(clock), new MemoryBackend()];
    const deps = { registry, random, backend };
    await backend.createBucket(copyBucket);
    await backend.bucket(copyBucket).put(copyBlobKey('base', 1, 1), bytes(1));
    await assert.rejects(
      beginVpool(deps, 'demo'),
      (error) => isStorageError(error, 'exists') && /wharf vpool recover demo/.test(error.message),
    );
    assert.equal(await registry.get('vpool'), undefined);
    assert.equal((await beginVpool(deps, 'other')).name, 'other');
    await registry.close();
  });

  test('is no vPool while it is being recovered', async () => {
    const [registry, backend] = [new MemoryRegistry(clock), new MemoryBackend()];
    await registry.transact({ compares: [], writes: [{ key: recoveryKey, put: bytes(1) }] });
    await assert.rejects(
      beginVpool({ registry, random, backend }, 'demo'),
      (error) => isStorageError(error, 'invalid') && /again/.test(error.message),
    );
    await registry.close();
  });
});
