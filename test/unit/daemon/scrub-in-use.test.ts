/** A scrub meets what others have begun: snapshots of VMs, files. It is neither damage nor waste. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KiB } from '../../../src/core/units.ts';
import type { Clock } from '../../../src/ports/clock.ts';
import { rootIno } from '../../../src/ports/file-system.ts';
import { prefixRange } from '../../../src/ports/registry.ts';
import type { ClusterFront } from '../../support/cluster-front.ts';
import { ScrubWorld } from '../../support/scrub-world.ts';

const caller = { uid: 0, gid: 0 };
const bytes = 8 * KiB;

/** A VM's folder with a disk in it, and a folder with a file. */
async function begin(...hosts: readonly string[]): Promise<ScrubWorld> {
  const world = await ScrubWorld.open(...hosts);
  const { host } = world;
  const { fileSystem } = host;
  const folder = { type: 'directory', mode: 0o700 } as const;
  const { ino: vm } = await fileSystem.make(rootIno, 'vm', folder, caller);
  const { ino: inside } = await fileSystem.make(vm, 'inside', folder, caller);
  for (const [parent, name] of [
    [vm, 'd.raw'],
    [inside, 'note'],
  ] as const)
    await fileSystem.make(parent, name, { type: 'file', mode: 0o600 }, caller);
  await host.write('/vm/d.raw', 0, new Uint8Array(bytes).fill(1));
  await host.write('/vm/inside/note', 0, new Uint8Array(bytes).fill(2));
  await host.sync('/vm/d.raw');
  await host.sync('/vm/inside/note');
  return world;
}

async function assertKept(host: ClusterFront): Promise<void> {
  const { fileSystem } = host;
  for (const [path, value] of [
    ['/vm/.snapshots/s/d.raw', 1],
    ['/vm/.snapshots/s/inside/note', 2],
  ] as const) {
    const ino = await host.inoOf(path);
    const found = new Uint8Array(bytes);
    await fileSystem.open(ino);
    assert.equal(await fileSystem.read(ino, 0, found), bytes);
    await fileSystem.release(ino);
    assert.ok(found.every((byte) => byte === value));
  }
}

/** Holds transactions of the host that end what it has undertaken; resolves when there is one. */
function holdEnd({ host: { registry } }: ClusterFront) {
  const transact = registry.transact.bind(registry);
  const [held, reached] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  registry.transact = async (transaction, options) => {
    if (transaction.writes.some((write) => 'delete' in write && write.key.startsWith('q'))) {
      reached.resolve();
      await held.promise;
    }
    return transact(transaction, options);
  };
  return { letGo: held.resolve, reached: reached.promise };
}

describe('a scrub', () => {
  test('leaves a snapshot of a VM as it is', async () => {
    await using world = await begin();
    await world.host.vms.create('/vm', 's');
    assert.deepEqual(await world.found('repair'), []);
    await assertKept(world.host);
    await world.host.vms.delete('/vm', 's');
    assert.deepEqual(await world.found('repair'), []);
    assert.equal(world.pieces.size, 1);
  });

  test('takes nothing away from one that is being made, however long files are copied', async () => {
    await using world = await begin();
    const { faults } = world.world;
    const [held, reached] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    faults.delay = async (operation, key) => {
      if (operation !== 'put' || !key.startsWith('file/')) return;
      reached.resolve();
      await held.promise;
    };
    const made = world.host.vms.create('/vm', 's');
    await reached.promise;
    assert.deepEqual(await world.found('repair'), []);
    held.resolve();
    await made;
    await assertKept(world.host);
  });

  test('sees no names that lead nowhere in a tree that has no name so far', async () => {
    await using world = await begin();
    const end = holdEnd(world.host);
    const made = world.host.vms.create('/vm', 's');
    await end.reached;
    assert.deepEqual(await world.found('repair'), []);
    end.letGo();
    await made;
    await assertKept(world.host);
    assert.deepEqual(await world.found(), []);
  });

  test('sees nothing wrong in one that nobody goes on with, until its host undoes it', async () => {
    await using world = await begin('a', 'b');
    const [a, b] = world.hosts as [ClusterFront, ClusterFront];
    const end = holdEnd(a);
    a.vms.create('/vm', 's').catch(() => {});
    await end.reached;
    await a.kill();
    assert.deepEqual(await world.found('repair', world.scrubber(b)), []);
    await world.restart(0);
    const { registry } = b.host;
    while ((await registry.range(prefixRange('q'))).entries.length > 0)
      await world.world.clock.sleep(1);
    assert.deepEqual(await world.found(), []);
    await assert.rejects(b.inoOf('/vm/.snapshots'), { code: 'not_found' });
    assert.equal(world.pieces.size, 1);
    end.letGo();
  });

  test('gives the owner of a file its time to take away what was replaced', async () => {
    await using world = await begin();
    const path = '/vm/inside/note';
    const replaced = `file/${await world.host.idOf(path)}/1-77-0`;
    await world.restart(0);
    await world.host.write(path, 0, new Uint8Array(10));
    await world.host.sync(path);
    const keptMs = 60_000;
    let isAway = true;
    const clock: Clock = {
      ...world.world.clock,
      sleep: async (ms) => {
        if (ms >= keptMs && isAway) world.pieces.delete(replaced);
      },
    };
    const scrub = async () => {
      world.pieces.set(replaced, new Uint8Array(10));
      const scrubber = world.scrubber(undefined, undefined, 5, { clock, keptMs });
      const { state, findings } = await world.scrub('look', scrubber);
      assert.equal(state, 'done');
      return findings.map(({ what }) => what);
    };
    assert.deepEqual(await scrub(), []);
    isAway = false;
    assert.deepEqual(await scrub(), [`1 pieces that no file names: ${replaced}`]);
  });
});
