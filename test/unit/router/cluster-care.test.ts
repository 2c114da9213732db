/** What an administrator asks for at one host is done where the volume is served. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { objectId } from '../../../src/core/units.ts';
import { decodeCareRequest, encodeCare } from '../../../src/format/care-message.ts';
import type { DataObject } from '../../../src/ports/data-object.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const id = objectId('7'.repeat(32));
const blockBytes = 4096;
const filled = (value: number) => new Uint8Array(blockBytes).fill(value);

async function pair() {
  const world = new ClusterWorld({ leaseMs: 60_000 });
  const [a, b] = [await world.host('a'), await world.host('b')] as const;
  await a.router.create(id, 'volume');
  const atA = await a.router.open(id);
  const atB = await b.router.open(id);
  const stop = async () => void (await Promise.all([a.stop(), b.stop()]));
  return { world, a, b, atA, atB, [Symbol.asyncDispose]: stop };
}

async function valueAt(object: DataObject, block: number): Promise<number> {
  const found = new Uint8Array(blockBytes);
  assert.equal(await object.read(block * blockBytes, found), blockBytes);
  assert.ok(found.every((byte) => byte === found[0]));
  return found[0] as number;
}

describe('care of a volume', () => {
  test('is taken by its owner, whoever is asked', async () => {
    await using made = await pair();
    const { a, b, atA, atB } = made;
    await atA.write(0, filled(1));
    await b.care.ask(id, { do: 'snapshot', name: 's', createdNs: '1' });
    await atB.write(0, filled(2));
    assert.equal(a.volumes.opened(id) !== undefined && b.volumes.opened(id) === undefined, true);
    const view = await b.volumes.view(id, await b.snapshots.get(id, 's'));
    const found = new Uint8Array(blockBytes);
    await view.read(0, found);
    assert.deepEqual(found, filled(1));
    await view.close();
    const { space } = await b.care.ask(id, { do: 'space' });
    assert.ok(space && space.uniqueBytes > 0 && space.sharedBytes === 0);
    await assert.rejects(b.care.ask(id, { do: 'snapshot', name: 's', createdNs: '2' }), {
      code: 'exists',
    });
  });

  test('rolls a volume back under those who have it open, at both hosts', async () => {
    await using made = await pair();
    const { b, atA, atB } = made;
    await atA.write(0, filled(1));
    await b.care.ask(id, { do: 'snapshot', name: 's', createdNs: '1' });
    await atB.write(0, filled(2));
    const request = { do: 'rollBack', name: 's', before: 'was', createdNs: '5' } as const;
    await b.care.ask(id, request);
    assert.deepEqual([await valueAt(atA, 0), await valueAt(atB, 0)], [1, 1]);
    await atB.write(blockBytes, filled(3));
    // Its answer was lost, and it is asked for again: what came after stays.
    await b.care.ask(id, request);
    assert.equal(await valueAt(atA, 1), 3);
    await b.care.ask(id, { do: 'rollBack', name: 'was', before: 'then', createdNs: '6' });
    assert.equal(await valueAt(atB, 0), 2);
    assert.equal(atA.size(), blockBytes);
  });

  test('leaves a volume as it is where there is no such snapshot', async () => {
    await using made = await pair();
    const { b, atA, atB } = made;
    await atA.write(0, filled(1));
    const request = { do: 'rollBack', name: 'none', before: 'was', createdNs: '5' } as const;
    await assert.rejects(b.care.ask(id, request), { code: 'not_found' });
    assert.equal(await b.snapshots.find(id, 'was'), undefined);
    await atB.write(0, filled(2));
    assert.equal(await valueAt(atA, 0), 2);
  });

  test('keeps every acknowledged write of a writer that goes on through a rollback', async () => {
    await using made = await pair();
    const { b, atA, atB } = made;
    await atA.write(0, filled(1));
    await b.care.ask(id, { do: 'snapshot', name: 's', createdNs: '1' });
    let isDone = false;
    let acknowledged = 1;
    const writing = (async () => {
      for (let value = 2; !isDone && value < 250; value += 1) {
        await atB.write(0, filled(value));
        acknowledged = value;
      }
    })();
    await b.care.ask(id, { do: 'rollBack', name: 's', before: 'was', createdNs: '5' });
    isDone = true;
    await writing;
    const now = await valueAt(atA, 0);
    const was = await b.volumes.view(id, await b.snapshots.get(id, 'was'));
    const found = new Uint8Array(blockBytes);
    await was.read(0, found);
    await was.close();
    // Each write came before the rollback, and is in what was kept, or after it, and is there.
    assert.ok(now === 1 || now === acknowledged, `${now} after ${acknowledged}`);
    assert.ok(now === acknowledged || found[0] === acknowledged, `${found[0]}, then ${now}`);
  });

  test('goes on where the volume is after a move', async () => {
    await using made = await pair();
    const { a, b, atA } = made;
    await atA.write(0, filled(1));
    const moving = b.router.fetch(id);
    await a.care.ask(id, { do: 'snapshot', name: 's', createdNs: '1' });
    await moving;
    await a.care.ask(id, { do: 'snapshot', name: 't', createdNs: '2' });
    assert.ok(b.volumes.opened(id));
    for (const name of ['s', 't']) assert.ok(await a.snapshots.find(id, name), name);
  });

  test('waits for an owner that is gone until another host has taken the volume', async () => {
    await using world = new ClusterWorld({ leaseMs: 600 });
    const [a, b] = [await world.host('a'), await world.host('b')];
    await a.router.create(id, 'volume');
    const atA = await a.router.open(id);
    await atA.write(0, filled(1));
    await atA.sync();
    await atA.close();
    a.router.release(id);
    await a.kill();
    await b.care.ask(id, { do: 'snapshot', name: 's', createdNs: '1' });
    assert.ok(b.volumes.opened(id));
    await b.stop();
  });

  test('is not taken of a file', async () => {
    await using made = await pair();
    const other = objectId('8'.repeat(32));
    await made.a.router.create(other, 'file');
    await assert.rejects(made.b.care.ask(other, { do: 'space' }), { code: 'invalid' });
  });
});

describe('a request of care', () => {
  test('is refused where it is not well formed', () => {
    const right = { do: 'snapshot', name: 's', createdNs: '1' } as const;
    assert.deepEqual(decodeCareRequest(encodeCare(right)), right);
    const wrong = [
      ...['', '{', '[]', 'null', '{"do":"toString"}', '{"do":1}', '{"do":"snapshot"}'],
      ...['{"do":"snapshot","name":1,"createdNs":"1"}', '{"do":"freeze","createdNs":"x"}'],
    ];
    for (const text of wrong)
      assert.throws(() => decodeCareRequest(Buffer.from(text)), { code: 'invalid' }, text);
  });
});
