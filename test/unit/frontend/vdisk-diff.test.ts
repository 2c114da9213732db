/** Differences as the admin API tells them, of snapshots and of a volume as it is now. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StorageError } from '../../../src/core/errors.ts';
import { objectId } from '../../../src/core/units.ts';
import type { DiffLine } from '../../../src/frontend/admin/vdisk-diff.ts';
import { VdiskDiff } from '../../../src/frontend/admin/vdisk-diff.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import { systemRandom } from '../../../src/platform/random.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import type { Attributes } from '../../../src/ports/file-system.ts';
import { MemoryRegistry } from '../../../src/registry/memory-registry.ts';
import { MemoryStore } from '../../../src/registry/memory-store.ts';
import { nameOfMoment, SnapshotRecords } from '../../../src/registry/snapshot-records.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const id = objectId('7'.repeat(32));
const blockBytes = 4096;
const filled = (value: number) => new Uint8Array(blockBytes).fill(value);

/** A volume that host a serves, and differences that are asked for at host b. */
async function made() {
  const world = new ClusterWorld({ leaseMs: 60_000 });
  const [a, b] = [await world.host('a'), await world.host('b')] as const;
  await a.router.create(id, 'volume');
  const object = await a.router.open(id);
  await object.write(0, filled(1));
  await b.care.ask(id, { do: 'snapshot', name: 's', createdNs: '1' });
  await object.write(blockBytes, filled(2));
  const { snapshots, care, volumes } = b;
  const collected: string[] = [];
  /** Whether pages of maps can be read. */
  const broken = { is: false };
  const { clock } = world;
  const diff = new VdiskDiff({
    ...{ snapshots, care, clock, random: systemRandom(), checksum: tableChecksum() },
    changes: { find: () => Promise.resolve({} as Attributes) },
    objectOf: () => Promise.resolve(id),
    view: async (volume, record) => {
      const view = await volumes.view(volume, record);
      const damage = new StorageError('corrupt', 'not a page of the block map');
      if (broken.is) view.map.tree.loadPage = () => Promise.reject(damage);
      return view;
    },
    collect: (volume) => collected.push(volume),
  });
  const names = async () =>
    (await Array.fromAsync(snapshots.list(id))).map(({ name }) => name.slice(0, 8));
  const stop = async () => void (await Promise.all([a.stop(), b.stop()]));
  return { diff, object, snapshots, care, names, collected, broken, [Symbol.asyncDispose]: stop };
}

const flat = async (lines: AsyncGenerator<readonly DiffLine[]>) =>
  (await Array.fromAsync(lines)).flat();

describe('differences', () => {
  test('to what is now are those of one moment, which leaves nothing', async () => {
    await using world = await made();
    const { diff, object, names, collected } = world;
    const lines = diff.lines('/d', 's', undefined);
    const begun = await lines.next();
    assert.deepEqual(await names(), ['.moment-', 's']);
    await object.write(2 * blockBytes, filled(3));
    const [first, ...rest] = [...(begun.value as DiffLine[]), ...(await flat(lines))];
    assert.ok(first && 'volume' in first && first.volume === id);
    assert.deepEqual(
      [first.from.name, first.from.sizeBytes, first.to.name, first.to.sizeBytes],
      ['s', blockBytes, undefined, 2 * blockBytes],
    );
    const found = rest.flatMap((line) => ('what' in line ? [[line.offset, line.what]] : []));
    assert.deepEqual(found, [[blockBytes, 'data']]);
    assert.deepEqual(rest.at(-1), { isDone: true });
    assert.deepEqual([await names(), collected], [['s'], [id]]);
  });

  test('that nobody waits for any more leave nothing either', async () => {
    await using world = await made();
    const { diff, names } = world;
    const lines = diff.lines('/d', 's', undefined);
    await lines.next();
    await lines.return(undefined);
    assert.deepEqual(await names(), ['s']);
  });

  test('are refused for snapshots that are not there, and for those that are not shown', async () => {
    await using world = await made();
    const { diff, names } = world;
    await assert.rejects(flat(diff.lines('/d', 'x', 's')), { code: 'not_found' });
    await assert.rejects(flat(diff.lines('/d', 's', 'x')), { code: 'not_found' });
    await assert.rejects(flat(diff.lines('/d', 'x', undefined)), { code: 'not_found' });
    await assert.rejects(flat(diff.lines('/d', '.clone-1', 's')), { code: 'invalid' });
    assert.deepEqual(await names(), ['s']);
  });

  test('remove the moment of somebody who died before he held it, a day later', async () => {
    await using world = await made();
    const { diff, care, names } = world;
    const name = nameOfMoment('0');
    await care.ask(id, { do: 'snapshot', name, createdNs: '1' });
    await flat(diff.lines('/d', 's', undefined));
    assert.deepEqual(await names(), ['s']);
  });

  test('of a moment that was lost are not said to be damaged', async () => {
    await using world = await made();
    const { diff, object, snapshots, broken } = world;
    await object.sync();
    const hold = snapshots.hold.bind(snapshots);
    let release = () => Promise.resolve();
    snapshots.hold = async (...which) => {
      const held = await hold(...which);
      release = () => held.lease.release();
      return held;
    };
    broken.is = true;
    const lines = diff.lines('/d', 's', undefined);
    await lines.next();
    await release();
    await assert.rejects(lines.next(), { code: 'unavailable' });
    await assert.rejects(flat(diff.lines('/d', 's', undefined)), { code: 'corrupt' });
  });

  test('do not keep a volume from being removed', async () => {
    await using world = await made();
    const { diff, snapshots } = world;
    const lines = diff.lines('/d', 's', undefined);
    await lines.next();
    await snapshots.delete(id, 's');
    assert.ok(await snapshots.none(id));
    await lines.return(undefined);
  });
});

test('a snapshot that is held goes with the process that holds it', async () => {
  const clock = new SimulatedClock();
  const store = new MemoryStore(clock);
  const [registry, other] = [new MemoryRegistry(clock, store), new MemoryRegistry(clock, store)];
  const [here, there] = [new SnapshotRecords(registry), new SnapshotRecords(other)];
  const at = { epoch: 1, sequence: 1 };
  const record = { name: 'm', createdNs: 1n, at, usedBytes: 0, head: new Uint8Array(4) };
  await registry.transact({ compares: [], writes: here.writes(id, record) });
  const { lease } = await here.hold(id, 'm');
  await clock.advance(120_000);
  assert.ok(await there.find(id, 'm'));
  // Nobody renews it from here on.
  await registry.close();
  await clock.advance(120_000);
  assert.equal(await there.find(id, 'm'), undefined);
  assert.ok(lease.signal.aborted);
  await assert.rejects(there.hold(id, 'm'), { code: 'not_found' });
  await other.close();
});
