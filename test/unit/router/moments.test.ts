/** Several objects are kept as they are at one moment, whoever serves them, or not at all. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ObjectId } from '../../../src/core/units.ts';
import { objectId } from '../../../src/core/units.ts';
import { peerKind } from '../../../src/format/peer-message.ts';
import type { ObjectHandle } from '../../../src/ports/objects.ts';
import type { WorldHost } from '../../support/cluster-world.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const [diskA, diskB] = ['a', 'b'].map((digit) => objectId(digit.repeat(32))) as [
  ObjectId,
  ObjectId,
];
const file = objectId('f'.repeat(32));
const blockBytes = 4096;
const newFile = (index: number) => objectId(index.toString(16).padStart(32, '0'));

/** Host a serves disk A, host b disk B and the file. */
async function pair(leaseMs = 60_000) {
  const world = new ClusterWorld({ leaseMs });
  const [a, b] = [await world.host('a'), await world.host('b')] as const;
  await a.router.create(diskA, 'volume');
  await b.router.create(diskB, 'volume');
  await b.router.create(file, 'file');
  const openAll = async ({ router }: WorldHost) =>
    Promise.all([diskA, diskB, file].map((id) => router.open(id)));
  const [atA, atB] = [await openAll(a), await openAll(b)];
  for (const object of atB) await object.write(0, encode(0));
  return { world, a, b, atA, atB };
}

type Pair = Awaited<ReturnType<typeof pair>>;

async function stop({ world, a, b }: Pair): Promise<void> {
  await Promise.all([a.stop(), b.stop()]);
  await world[Symbol.asyncDispose]();
}

function encode(value: number): Uint8Array {
  const bytes = new Uint8Array(blockBytes);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

async function numberIn(object: Pick<ObjectHandle, 'read'>): Promise<number> {
  const found = new Uint8Array(blockBytes);
  assert.equal(await object.read(0, found), blockBytes);
  return new DataView(found.buffer).getUint32(0);
}

async function numberKept(host: WorldHost, id: ObjectId, name: string): Promise<number> {
  const view = await host.volumes.view(id, await host.snapshots.get(id, name));
  try {
    return await numberIn(view);
  } finally {
    await view.close();
  }
}

async function numberOfFile(host: WorldHost, id: ObjectId): Promise<number> {
  const object = await host.router.open(id);
  try {
    return await numberIn(object);
  } finally {
    host.router.release(id);
  }
}

const all = (as: ObjectId) => [{ id: diskA }, { id: diskB }, { id: file, as }];
const turn = () => new Promise((resolve) => setImmediate(resolve));
const isCare = (kind: number) => kind === peerKind.care;

/** Requests pass at both hosts, also changes. */
async function goesOn({ atA, atB }: Pair): Promise<void> {
  for (const object of [...atA, ...atB]) await object.write(blockBytes, encode(1));
}

describe('a moment', () => {
  test('keeps no write without the one whose acknowledgement came before it', async () => {
    const made = await pair();
    const { world, a, b, atA, atB } = made;
    // Marks come to the hosts at different times.
    world.network.delay = async (kind) => {
      for (let turns = 0; isCare(kind) && turns < 50; turns += 1) await turn();
    };
    let isDone = false;
    const writer = async () => {
      for (let value = 1; !isDone; value += 1)
        for (const [index, object] of atA.entries())
          await ((value + index) % 2 === 0 ? object : (atB[index] ?? object)).write(
            0,
            encode(value),
          );
    };
    const writing = writer();
    const seen = new Set<number>();
    for (let index = 0; index < 20; index += 1) {
      const name = `s${index}`;
      const by = index % 2 === 0 ? a : b;
      const { contents } = await by.moments.keep(all(newFile(index)), name, BigInt(index + 1));
      assert.equal(contents.length, 3);
      const [first, second] = [await numberKept(a, diskA, name), await numberKept(b, diskB, name)];
      const third = await numberOfFile(b, newFile(index));
      assert.ok(
        first >= second && second >= third && third >= first - 1,
        [first, second, third].join(),
      );
      seen.add(first);
    }
    isDone = true;
    await writing;
    assert.ok(seen.size > 10, 'the writer goes on meanwhile');
    await stop(made);
  });

  test('is refused where one of them has such a snapshot, and the others go on', async () => {
    const made = await pair();
    const { a, b } = made;
    await a.care.ask(diskB, { do: 'snapshot', name: 's', createdNs: '1' });
    await assert.rejects(a.moments.keep(all(newFile(1)), 's', 2n), { code: 'exists' });
    await goesOn(made);
    assert.equal(await a.snapshots.find(diskA, 's'), undefined);
    assert.equal((await b.snapshots.get(diskB, 's')).createdNs, 1n);
    await stop(made);
  });

  test('fails where a host is cut off before it has marked, which lets go by itself', async () => {
    const made = await pair();
    const { world, a, b } = made;
    let messages = 0;
    world.network.delay = (kind) => {
      if (!isCare(kind)) return undefined;
      messages += 1;
      // Held, both of its objects; now they shall be marked.
      if (messages === 3) world.network.cut(a.id, b.id);
      return undefined;
    };
    await assert.rejects(a.moments.keep(all(newFile(1)), 's', 2n), { code: 'unavailable' });
    world.network.delay = () => undefined;
    world.network.mend();
    await goesOn(made);
    const { isKept } = await a.care.ask(diskB, { do: 'settle', name: 's', createdNs: '2' });
    assert.equal(isKept, false);
    await stop(made);
  });

  test('fails where a mark comes when nobody waits any more', async () => {
    const made = await pair();
    const { world, a } = made;
    let messages = 0;
    world.network.delay = async (kind) => {
      if (!isCare(kind)) return;
      messages += 1;
      // Longer than the hold.
      if (messages === 4) await goesOn(made);
    };
    await assert.rejects(a.moments.keep(all(newFile(1)), 's', 2n), {
      code: 'failed',
      message: /not held any more/,
    });
    world.network.delay = () => undefined;
    await goesOn(made);
    await stop(made);
  });

  test('fails where an owner dies while it holds, and the others go on', async () => {
    const made = await pair(300);
    const { world, a, b, atA } = made;
    let messages = 0;
    world.network.delay = (kind) => {
      if (!isCare(kind)) return undefined;
      messages += 1;
      return messages === 3 ? b.kill() : undefined;
    };
    await assert.rejects(a.moments.keep(all(newFile(1)), 's', 2n));
    world.network.delay = () => undefined;
    await atA[0]?.write(0, encode(9));
    assert.equal(await numberIn(atA[0] as ObjectHandle), 9);
    await a.stop();
    await world[Symbol.asyncDispose]();
  });

  test('lets go where the host dies that asked for it', async () => {
    const made = await pair(300);
    const { world, a, b, atB } = made;
    let messages = 0;
    world.network.delay = (kind) => {
      if (!isCare(kind)) return undefined;
      messages += 1;
      return messages === 2 ? a.kill() : undefined;
    };
    a.moments.keep(all(newFile(1)), 's', 2n).catch(() => {});
    await atB[1]?.write(0, encode(9));
    while (messages < 2) await turn();
    const beganMs = performance.now();
    await atB[1]?.write(0, encode(10));
    await atB[2]?.write(0, encode(10));
    assert.equal(await numberIn(atB[1] as ObjectHandle), 10);
    assert.ok(performance.now() - beganMs > 1000, 'it was held');
    await b.stop();
    await world[Symbol.asyncDispose]();
  });

  test('copies a file as it was, whatever becomes of it meanwhile', async () => {
    const made = await pair();
    const { a, b, atB } = made;
    const object = atB[2] as ObjectHandle;
    for (let index = 0; index < 5; index += 1) await object.write(index * 2 ** 20, encode(7));
    const keeping = a.moments.keep([{ id: file, as: newFile(1) }], 's', 1n);
    let isDone = false;
    void keeping.finally(() => (isDone = true));
    while (!isDone) {
      for (let index = 0; index < 5; index += 1) await object.write(index * 2 ** 20, encode(8));
      await object.flush();
      await turn();
    }
    await keeping;
    const kept = await b.router.open(newFile(1));
    const values = new Set<number>();
    const bytes = new Uint8Array(4);
    for (let index = 0; index < 5; index += 1) {
      assert.equal(await kept.read(index * 2 ** 20, bytes), 4);
      values.add(new DataView(bytes.buffer).getUint32(0));
    }
    assert.equal(values.size, 1, 'a state that the file had');
    b.router.release(newFile(1));
    await stop(made);
  });
});
