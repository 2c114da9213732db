import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Fault } from '../../../src/backend/with-faults.ts';
import { noFaults } from '../../../src/backend/with-faults.ts';
import { limits } from '../../../src/core/limits.ts';
import { MiB, objectId } from '../../../src/core/units.ts';
import type { ObjectRouter } from '../../../src/router/object-router.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const id = objectId('2'.repeat(32));

/** Large enough for files that become volumes; what the backend refuses is refused. */
const settings = {
  journal: { fileBytes: 8 * MiB, bytesMax: 256 * MiB },
  segmentBytes: 4 * MiB,
  uploadBytesMax: 32 * MiB,
  cutBytes: 32 * MiB,
};
const newWorld = () => new ClusterWorld({ volumes: settings, retries: false });
const routerOf = async (world: ClusterWorld) => (await world.host('a')).router;

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
    await using world = newWorld();
    const router = await routerOf(world);
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
    const again = await (await routerOf(world)).open(id);
    assert.equal(again.kind(), 'volume');
    assert.equal(await valueAt(again, 5), 6);
    assert.equal(await valueAt(again, 70), 70);
    await again.close();
  });

  test('stays the file that it was when its promotion fails, at whatever step', async () => {
    for (const failing of [1, 2, 3, 5, 8, 13]) {
      await using world = newWorld();
      const router = await routerOf(world);
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
      await using world = newWorld();
      const router = await routerOf(world);
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
      // Calls of the dead process never end; the next one's pass.
      world.faults = noFaults();
      const again = await (await routerOf(world)).open(id);
      for (const at of [0, 5, 62]) assert.equal(await valueAt(again, at), at + 1, `step ${dying}`);
      await again.resize(limits.promoteBytes + 1);
      for (const at of [0, 5, 62]) assert.equal(await valueAt(again, at), at + 1, `step ${dying}`);
      await again.close();
    }
    for (const end of dead) end(new Error('the host is dead'));
  });
});
