/** What an object does with requests while what serves it changes, or may have changed. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError, StorageError } from '../../../src/core/errors.ts';
import { hostId, objectId } from '../../../src/core/units.ts';
import { peerKind } from '../../../src/format/peer-message.ts';
import type { Backing } from '../../../src/router/backing.ts';
import { RoutedObject } from '../../../src/router/routed-object.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';
import { quietLog } from '../../support/quiet-log.ts';
import { memoryObjects } from '../../support/memory-objects.ts';
import { tenureOf } from '../../support/tenure.ts';

const id = objectId('5'.repeat(32));
const blockBytes = 4096;
const block = (value: number) => new Uint8Array(blockBytes).fill(value);
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** An object that this host drives, and its lease. */
async function driven(
  resolve: () => Promise<Backing> = () => assert.fail('nobody else serves it'),
) {
  const objects = memoryObjects();
  await objects.create(id, 'volume');
  const changes = { last: 0, starts: [] };
  const object = Object.assign(await objects.open(id), { epoch: 1, changes });
  const lease = {
    isKept: true,
    isLost: false,
    isFresh: () => lease.isKept,
    fresh: async () => {
      if (lease.isLost) throw new StorageError('fenced', 'the lease is lost');
      lease.isKept = true;
    },
    guard: [],
    assertFresh() {
      if (!lease.isKept) throw new StorageError('unavailable', 'the lease may have run out');
    },
  };
  const routed = new RoutedObject(
    id,
    { where: 'here', object, kind: 'volume', tenure: tenureOf(id, 1), lease },
    {
      resolve,
      promote: () => assert.fail('it is a volume'),
      noteForwarded: () => assert.fail('it is here'),
      host: hostId('a'),
      log: quietLog(),
    },
  );
  return { routed, lease, object };
}

describe('a request that fails while the lease may have run out', () => {
  /** What it reads is not there any more, and is only found missing when the lease is stale. */
  async function failing(resolve?: () => Promise<Backing>) {
    const here = await driven(resolve);
    const { lease, object } = here;
    object.read = async () => {
      await turn();
      lease.isKept = false;
      throw new StorageError('corrupt', 'a segment is missing');
    };
    return here;
  }
  const isCorrupt = (error: unknown) => isStorageError(error, 'corrupt');

  test('is made again where another tenure has begun', async () => {
    const { routed, lease } = await failing(async () => (await driven()).routed.backing);
    lease.isLost = true;
    assert.equal(await routed.read(0, block(0)), 0);
  });

  test('fails where the lease was kept', async () => {
    const { routed } = await failing();
    await assert.rejects(async () => routed.read(0, block(0)), isCorrupt);
  });

  test('tells another host to look for who serves the object', async () => {
    const { routed } = await failing();
    const read = async () => routed.serve((inner) => inner.read(0, block(0)));
    await assert.rejects(read, (error) => isStorageError(error, 'unavailable'));
  });
});

describe('a request of another host', () => {
  test('is served at once where nothing has to be waited for', async () => {
    const { routed } = await driven();
    const written = routed.serve((inner) => inner.write(0, block(1)));
    assert.equal(written, 1);
    const into = block(0);
    const read = routed.serve((inner) => inner.read(0, into));
    assert.equal(read, blockBytes);
    assert.equal(into[0], 1);
  });

  for (const [how, pause] of [
    ['at once', undefined],
    ['later', turn],
  ] as const)
    test(`is not acknowledged when the lease may have run out under work done ${how}`, async () => {
      const { routed, lease } = await driven();
      const work = () => {
        lease.isKept = false;
        return pause?.() as Promise<void> | undefined;
      };
      await assert.rejects(
        async () => routed.serve(work),
        (error) => isStorageError(error, 'unavailable'),
      );
      await assert.rejects(
        async () => routed.serve(() => assert.fail('it was served')),
        (error) => isStorageError(error, 'unavailable'),
      );
    });
});

describe('a request that goes to the owner', () => {
  async function three() {
    const world = new ClusterWorld();
    const [a, b, c] = [await world.host('a'), await world.host('b'), await world.host('c')];
    await a.router.create(id, 'volume');
    const atA = await a.router.open(id);
    await atA.write(0, block(1));
    a.router.release(id);
    const atC = await c.router.open(id);
    const valueAtC = async () => {
      const into = block(0xff);
      assert.equal(await atC.read(0, into), blockBytes);
      return into[0];
    };
    assert.equal(await valueAtC(), 1);
    return { world, b, atC, valueAtC };
  }

  test('goes to the next one when that is not the owner any more', async () => {
    const { world, b, atC, valueAtC } = await three();
    await using _ = world;
    await b.router.fetch(id);
    assert.equal(await valueAtC(), 1);
    await atC.write(0, block(2));
    assert.equal(await valueAtC(), 2);
    assert.equal((await world.records.get(id)).owner, 'b');
  });

  test('is made again when its answer is lost', async () => {
    const { world, atC, valueAtC } = await three();
    await using _ = world;
    let losses = 0;
    for (const [kind, request] of [
      [peerKind.write, () => atC.write(0, block(3))],
      [peerKind.read, async () => assert.equal(await valueAtC(), 3)],
    ] as const) {
      let isLost = false;
      world.network.losesAnswer = (found) => {
        if (found !== kind || isLost) return false;
        isLost = true;
        losses += 1;
        return true;
      };
      await request();
    }
    assert.equal(losses, 2);
  });

  test('has ended when what serves the object changes', { timeout: 30_000 }, async () => {
    const { world, atC, valueAtC } = await three();
    await using _ = world;
    const answered = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<void>();
    world.network.delayAnswer = (kind) => {
      if (kind !== peerKind.read) return undefined;
      asked.resolve();
      return answered.promise;
    };
    const read = valueAtC();
    await asked.promise;
    let isAnswered = false;
    const changed = atC.change((backing) => {
      assert.ok(isAnswered);
      return Promise.resolve(backing);
    });
    await turn();
    isAnswered = true;
    answered.resolve();
    await Promise.all([read, changed]);
  });
});
