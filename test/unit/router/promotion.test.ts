import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryBackend } from '../../../src/backend/memory-backend.ts';
import type { Fault } from '../../../src/backend/with-faults.ts';
import { noFaults, withFaults } from '../../../src/backend/with-faults.ts';
import { SegmentCache } from '../../../src/cache/segment-cache.ts';
import { limits } from '../../../src/core/limits.ts';
import { hostId, MiB, objectId } from '../../../src/core/units.ts';
import { FileDriver } from '../../../src/file/file-driver.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import { MemoryDisk } from '../../../src/platform/memory-disk.ts';
import { systemClock } from '../../../src/platform/system-clock.ts';
import { MemoryRegistry } from '../../../src/registry/memory-registry.ts';
import { ObjectRecords } from '../../../src/registry/object-records.ts';
import { ObjectRouter } from '../../../src/router/object-router.ts';
import { VolumeDriver } from '../../../src/volume/volume-driver.ts';
import { quietLog } from '../../support/quiet-log.ts';
import { smallSettings } from '../../support/volume-world.ts';

const id = objectId('2'.repeat(32));
const host = hostId('a');

/** A host's drivers and router over stores that outlive it. */
class World {
  readonly backend = new MemoryBackend();
  readonly faults = noFaults();
  readonly records = new ObjectRecords(new MemoryRegistry(systemClock(undefined)));
  readonly log = quietLog();
  disk = new MemoryDisk();

  async open(): Promise<ObjectRouter> {
    const { disk, log, records } = this;
    const platform = { disk, log, checksum: tableChecksum(), clock: systemClock(undefined) };
    const backend = withFaults(this.backend, this.faults);
    await backend.createBucket('files');
    const cacheSettings = { folder: '/cache', cacheBytesMax: 4 * MiB, fetchBytesMax: 4 * MiB };
    const sources = await SegmentCache.open(platform, cacheSettings);
    const volumes = new VolumeDriver(
      {
        ...{ ...platform, backend, sources, heads: records.heads('volume') },
        ...{ journalFolder: '/journal', bucketOf: (of: string) => `volume-${of}` },
      },
      {
        ...smallSettings,
        journal: { fileBytes: 8 * MiB, bytesMax: 256 * MiB },
        segmentBytes: 4 * MiB,
        uploadBytesMax: 32 * MiB,
        cutBytes: 32 * MiB,
      },
    );
    const files = new FileDriver(
      { ...platform, backend, bucket: 'files', heads: records.heads('file') },
      { writeBackDelayMs: 1000, dirtyBytesMax: 64 * MiB, cacheBytesMax: 4 * MiB },
    );
    const { clock } = platform;
    return new ObjectRouter({ host, records, volumes, files, clock, log }, { idleObjectsMax: 4 });
  }
}

const filled = (value: number) => new Uint8Array(MiB).fill(value);

async function fileOf(router: ObjectRouter, size: number) {
  await router.create(id, 'file');
  const object = await router.open(id);
  for (const at of [0, 5, 62]) await object.write(at * MiB, filled(at + 1));
  await object.resize(size);
  await object.flush();
  return object;
}

async function valueAt(object: Awaited<ReturnType<ObjectRouter['open']>>, at: number) {
  const into = filled(0xff);
  await object.read(at * MiB, into);
  assert.ok(into.every((byte) => byte === into[0]));
  return into[0];
}

describe('a file that outgrows its driver', () => {
  test('becomes a volume under the same id, with all that is in it', async () => {
    const world = new World();
    const router = await world.open();
    const object = await fileOf(router, 63 * MiB);
    assert.equal(object.kind(), 'file');
    const writes = [63, 64, 65, 70].map((at) => object.write(at * MiB, filled(at)));
    const reads = [0, 5, 62].map((at) => valueAt(object, at));
    await Promise.all(writes);
    assert.deepEqual(await Promise.all(reads), [1, 6, 63]);
    assert.equal(object.kind(), 'volume');
    assert.equal(object.size(), 71 * MiB);
    for (const at of [63, 64, 65, 70]) assert.equal(await valueAt(object, at), at);
    assert.equal(await valueAt(object, 10), 0);
    await object.flush();
    assert.equal((await world.backend.bucket('files').list({ prefix: '' })).blobs.length, 0);
    await router.close();
    const again = await (await world.open()).open(id);
    assert.equal(again.kind(), 'volume');
    assert.equal(await valueAt(again, 5), 6);
    assert.equal(await valueAt(again, 70), 70);
    await again.close();
  });

  test('stays the file that it was when its promotion fails, at whatever step', async () => {
    for (const failing of [1, 2, 3, 5, 8, 13]) {
      const world = new World();
      const router = await world.open();
      const object = await fileOf(router, 63 * MiB);
      let calls = 0;
      world.faults.choose = (): Fault => {
        calls += 1;
        return calls === failing ? 'before' : 'none';
      };
      const failure = await Promise.resolve(object.resize(limits.promoteBytes)).then(
        () => undefined,
        (error: Error) => error,
      );
      world.faults.choose = () => 'none';
      if (failure && object.kind() === 'file') {
        for (const at of [0, 5, 62]) assert.equal(await valueAt(object, at), at + 1);
        await object.resize(limits.promoteBytes);
      }
      assert.equal(object.kind(), 'volume');
      for (const at of [0, 5, 62]) assert.equal(await valueAt(object, at), at + 1);
      await router.close();
    }
  });

  test('is whole, file or volume, after the host dies in the middle', async () => {
    const dead: ((error: Error) => void)[] = [];
    for (const dying of [1, 2, 4, 7]) {
      const world = new World();
      const router = await world.open();
      const object = await fileOf(router, 63 * MiB);
      let calls = 0;
      const died = Promise.withResolvers<void>();
      world.faults.choose = (): Fault => {
        calls += 1;
        if (calls === dying) {
          const gate = Promise.withResolvers<void>();
          gate.promise.catch(() => {});
          dead.push(gate.reject);
          world.faults.gate = gate.promise;
          died.resolve();
        }
        return 'none';
      };
      const promoted = Promise.resolve(object.resize(limits.promoteBytes)).catch(() => {});
      await Promise.race([died.promise, promoted]);
      world.disk = world.disk.reopened();
      // Calls of the dead host never end; the next one's pass.
      const next = new World();
      Object.assign(next, { backend: world.backend, records: world.records, disk: world.disk });
      const again = await (await next.open()).open(id);
      for (const at of [0, 5, 62]) assert.equal(await valueAt(again, at), at + 1, `step ${dying}`);
      await again.resize(limits.promoteBytes + 1);
      for (const at of [0, 5, 62]) assert.equal(await valueAt(again, at), at + 1, `step ${dying}`);
      await again.close();
    }
    for (const end of dead) end(new Error('the host is dead'));
  });
});
