/** What lists of snapshots say, and what they cost. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ScrubWorld } from '../../support/scrub-world.ts';

test('a list of snapshots says how many clones each has, and asks for them once', async () => {
  await using world = await ScrubWorld.open();
  const { host } = world;
  await host.write('/d.raw', 0, new Uint8Array(4096).fill(1));
  for (const name of ['none', 'one', 'two']) await host.snapshots.create('/d.raw', name);
  await host.snapshots.clone('/d.raw', 'one', '/1.raw');
  await host.snapshots.clone('/d.raw', 'two', '/2.raw');
  await host.snapshots.clone('/d.raw', 'two', '/3.raw');
  const { registry } = host.host;
  const range = registry.range.bind(registry);
  let asked = 0;
  registry.range = (what, options) => {
    if (what.from.startsWith('c')) asked += 1;
    return range(what, options);
  };
  const reports = await host.snapshots.list('/d.raw');
  assert.deepEqual(
    reports.map(({ name, clones }) => [name, clones]),
    [
      ['none', 0],
      ['one', 1],
      ['two', 2],
    ],
  );
  assert.equal(asked, 1);
  assert.equal((await host.snapshots.show('/d.raw', 'two')).clones, 2);
});

test("no clone is made of a snapshot whose name is another one's by then", async () => {
  await using world = await ScrubWorld.open();
  const { host } = world;
  await host.write('/d.raw', 0, new Uint8Array(4096).fill(1));
  await host.snapshots.create('/d.raw', 's');
  const { volumes } = host.host;
  const prepare = volumes.prepare.bind(volumes);
  volumes.prepare = async (id, head) => {
    await prepare(id, head);
    await host.snapshots.delete('/d.raw', 's');
    await host.write('/d.raw', 0, new Uint8Array(4096).fill(2));
    await host.snapshots.create('/d.raw', 's');
  };
  await assert.rejects(host.snapshots.clone('/d.raw', 's', '/c.raw'), { code: 'not_found' });
  volumes.prepare = prepare;
  assert.equal((await host.snapshots.show('/d.raw', 's')).clones, 0);
  await host.snapshots.clone('/d.raw', 's', '/c.raw');
});
