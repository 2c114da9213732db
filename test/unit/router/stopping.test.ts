/** Objects of a host that stops in good order, while another one uses them. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hostId, objectId } from '../../../src/core/units.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const id = objectId('5'.repeat(32));
const blockBytes = 4096;
const block = (value: number) => new Uint8Array(blockBytes).fill(value);
const soon = (ms = 1) => new Promise((resolve) => setTimeout(resolve, ms));

test('a host stops in good order although a tenure of its own has ended', async () => {
  await using world = new ClusterWorld();
  const a = await world.host('a');
  await a.router.create(id, 'file');
  await (await a.router.open(id)).write(0, block(1));
  await world.records.claim(id, hostId('a'));
  await a.router.close();
  await a.stop();
});

for (const kind of ['volume', 'file'] as const)
  describe(`a ${kind} whose owner stops`, () => {
    test('is let go of once, and goes on with its user, who sees no error', async () => {
      await using world = new ClusterWorld();
      const [a, b] = [await world.host('a'), await world.host('b')];
      await a.router.create(id, kind);
      await (await a.router.open(id)).write(0, block(1));
      const atB = await b.router.open(id);
      await atB.write(blockBytes, block(2));
      await a.router.close();
      const { epoch } = await world.records.get(id);
      // The host still answers its peers, until it has left them.
      const write = atB.write(2 * blockBytes, block(3));
      const used = Promise.resolve(write).then(() => atB.flush());
      await soon(50);
      const record = await world.records.get(id);
      assert.deepEqual([record.owner, record.epoch], ['a', epoch], 'a tenure begins no more');
      await a.stop();
      await used;
      const into = block(0);
      for (const [index, value] of [1, 2, 3].entries()) {
        await atB.read(index * blockBytes, into);
        assert.deepEqual(into, block(value));
      }
      assert.equal((await world.records.get(id)).owner, 'b');
      await b.stop();
    });
  });
