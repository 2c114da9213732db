import assert from 'node:assert/strict';
import { test } from 'node:test';
import { objectId } from '../../../src/core/units.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const id = objectId('3'.repeat(32));

test('a host knows whether others use an object; who does not say, does', async () => {
  const world = new ClusterWorld();
  const [a, b, c] = [await world.host('a'), await world.host('b'), await world.host('c')];
  await a.router.create(id, 'file');
  await a.router.open(id);
  assert.equal(await a.router.isUsedElsewhere(id), false);
  assert.equal(await b.router.isUsedElsewhere(id), true);
  await b.router.open(id);
  assert.equal(await a.router.isUsedElsewhere(id), true);
  b.router.release(id);
  assert.equal(await a.router.isUsedElsewhere(id), false);
  world.network.cut(a.id, c.id);
  assert.equal(await a.router.isUsedElsewhere(id), true);
  await c.stop();
  assert.equal(await a.router.isUsedElsewhere(id), false);
  await Promise.all([a.stop(), b.stop()]);
});

test('who waits until an object is open uses it', async () => {
  const world = new ClusterWorld();
  const [a, b, c] = [await world.host('a'), await world.host('b'), await world.host('c')];
  await a.router.create(id, 'file');
  await a.router.open(id);
  a.router.release(id);
  assert.equal(await c.router.isUsedElsewhere(id), false);
  world.network.cut(b.id, a.id);
  const opening = [b.router.open(id), b.router.open(id)];
  assert.equal(await c.router.isUsedElsewhere(id), true);
  world.network.mend();
  await Promise.all(opening);
  b.router.release(id);
  assert.equal(await c.router.isUsedElsewhere(id), true);
  b.router.release(id);
  assert.equal(await c.router.isUsedElsewhere(id), false);
  await Promise.all([a.stop(), b.stop(), c.stop()]);
});
