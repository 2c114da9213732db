/** What a journal has goes to the volume's next owner while the last one serves. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StorageError } from '../../../src/core/errors.ts';
import { isPending } from '../../../src/core/eventually.ts';
import { KiB, objectId } from '../../../src/core/units.ts';
import {
  decodeAnswerHead,
  encodeAnswerHead,
  encodeRequestHead,
  peerKind,
} from '../../../src/format/peer-message.ts';
import { recordsIn } from '../../../src/log/tail-store.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import type { DataObject } from '../../../src/ports/data-object.ts';
import type { PeerMessage } from '../../../src/ports/peers.ts';
import type { WorldHost } from '../../support/cluster-world.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';

const id = objectId('6'.repeat(32));
const blockBytes = 4096;
const { movePrepare, movePark, moveGive, tailRead } = peerKind;
const moves: readonly number[] = [movePrepare, movePark, moveGive, tailRead];

const write = (object: DataObject, index: number, value: number) =>
  object.write(index * blockBytes, new Uint8Array(blockBytes).fill(value));

async function assertHolds(object: DataObject, values: ReadonlyMap<number, number>): Promise<void> {
  const into = new Uint8Array(blockBytes);
  for (const [index, value] of values) {
    await object.read(index * blockBytes, into);
    assert.ok(
      into.every((byte) => byte === value),
      `block ${index} is ${into[0]}, not ${value}`,
    );
  }
}

/** A volume of `a` of whose blocks none is destaged; `b` shall have it. */
async function pair(blocks = 100) {
  const world = new ClusterWorld({
    leaseMs: 60_000,
    volumes: { destageDelayMs: 3_600_000, cutBytes: 1024 * KiB },
  });
  const a = await world.host('a');
  const b = await world.host('b');
  await a.router.create(id, 'volume');
  const atA = await a.router.open(id);
  const values = new Map<number, number>();
  const put = async (index: number, value: number) => {
    await write(atA, index, value);
    values.set(index, value);
  };
  for (let index = 0; index < blocks; index += 1) await put(index, index + 1);
  /** Done once, when all that there was is copied, and the owner shall hold the volume. */
  const beforePark = (action: () => Promise<void>) => {
    let isDone = false;
    world.network.delay = (kind) => {
      if (kind !== movePark || isDone) return undefined;
      isDone = true;
      return action();
    };
  };
  return { world, a, b, atA, put, values, beforePark };
}

/** What the router of `b` would ask is asked by the test. */
async function askedByHand(its: 'its session' | 'its last session' = 'its session') {
  const made = await pair();
  const { world, a, b } = made;
  const session = ((await world.hosts.session(b.id)) ?? 0) - (its === 'its session' ? 0 : 1);
  const ask = async (kind: number, offset = 0): Promise<PeerMessage> => {
    const request = { id, session, generation: 0, epoch: 0, offset, length: 1 };
    const message = { kind, head: encodeRequestHead(request), payload: new Uint8Array(0) };
    const answer = a.router.handle(b.id, message);
    return isPending(answer) ? await answer : answer;
  };
  return { ...made, ask };
}

const stop = (...hosts: WorldHost[]) => Promise.all(hosts.map((host) => host.stop()));

describe('the journal of a volume that changes hands', () => {
  test('is copied before the volume is held, and durable but for what came since', async () => {
    const { world, a, b, values } = await pair();
    await using _ = world;
    const asked: number[] = [];
    world.network.delay = (kind) => {
      if (moves.includes(kind)) asked.push(kind);
      return undefined;
    };
    await b.router.fetch(id);
    const parkedAt = asked.indexOf(movePark);
    assert.deepEqual(asked.slice(parkedAt), [movePark, tailRead, moveGive]);
    assert.ok(asked.slice(0, parkedAt).filter((kind) => kind === tailRead).length > 1);
    await assertHolds(await b.router.open(id), values);
    await stop(a, b);
  });

  test('comes with what was written when most of it was copied', async () => {
    const { world, a, b, put, values, beforePark } = await pair();
    await using _ = world;
    beforePark(async () => {
      for (let index = 50; index < 150; index += 1) await put(index, 201);
    });
    await b.router.fetch(id);
    await assertHolds(await b.router.open(id), values);
    await stop(a, b);
  });

  test('comes though it was trimmed beyond what was copied', async () => {
    const { world, a, b, atA, put, values, beforePark } = await pair();
    await using _ = world;
    beforePark(async () => {
      for (let index = 50; index < 350; index += 1) await put(index, 202);
      await atA.sync();
      for (let index = 300; index < 400; index += 1) await put(index, 203);
    });
    await b.router.fetch(id);
    await assertHolds(await b.router.open(id), values);
    await stop(a, b);
  });

  test('is copied anew where another tenure was about to be held', async () => {
    const { world, a, b, atA, put, values, beforePark } = await pair();
    await using _ = world;
    beforePark(async () => {
      await atA.change((backing, resolve) => resolve(backing));
      for (let index = 50; index < 150; index += 1) await put(index, 204);
    });
    await b.router.fetch(id);
    assert.equal((await world.records.get(id)).owner, 'b');
    await assertHolds(await b.router.open(id), values);
    await stop(a, b);
  });

  test('is not read again by who has just put it there', async () => {
    const { world, a, b, values } = await pair();
    await using _ = world;
    const open = b.disk.open.bind(b.disk);
    const read: string[] = [];
    b.disk.open = (path, mode) => {
      if (mode === 'read') read.push(path);
      return open(path, mode);
    };
    await b.router.fetch(id);
    assert.deepEqual(read, []);
    await assertHolds(await b.router.open(id), values);
    await stop(a, b);
  });

  for (const seed of [1, 2, 3, 4, 5, 6])
    test(`is whole on the SSD of who has fetched it and lost power then, seed ${seed}`, async () => {
      const { world, a, b, values } = await pair();
      await using _ = world;
      await b.router.fetch(id);
      const atB = await b.router.open(id);
      await write(atB, 0, 205);
      values.set(0, 205);
      await atB.flush();
      await b.cutPower(seed);
      const back = await world.host('b');
      await back.recover();
      await assertHolds(await back.router.open(id), values);
      await stop(a, back);
    });

  test('is fetched once where two ask for it at the same time', async () => {
    const { world, a, b, values } = await pair();
    await using _ = world;
    await Promise.all([b.router.fetch(id), b.router.fetch(id)]);
    assert.equal(world.network.counts.get(movePark), 1);
    await assertHolds(await b.router.open(id), values);
    await stop(a, b);
  });
});

describe('the new owner', () => {
  test('begins with the transaction that names it', async () => {
    const { world, a, b, values } = await pair();
    await using _ = world;
    await b.router.fetch(id);
    const { owner, epoch } = await world.records.get(id);
    assert.deepEqual([owner, epoch], ['b', 2]);
    const atB = await b.router.open(id);
    assert.ok(atB.isHere());
    await assertHolds(atB, values);
    await write(atB, 0, 99);
    await atB.flush();
    await a.router.fetch(id);
    await assertHolds(await a.router.open(id), new Map([...values, [0, 99]]));
    await stop(a, b);
  });

  test('knows what an administrator has changed since it asked', async () => {
    const { world, a, b, beforePark } = await pair();
    await using _ = world;
    beforePark(() => world.records.adjust(id, { isFrozen: true, isPinned: true }));
    await b.router.fetch(id);
    const { owner, isPinned, isFrozen } = await world.records.get(id);
    assert.deepEqual([owner, isPinned, isFrozen], ['b', true, true]);
    const atB = await b.router.open(id);
    await assert.rejects(async () => write(atB, 0, 1), { code: 'read_only' });
    await stop(a, b);
  });

  test('is no host that has lost its membership meanwhile: the volume stays', async () => {
    const { world, a, b, atA, values, ask } = await askedByHand('its last session');
    await using _ = world;
    await ask(movePrepare);
    await ask(movePark);
    await assert.rejects(ask(moveGive), { code: 'busy' });
    await assertHolds(atA, values);
    const { owner, epoch } = await world.records.get(id);
    assert.deepEqual([owner, epoch], ['a', 2]);
    await stop(a, b);
  });

  test('claims a tenure where it could not open the volume at first', async () => {
    const { world, a, b, values } = await pair();
    await using _ = world;
    const open = b.volumes.open.bind(b.volumes);
    let attempts = 0;
    b.volumes.open = (tenure) => {
      attempts += 1;
      if (attempts === 1) return Promise.reject(new StorageError('unavailable', 'not now'));
      return open(tenure);
    };
    await b.router.fetch(id);
    const { owner, epoch } = await world.records.get(id);
    assert.deepEqual([owner, epoch], ['b', 3]);
    await assertHolds(await b.router.open(id), values);
    await stop(a, b);
  });
});

describe('between hosts of this version and of the one before', () => {
  test('an owner that hands out nothing before the volume is held is asked for it then', async () => {
    const { world, a, b, values } = await pair();
    await using _ = world;
    const handle = a.router.handle.bind(a.router);
    let isHeld = false;
    a.router.handle = async (from, message) => {
      const { kind } = message;
      if (kind === tailRead && !isHeld) throw new StorageError('busy', 'the move was given up');
      const answer = await handle(from, message);
      isHeld ||= kind === movePark;
      if (kind === moveGive) return { ...answer, payload: new Uint8Array(0) };
      if (kind !== movePrepare && kind !== tailRead) return answer;
      return { ...answer, head: encodeAnswerHead({ ...decodeAnswerHead(answer.head), result: 0 }) };
    };
    await b.router.fetch(id);
    const { owner, epoch } = await world.records.get(id);
    assert.deepEqual([owner, epoch], ['b', 3]);
    await assertHolds(await b.router.open(id), values);
    await stop(a, b);
  });

  test('an owner-to-be that asks for nothing before gets all of it then', async () => {
    const { world, a, b, ask } = await askedByHand();
    await using _ = world;
    await ask(movePrepare);
    assert.equal(decodeAnswerHead((await ask(movePark)).head).result, 1);
    let after = 0;
    for (;;) {
      const { payload } = await ask(tailRead, after);
      if (payload.length === 0) break;
      for (const { header } of recordsIn(payload, tableChecksum())) {
        assert.equal(header.sequence, after + 1);
        after = header.sequence;
      }
    }
    assert.equal(after, 100);
    await ask(moveGive);
    assert.equal((await world.records.get(id)).owner, 'b');
    await stop(a, b);
  });
});
