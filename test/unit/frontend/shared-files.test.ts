/** Files that another host serves: what is known of them here may be old, and is never passed on. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ObjectId } from '../../../src/core/units.ts';
import { hostId } from '../../../src/core/units.ts';
import { WharfFileSystem } from '../../../src/frontend/filesystem.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import { SimulatedClock } from '../../../src/platform/simulated-clock.ts';
import type { Attributes } from '../../../src/ports/file-system.ts';
import { rootIno } from '../../../src/ports/file-system.ts';
import { prefixRange } from '../../../src/ports/registry.ts';
import type { ObjectHandle, Objects } from '../../../src/ports/objects.ts';
import { CachedRegistry } from '../../../src/registry/cached-registry.ts';
import { MemoryRegistry } from '../../../src/registry/memory-registry.ts';
import { Namespace, namespaceGroups } from '../../../src/registry/namespace.ts';
import { HeldRegistry } from '../../support/held-registry.ts';
import { lineageOf, noKeptFiles } from '../../support/lineage.ts';
import { memoryObjects } from '../../support/memory-objects.ts';
import { quietLog } from '../../support/quiet-log.ts';

const owner = { uid: 0, gid: 0 };
const salt = '00'.repeat(16);
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** The same objects, as a host sees them that does not serve them: sizes are of the last answer. */
function seenFromAfar(objects: Objects, onAsked: () => void): Objects {
  const sizes = new Map<ObjectId, number>();
  const remote = (handle: ObjectHandle): ObjectHandle => {
    const { id } = handle;
    const note = () => void sizes.set(id, handle.size());
    note();
    return {
      id,
      kind: () => handle.kind(),
      isHere: () => false,
      refresh: () => {
        onAsked();
        note();
      },
      size: () => sizes.get(id) as number,
      allocatedBytes: () => sizes.get(id) as number,
      append: async (data) => {
        await handle.append(data);
        note();
      },
      read: (offset, into) => handle.read(offset, into),
      write: async (offset, data) => {
        const change = await handle.write(offset, data);
        note();
        return change;
      },
      trim: (offset, length) => handle.trim(offset, length),
      resize: async (bytes) => {
        const change = await handle.resize(bytes);
        note();
        return change;
      },
      seek: (offset, what) => handle.seek(offset, what),
      flush: () => handle.flush(),
      harden: () => handle.harden(),
      sync: () => handle.sync(),
      close: () => handle.close(),
      abandon: () => handle.abandon(),
    };
  };
  return { ...objects, open: async (id) => remote(await objects.open(id)) };
}

/** Host a serves all objects; b serves none, and hears of changes when `held.news` is open. */
async function pair() {
  const clock = new SimulatedClock();
  const registry = new MemoryRegistry(clock);
  const held = new HeldRegistry(registry);
  const deps = { clock, log: quietLog(), freshUntilMs: () => clock.monotonicMs() + 1000 };
  const cached = new CachedRegistry(held.registry, deps, { ...namespaceGroups, groupsMax: 100 });
  await settle();
  const objects = memoryObjects();
  /** How often b has asked for sizes. */
  const counts = { asked: 0 };
  const open = (name: string, namespace: Namespace, own: Objects) =>
    WharfFileSystem.open(
      {
        lineage: lineageOf(registry),
        kept: noKeptFiles(),
        ...{ namespace, objects: own, clock, random: seededRandom(1), log: quietLog() },
        host: hostId(name),
        space: async () => ({ totalBytes: 1, freeBytes: 1, inodesTotal: 1, inodesFree: 1 }),
      },
      { volumeNames: [], attributeDelayMs: 1_000_000, keptMs: 0 },
      owner,
    );
  const users = { ofB: new Set<ObjectId>() };
  const isUsedElsewhere = async (id: ObjectId) => users.ofB.has(id);
  const a = await open('a', new Namespace(registry, salt), { ...objects, isUsedElsewhere });
  const b = await open(
    'b',
    new Namespace(cached, salt, cached.fresh),
    seenFromAfar(objects, () => (counts.asked += 1)),
  );
  const { ino } = await a.make(rootIno, 'f', { type: 'file', mode: 0o644 }, owner);
  await a.write(ino, 0, Buffer.from('first'));
  const dispose = async () => {
    held.news.open();
    await Promise.all([a.close(), b.close()]);
    await cached.close();
    await registry.close();
  };
  return {
    a,
    b,
    ino,
    held,
    objects,
    counts,
    users,
    clock,
    registry,
    [Symbol.asyncDispose]: dispose,
  };
}

describe('a file that another host serves', () => {
  test('has its size of now when it is opened, also by one more user', async () => {
    await using made = await pair();
    const { a, b, ino } = made;
    assert.equal((await b.open(ino)).sizeBytes, 5);
    await a.open(ino);
    await a.write(ino, 5, Buffer.from(' and more'));
    assert.equal((await b.open(ino)).sizeBytes, 14);
    await a.release(ino);
    await settle();
    assert.equal((await b.attributes(ino)).sizeBytes, 14);
  });

  test('gets no old size from a host that has not changed it', async () => {
    await using made = await pair();
    const { a, b, ino, counts } = made;
    await b.open(ino);
    await a.write(ino, 5, Buffer.from(' and more'));
    await settle();
    assert.equal((await b.attributes(ino)).sizeBytes, 14, 'b has heard of it');
    const { asked } = counts;
    await b.release(ino);
    assert.equal(counts.asked, asked, 'nor does it wait for the owner');
    assert.equal((await a.attributes(ino)).sizeBytes, 14);
  });

  test('gets the size of now from a host that has changed it before others did', async () => {
    await using made = await pair();
    const { a, b, ino } = made;
    await b.open(ino);
    await b.write(ino, 0, Buffer.from('F'));
    await a.write(ino, 5, Buffer.from(' and more'));
    await b.release(ino);
    assert.equal((await a.attributes(ino)).sizeBytes, 14);
  });

  test('keeps its size when a host that has changed it before others did changes its mode', async () => {
    await using made = await pair();
    const { a, b, ino } = made;
    await b.open(ino);
    await b.write(ino, 0, Buffer.from('F'));
    await a.write(ino, 5, Buffer.from(' and more'));
    await b.change(ino, { mode: 0o600 });
    assert.equal((await a.attributes(ino)).sizeBytes, 14);
    const { modifiedNs, changedNs } = await b.attributes(ino);
    await b.release(ino);
    const kept = await a.attributes(ino);
    assert.deepEqual([kept.modifiedNs, kept.changedNs], [modifiedNs, changedNs]);
  });

  test('gets a size that came while another was on its way, in the same tick of the clock', async () => {
    for (const how of ['write', 'set its time'] as const) {
      await using made = await pair();
      const { a, b, ino, held } = made;
      await b.open(ino);
      await b.write(ino, 5, Buffer.from(' and'));
      held.commits.close();
      const settling =
        how === 'write' ? b.flush(ino) : b.change(ino, { modifiedNs: 1_700_000_000_000_000_000n });
      await settle();
      await b.write(ino, 9, Buffer.from(' more'));
      held.commits.open();
      await settling;
      await b.release(ino);
      assert.equal((await a.attributes(ino)).sizeBytes, 14, how);
    }
  });

  test('is another one after each change, also of two hosts in one tick of their clocks', async () => {
    await using made = await pair();
    const { a, b, ino } = made;
    await a.open(ino);
    const seen: Attributes[] = [];
    const see = async () => {
      seen.push(await b.open(ino));
      await b.release(ino);
    };
    await see();
    for (const host of [a, a, b, a, b, b]) {
      await host.open(ino);
      await host.write(ino, 0, Buffer.from('other'));
      await host.flush(ino);
      await host.release(ino);
      await see();
    }
    const versions = seen.map(({ modifiedNs, changedNs }) => `${modifiedNs} ${changedNs}`);
    assert.equal(new Set(versions).size, 7);
    for (const [index, { modifiedNs }] of seen.entries())
      assert.notEqual(
        modifiedNs,
        seen[index - 1]?.modifiedNs,
        'pages are kept where it is the same',
      );
    const once = await a.change(ino, { mode: 0o600 });
    const twice = await b.change(ino, { mode: 0o600 });
    assert.notEqual(once.changedNs, twice.changedNs);
    await a.release(ino);
  });

  test('is truncated to a size that it seems to have', async () => {
    await using made = await pair();
    const { a, b, ino } = made;
    await b.open(ino);
    await a.write(ino, 5, Buffer.from(' and more'));
    assert.equal((await b.change(ino, { sizeBytes: 5 })).sizeBytes, 5);
    assert.equal(await a.read(ino, 0, Buffer.alloc(20)), 5);
    await b.release(ino);
  });

  test('is not made again when it was deleted a moment ago', async () => {
    await using made = await pair();
    const { a, b, ino, held, objects } = made;
    await b.attributes(ino);
    held.news.close();
    held.reads.close();
    const opening = b.read(ino, 0, Buffer.alloc(5));
    await settle();
    await a.unlink(rootIno, 'f');
    await settle();
    held.reads.open();
    await assert.rejects(async () => opening, { code: 'not_found' });
    assert.equal(objects.ids().size, 0);
  });
});

test('a name that another host has given to another file is found, before that is told', async () => {
  await using made = await pair();
  const { a, b, ino, held } = made;
  assert.equal((await b.lookup(rootIno, 'f')).ino, ino);
  held.news.close();
  const { ino: next } = await a.make(rootIno, 'g', { type: 'file', mode: 0o644 }, owner);
  await a.rename({ parent: rootIno, name: 'g' }, { parent: rootIno, name: 'f' }, 'replace');
  await assert.rejects(b.open(ino), { code: 'not_found' });
  assert.equal((await b.lookup(rootIno, 'f')).ino, next);
});

describe('a file without a name', () => {
  const removed = async (made: Awaited<ReturnType<typeof pair>>) => {
    const { a, ino, users, objects } = made;
    const [object] = objects.ids();
    users.ofB.add(object as ObjectId);
    await a.unlink(rootIno, 'f');
    await settle();
    assert.equal((await a.attributes(ino)).linkCount, 0);
  };
  const records = async (registry: MemoryRegistry) =>
    (await registry.range(prefixRange(''))).entries.map(({ key }) => key[0]).join('');

  test('is there as long as another host uses it, and leaves nothing', async () => {
    await using made = await pair();
    const { a, b, ino, users, clock, objects, registry } = made;
    await b.open(ino);
    await removed(made);
    await clock.advance(60_000);
    await b.write(ino, 0, Buffer.from('still'));
    assert.equal((await b.attributes(ino)).sizeBytes, 5);
    await b.change(ino, { mode: 0o600 });
    await b.release(ino);
    assert.equal(objects.ids().size, 1, 'the host that took the name removes it');
    users.ofB.clear();
    await clock.advance(10_000);
    assert.equal(objects.ids().size, 0);
    await assert.rejects(async () => a.attributes(ino), { code: 'not_found' });
    assert.ok(!/[ubgx]/.test(await records(registry)), await records(registry));
  });

  test('outlives the last user here while another host uses it', async () => {
    await using made = await pair();
    const { a, ino, users, clock, objects } = made;
    await a.open(ino);
    await removed(made);
    await a.release(ino);
    await clock.advance(60_000);
    assert.equal(objects.ids().size, 1);
    users.ofB.clear();
    await clock.advance(10_000);
    assert.equal(objects.ids().size, 0);
  });

  test('is not opened by who did not have it open', async () => {
    await using made = await pair();
    const { a, b, ino, users } = made;
    await b.open(ino);
    await removed(made);
    await b.open(ino);
    await b.release(ino);
    await assert.rejects(a.open(ino), { code: 'not_found' });
    await assert.rejects(a.lookup(rootIno, 'f'), { code: 'not_found' });
    await b.release(ino);
    users.ofB.clear();
  });
});
