import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findPath } from '../../../src/frontend/admin/vdisks.ts';
import { ClusterFront } from '../../support/cluster-front.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

/** The host loses power and starts again, before its lease is over. */
async function restarted(world: ClusterWorld, front: ClusterFront): Promise<ClusterFront> {
  await front.host.cutPower(1);
  void front.fileSystem.close().catch(() => {});
  return ClusterFront.open(world, front.host.id);
}

test('a vDisk that was made has its size after a power cut', async () => {
  await using world = new ClusterWorld({ leaseMs: 60_000 });
  const before = await ClusterFront.open(world, 'a');
  await before.changes.create('/disk.raw', 65_536);
  const front = await restarted(world, before);
  const { ino } = await findPath(front.fileSystem, '/disk.raw');
  assert.equal(await front.fileSystem.read(ino, 0, new Uint8Array(65_536)), 65_536);
  await front.fileSystem.close();
  await front.host.stop();
});

test('a flush after the last user has closed the file is a flush', async () => {
  await using world = new ClusterWorld({ leaseMs: 60_000 });
  const before = await ClusterFront.open(world, 'a');
  await before.changes.create('/disk.raw', 65_536);
  await before.write('/disk.raw', 0, new Uint8Array(65_536).fill(7));
  await before.fileSystem.flush(await before.inoOf('/disk.raw'));
  const front = await restarted(world, before);
  const found = new Uint8Array(65_536);
  await front.fileSystem.read(await front.inoOf('/disk.raw'), 0, found);
  assert.ok(found.every((byte) => byte === 7));
  await front.fileSystem.close();
  await front.host.stop();
});

test('a host that stops tells what was lost with another one, and stops', async () => {
  await using world = new ClusterWorld({ leaseMs: 60_000 });
  const before = await ClusterFront.open(world, 'a');
  await before.changes.create('/disk.raw', 65_536);
  const user = await ClusterFront.open(world, 'b');
  const ino = await user.inoOf('/disk.raw');
  await user.fileSystem.open(ino);
  for (let at = 0; at < 65_536; at += 4096)
    await user.fileSystem.write(ino, at, new Uint8Array(4096).fill(7));
  const front = await restarted(world, before);
  await user.fileSystem.close();
  const told = world.log.lines.map(({ message }) => message);
  assert.ok(told.includes('changes of a file in use could not be flushed'));
  await user.host.stop();
  await front.fileSystem.close();
  await front.host.stop();
});
