/** As lost-owner.test.ts, of small files; and of objects that nobody uses any more. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { limits } from '../../../src/core/limits.ts';
import { objectId } from '../../../src/core/units.ts';
import { peerKind } from '../../../src/format/peer-message.ts';
import {
  id,
  blockBytes,
  blocks,
  block,
  until,
  write,
  has,
  assertLost,
  assertKept,
  forwarded,
  restarted,
  stop,
} from '../../support/lost-owner.ts';

describe('a flush after the owner of a small file was lost', () => {
  test('fails, once, where what was acknowledged was in its memory', async () => {
    const { world, a, b, atB } = await forwarded('file');
    await using _ = world;
    await write(atB, 2);
    let back = await restarted.killed({ world, a });
    await assertLost(atB);
    // Its change and its number are given away again.
    await write(atB, 3);
    for (let tenure = 0; tenure < 3; tenure += 1) {
      back = await restarted.killed({ world, a: back });
      const atA = await back.router.open(id);
      for (let count = 0; count < 10; count += 1) await write(atA, 4);
      await atA.flush();
    }
    await assertLost(atB);
    await stop(back, b);
  });

  test('is good where it was committed, by whoever', async () => {
    const { world, a, b, atA, atB } = await forwarded('file');
    await using _ = world;
    await write(atB, 2);
    await atA.flush();
    const back = await restarted.killed({ world, a });
    assert.ok(await has(atB, 2));
    await assertKept(atB);
    await stop(back, b);
  });

  test('is good after it was handed over, twice', async () => {
    const { world, a, b, atB } = await forwarded('file');
    await using _ = world;
    const c = await world.host('c');
    await write(atB, 2);
    await c.router.fetch(id);
    await a.router.fetch(id);
    assert.ok(await has(atB, 2));
    await assertKept(atB);
    await stop(a, b, c);
  });

  test('fails where another host has taken it', async () => {
    const { world, a, b, atB } = await forwarded('file', 1000);
    await using _ = world;
    const c = await world.host('c');
    await write(atB, 2);
    await a.kill();
    await c.router.open(id);
    await assertLost(atB);
    await stop(b, c);
  });

  for (const outcome of ['is good', 'fails'] as const)
    test(`${outcome} where the file has become a volume since`, async () => {
      const { world, a, b, atB } = await forwarded('file');
      await using _ = world;
      await write(atB, 2);
      const back = outcome === 'fails' ? await restarted.killed({ world, a }) : a;
      await atB.write(limits.promoteBytes, block(3));
      assert.equal(atB.kind(), 'volume');
      if (outcome === 'fails') await assertLost(atB);
      const again = await restarted.killed({ world, a: back });
      await assertKept(atB);
      await stop(again, b);
    });
});

describe('an append that the owner has acknowledged', () => {
  for (const how of ['at once', 'though its answer was lost'] as const)
    test(`${how} is missed by a flush when it is lost`, async () => {
      const { world, a, b, atB } = await forwarded('file');
      await using _ = world;
      let losses = how === 'at once' ? 0 : 1;
      world.network.losesAnswer = (kind) => kind === peerKind.append && losses-- > 0;
      await atB.append(block(9));
      assert.equal(atB.size(), (blocks + 1) * blockBytes);
      const back = await restarted.killed({ world, a });
      await assertLost(atB);
      await stop(back, b);
    });
});

describe('an object that nobody uses at a host any more', () => {
  test('is flushed there before it is closed, and stays as long as its owner is away', async () => {
    const { world, a, b, atB } = await forwarded();
    await using _ = world;
    await write(atB, 2);
    const flushes = () => world.network.counts.get(peerKind.flush) ?? 0;
    assert.equal(flushes(), 0);
    b.router.release(id);
    const useOthers = async (from: number) => {
      for (let number = from; number < from + 10; number += 1) {
        const other = objectId(number.toString(16).padStart(32, '0'));
        await b.router.create(other, 'file');
        await b.router.open(other);
        b.router.release(other);
      }
    };
    await a.kill();
    await useOthers(0);
    assert.equal(b.router.opened(id), atB);
    const back = await world.host('a');
    await until(() => flushes() === 1);
    await until(() => atB.isFlushed);
    await useOthers(20);
    await until(() => b.router.opened(id) === undefined);
    await stop(back, b);
  });
});
