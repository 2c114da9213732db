/** Appends of several hosts to one object: each is there once, whole, whatever happens meanwhile. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { objectId } from '../../../src/core/units.ts';
import { peerKind } from '../../../src/format/peer-message.ts';
import type { ObjectHandle } from '../../../src/ports/objects.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const id = objectId('3'.repeat(32));
const recordBytes = 100;
const recordOf = (name: string) => Buffer.alloc(recordBytes, `${name}|`);
const nameOf = (record: Buffer) => record.toString('latin1').split('|')[0] as string;

async function pair() {
  const world = new ClusterWorld({ leaseMs: 60_000 });
  const hosts = [await world.host('a'), await world.host('b')] as const;
  await hosts[0].router.create(id, 'file');
  const atA = await hosts[0].router.open(id);
  const atB = await hosts[1].router.open(id);
  const stop = async () => void (await Promise.all(hosts.map((host) => host.stop())));
  return { world, a: hosts[0], b: hosts[1], atA, atB, [Symbol.asyncDispose]: stop };
}

/** The names of the records, each checked to be whole. */
async function recordsIn(object: ObjectHandle): Promise<string[]> {
  await object.refresh();
  const content = Buffer.alloc(object.size());
  await object.read(0, content);
  const names: string[] = [];
  for (let at = 0; at < content.length; at += recordBytes) {
    const record = content.subarray(at, at + recordBytes);
    const name = nameOf(record);
    assert.ok(record.equals(recordOf(name)), `a torn record at ${at}`);
    names.push(name);
  }
  return names;
}

async function appendAll(object: ObjectHandle, writer: string, count: number): Promise<string[]> {
  const names = Array.from({ length: count }, (_, index) => `${writer}${index}`);
  for (const name of names) await object.append(recordOf(name));
  return names;
}

describe('appends', () => {
  test('of two hosts do not meet, and those of a host keep their order', async () => {
    await using made = await pair();
    const { atA, atB } = made;
    const writers = [
      appendAll(atA, 'a', 60),
      appendAll(atA, 'x', 60),
      appendAll(atB, 'b', 60),
      appendAll(atB, 'y', 60),
    ];
    const expected = (await Promise.all(writers)).flat();
    const found = await recordsIn(atA);
    assert.deepEqual([...found].sort(), [...expected].sort());
    assert.deepEqual(await recordsIn(atB), found);
    for (const writer of 'axby') {
      const own = found.filter((name) => name.startsWith(writer));
      assert.deepEqual(
        own,
        expected.filter((name) => name.startsWith(writer)),
      );
    }
  });

  test('are made once, also when their answers are lost and the file moves', async () => {
    await using made = await pair();
    const { world, a, b, atA, atB } = made;
    let appends = 0;
    world.network.losesAnswer = (kind) => {
      if (kind !== peerKind.append) return false;
      appends += 1;
      return appends % 3 === 0;
    };
    let isOver = false;
    const expected: string[] = [];
    const write = async (object: ObjectHandle, writer: string) => {
      for (let round = 0; !isOver; round += 1) {
        expected.push(...(await appendAll(object, `${writer}${round}.`, 5)));
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const writing = Promise.all([write(atA, 'a'), write(atB, 'b')]);
    try {
      for (let moves = 0; moves < 6 || appends < 30; moves += 1) {
        await a.router.moveTo(id, (moves % 2 === 0 ? b : a).id).catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    } finally {
      isOver = true;
    }
    await writing;
    assert.deepEqual((await recordsIn(atB)).sort(), expected.sort());
  });

  test('go to the end as it is after a truncation by another host', async () => {
    await using made = await pair();
    const { atA, atB } = made;
    await appendAll(atB, 'b', 3);
    await atA.resize(recordBytes);
    await atB.append(recordOf('after'));
    assert.deepEqual(await recordsIn(atA), ['b0', 'after']);
  });
});

test('the size at a host that does not serve the object is known when it asks', async () => {
  await using made = await pair();
  const { atA, atB } = made;
  assert.deepEqual([atA.isHere(), atB.isHere()], [true, false]);
  await atA.write(0, recordOf('a'));
  assert.equal(atB.size(), 0);
  await atB.refresh();
  assert.equal(atB.size(), recordBytes);
  assert.equal(atA.refresh(), undefined);
});
