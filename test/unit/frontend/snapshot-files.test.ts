/** What folders show of snapshots: whole or not at all, the same on every host, and never changed. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Ino, ObjectId } from '../../../src/core/units.ts';
import { objectId } from '../../../src/core/units.ts';
import { rootIno } from '../../../src/ports/file-system.ts';
import { prefixRange } from '../../../src/ports/registry.ts';
import type { SnapshotHost } from '../../support/snapshot-world.ts';
import { SnapshotWorld } from '../../support/snapshot-world.ts';

const owner = { uid: 0, gid: 0 };

async function pair() {
  const world = new SnapshotWorld();
  const [a, b] = [await world.host('a'), await world.host('b')] as const;
  const { ino: vm } = await a.fs.make(rootIno, 'vm', { type: 'directory', mode: 0o755 }, owner);
  const disk = await world.disk(a, vm, 'disk.raw', 'then');
  const object = (await a.fs.objectOf(disk)) as ObjectId;
  const dispose = async () => void (await Promise.all([a.fs.close(), b.fs.close()]));
  return { world, a, b, vm, disk, object, [Symbol.asyncDispose]: dispose };
}

async function namesIn({ fs }: SnapshotHost, ino: Ino, limit = 1000): Promise<string[]> {
  const names: string[] = [];
  for (let after = 0n; ; ) {
    const entries = await fs.list(ino, after, limit);
    names.push(...entries.map(({ name }) => name));
    const last = entries.at(-1);
    if (!last || entries.length < limit) return names.sort();
    after = last.cookie;
  }
}

describe('a snapshot in a folder', () => {
  test('is the disk of then, read-only, the same on every host and for every look', async () => {
    await using made = await pair();
    const { world, a, b, vm, disk } = made;
    await assert.rejects(a.fs.lookup(vm, '.snapshots'), { code: 'not_found' });
    await world.snapshot(a, vm, disk, 's');
    await a.fs.write(disk, 0, Buffer.from('now!'));
    const path = ['.snapshots', 's', 'disk.raw'] as const;
    const atA = await a.fs.attributes(await world.inoOf(a, vm, ...path));
    const atB = await b.fs.attributes(await world.inoOf(b, vm, ...path));
    assert.deepEqual(atA, atB);
    assert.deepEqual([atA.mode, atA.sizeBytes, atA.isVolume], [0o440, 4, false]);
    assert.deepEqual(
      [await world.text(a, atA.ino), await world.text(b, atA.ino)],
      ['then', 'then'],
    );
    assert.equal(await world.text(a, disk), 'now!');
    const again = await world.host('c');
    assert.equal(await world.inoOf(again, vm, ...path), atA.ino);
    await again.fs.close();
    const above = await a.fs.lookup(await world.inoOf(a, vm, '.snapshots'), '..');
    assert.equal(above.ino, vm);
  });

  test('is in no listing of its folder, whatever the size of the pages', async () => {
    await using made = await pair();
    const { world, a, vm, disk } = made;
    await world.snapshot(a, vm, disk, 's');
    for (let index = 0; index < 10; index += 1)
      await a.fs.make(vm, `f${index}`, { type: 'file', mode: 0o644 }, owner);
    const shown = await namesIn(a, vm);
    assert.equal(shown.length, 13);
    assert.ok(!shown.includes('.snapshots'));
    for (const limit of [1, 2, 3, 5, 12, 13, 14])
      assert.deepEqual(await namesIn(a, vm, limit), shown, `pages of ${limit}`);
    const list = await world.inoOf(a, vm, '.snapshots');
    assert.deepEqual(await namesIn(a, list), ['.', '..', 's']);
  });

  test('is changed by nobody', async () => {
    await using made = await pair();
    const { world, a, vm, disk } = made;
    await world.snapshot(a, vm, disk, 's');
    const list = await world.inoOf(a, vm, '.snapshots');
    const set = await world.inoOf(a, list, 's');
    const file = await world.inoOf(a, set, 'disk.raw');
    const { fs } = a;
    const readOnly: (() => unknown)[] = [
      () => fs.open(file, 'write'),
      () => fs.write(file, 0, Buffer.from('x')),
      () => fs.change(file, { sizeBytes: 0 }),
      () => fs.change(file, { mode: 0o777 }),
      () => fs.change(set, { uid: 7 }),
      () => fs.allocate(file, 0, 10, { mode: 'punch', keepSize: true }),
      () => fs.setAttribute(file, 'user.x', Buffer.from('1'), 'set'),
      () => fs.removeAttribute(file, 'user.x'),
      () => fs.unlink(set, 'disk.raw'),
      () => fs.removeDirectory(list, 's'),
      () => fs.make(list, 't', { type: 'directory', mode: 0o755 }, owner),
      () => fs.make(set, 'x', { type: 'file', mode: 0o644 }, owner),
      () => fs.link(disk, set, 'x'),
      () => fs.rename({ parent: set, name: 'disk.raw' }, { parent: vm, name: 'x' }, 'replace'),
      () => fs.rename({ parent: vm, name: 'disk.raw' }, { parent: set, name: 'x' }, 'replace'),
    ];
    for (const change of readOnly)
      await assert.rejects(async () => change(), { code: 'read_only' }, String(change));
    const name = '.snapshots';
    const refused: (() => unknown)[] = [
      () => fs.link(file, vm, 'x'),
      () => fs.make(vm, name, { type: 'directory', mode: 0o755 }, owner),
      () => fs.make(rootIno, name, { type: 'directory', mode: 0o755 }, owner),
      () => fs.removeDirectory(vm, name),
      () => fs.unlink(vm, name),
      () => fs.rename({ parent: vm, name }, { parent: vm, name: 'x' }, 'replace'),
      () => fs.rename({ parent: vm, name: 'disk.raw' }, { parent: vm, name }, 'exchange'),
    ];
    for (const change of refused)
      await assert.rejects(async () => change(), { code: 'not_permitted' }, String(change));
    assert.equal(await world.text(a, file), 'then');
  });

  test('keeps its folder, and goes without a trace with its last file', async () => {
    await using made = await pair();
    const { world, a, b, vm, disk, object } = made;
    const other = await world.disk(a, vm, 'other.raw', 'other');
    const otherObject = (await a.fs.objectOf(other)) as ObjectId;
    const before = (await world.registry.range(prefixRange(''))).entries.length;
    await world.snapshot(a, vm, disk, 's');
    await world.snapshot(b, vm, other, 's', 'other.raw');
    await world.snapshot(a, vm, disk, 't');
    await a.fs.rename({ parent: vm, name: 'disk.raw' }, { parent: rootIno, name: 'd' }, 'replace');
    await assert.rejects(a.fs.removeDirectory(rootIno, 'vm'), { code: 'not_empty' });
    const list = await world.inoOf(b, vm, '.snapshots');
    assert.deepEqual(await namesIn(b, await world.inoOf(b, list, 's')), [
      ...['.', '..', 'disk.raw', 'other.raw'],
    ]);
    await world.delete(a, object, 's');
    assert.deepEqual(await namesIn(a, list), ['.', '..', 's', 't']);
    await world.delete(a, otherObject, 's');
    assert.deepEqual(await namesIn(a, list), ['.', '..', 't']);
    await world.delete(b, object, 't');
    await assert.rejects(a.fs.lookup(vm, '.snapshots'), { code: 'not_found' });
    // Marks of both volumes stay.
    const { entries } = await world.registry.range(prefixRange(''));
    assert.equal(entries.length, before + 2);
  });

  test('goes as a whole however many go at once', async () => {
    await using made = await pair();
    const { world, a, b, vm } = made;
    const objects: ObjectId[] = [];
    for (let index = 0; index < 6; index += 1) {
      const ino = await world.disk(a, vm, `d${index}.raw`, 'x');
      await world.snapshot(a, vm, ino, 's', `d${index}.raw`);
      objects.push((await a.fs.objectOf(ino)) as ObjectId);
    }
    const gone = objects.map((id, index) => world.delete(index % 2 === 0 ? a : b, id, 's'));
    assert.deepEqual(await Promise.all(gone), [true, true, true, true, true, true]);
    await assert.rejects(a.fs.lookup(vm, '.snapshots'), { code: 'not_found' });
  });

  test('is one of a thousand', async () => {
    await using made = await pair();
    const { world, a, b, vm, disk, object } = made;
    for (let index = 0; index < 1000; index += 1) await world.snapshot(a, vm, disk, `s${index}`);
    const list = await world.inoOf(b, vm, '.snapshots');
    assert.equal((await namesIn(b, list, 100)).length, 1002);
    await world.delete(b, object, 's500');
    assert.equal((await namesIn(a, list)).length, 1001);
    await assert.rejects(a.fs.lookup(list, 's500'), { code: 'not_found' });
  });
});

describe('making a snapshot', () => {
  test('is refused where the folder shows another file of that name', async () => {
    await using made = await pair();
    const { world, a, vm, disk } = made;
    const other = await world.disk(a, rootIno, 'other.raw', 'other');
    await world.snapshot(a, vm, disk, 's');
    await assert.rejects(world.snapshot(a, vm, other, 's'), { code: 'exists' });
    const object = (await a.fs.objectOf(other)) as ObjectId;
    assert.equal(await world.snapshots.find(object, 's'), undefined);
  });

  test('leaves nothing where it fails, and what is the name of another stays', async () => {
    await using made = await pair();
    const { world, a, vm, disk, object } = made;
    const failing = (createdNs: bigint) =>
      a.maker.make(vm, 's', { createdNs, volumes: [object], files: [] }, async () => {
        await world.keep(a, disk, 's', 7n);
        throw new Error('the other volume failed');
      });
    await assert.rejects(failing(8n), /the other volume failed/);
    assert.equal((await world.snapshots.get(object, 's')).createdNs, 7n);
    await assert.rejects(failing(7n), /the other volume failed/);
    assert.equal(await world.snapshots.find(object, 's'), undefined);
    await assert.rejects(a.fs.lookup(vm, '.snapshots'), { code: 'not_found' });
    await world.snapshot(a, vm, disk, 's');
  });

  test('leaves no copies of files where it fails', async () => {
    await using made = await pair();
    const { world, a, vm } = made;
    const copy = objectId('c'.repeat(32));
    const what = { createdNs: 1n, volumes: [], files: [copy] };
    const making = a.maker.make(vm, 's', what, async () => {
      await world.objects.create(copy, 'file');
      throw new Error('the disk failed');
    });
    await assert.rejects(making, /the disk failed/);
    assert.equal(world.objects.ids().has(copy), false);
  });

  test('shows nothing of a volume whose snapshot was deleted meanwhile', async () => {
    await using made = await pair();
    const { world, a, vm, disk, object } = made;
    const what = { createdNs: 1n, volumes: [object], files: [] };
    const making = a.maker.make(vm, 's', what, async () => {
      const members = await world.keep(a, disk, 's', 1n);
      await world.delete(a, object, 's');
      return members;
    });
    await assert.rejects(making, { code: 'not_found' });
    await assert.rejects(a.fs.lookup(vm, '.snapshots'), { code: 'not_found' });
  });

  test('happens once at a time for one name in one folder', async () => {
    await using made = await pair();
    const { world, a, b, vm, disk, object } = made;
    const what = { createdNs: 1n, volumes: [object], files: [] };
    await a.maker.make(vm, 's', what, async () => {
      await assert.rejects(world.snapshot(b, vm, disk, 's'), { code: 'busy' });
      return world.keep(a, disk, 's', 1n);
    });
    assert.deepEqual(await namesIn(b, await world.inoOf(b, vm, '.snapshots')), ['.', '..', 's']);
  });

  test('that a crash broke off is undone when the host starts, and by no other', async () => {
    await using made = await pair();
    const { world, a, vm, disk, object } = made;
    const begun = await a.tree.begin(vm, 's', { createdNs: 1n, volumes: [object], files: [] });
    await world.keep(a, disk, 's', 1n);
    const keysOf = async (prefix: string) =>
      (await world.registry.range(prefixRange(prefix))).entries.length;
    const b = await world.host('b');
    await b.maker.resume();
    assert.equal(await keysOf('q'), 1);
    const again = await world.host('a');
    await again.maker.resume();
    while ((await keysOf('q')) > 0) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(await world.snapshots.find(object, 's'), undefined);
    await assert.rejects(a.tree.show(begun, []), { code: 'not_found' });
    await Promise.all([again.fs.close(), b.fs.close()]);
  });
});

describe('reading snapshots', () => {
  test('shares what is open, bounds it, and lets it go when nobody reads', async () => {
    await using made = await pair();
    const { world, a, vm, disk } = made;
    const inos: Ino[] = [];
    for (let index = 0; index < 40; index += 1) {
      await world.snapshot(a, vm, disk, `s${index}`);
      inos.push(await world.inoOf(a, vm, '.snapshots', `s${index}`, 'disk.raw'));
    }
    const [first] = inos as [Ino];
    await Promise.all(Array.from({ length: 10 }, () => world.text(a, first)));
    assert.deepEqual(world.views, { open: 1, opened: 1 });
    for (const ino of inos) await a.fs.open(ino);
    for (const ino of inos) assert.equal(await world.text(a, ino), 'then');
    assert.deepEqual(world.views, { open: 16, opened: 40 });
    assert.equal(await world.text(a, first), 'then');
    assert.deepEqual(world.views, { open: 16, opened: 41 });
    await world.clock.advance(30_000);
    assert.equal(world.views.open, 0);
    assert.equal(await world.text(a, first), 'then');
    for (const ino of inos) await a.fs.release(ino);
  });

  test('is an error once the snapshot is gone', async () => {
    await using made = await pair();
    const { world, a, vm, disk, object } = made;
    await world.snapshot(a, vm, disk, 's');
    const ino = await world.inoOf(a, vm, '.snapshots', 's', 'disk.raw');
    await a.fs.open(ino);
    assert.equal(await a.fs.isRead(object, 's'), true);
    assert.equal(await a.fs.isRead(object, 't'), false);
    assert.equal(await world.text(a, ino), 'then');
    await world.delete(a, object, 's');
    await assert.rejects(world.text(a, ino), { code: 'failed' });
    await world.clock.advance(30_000);
    await assert.rejects(world.text(a, ino), { code: 'failed' });
    await a.fs.release(ino);
    await assert.rejects(a.fs.open(ino), { code: 'not_found' });
    assert.equal(await a.fs.isRead(object, 's'), false);
  });
});
