/** What the kernel's lock requests are answered with, and when locks end that nobody gives back. */

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { Ino } from '../../../src/core/units.ts';
import { objectId } from '../../../src/core/units.ts';
import { opcode } from '../../../src/format/fuse/protocol.ts';
import { FileLocks } from '../../../src/frontend/file-locks.ts';
import { errno } from '../../../src/frontend/fuse/errno.ts';
import { lastByte } from '../../../src/ports/object-locks.ts';
import type { WorldHost } from '../../support/cluster-world.ts';
import { ClusterWorld } from '../../support/cluster-world.ts';
import { MemoryFileSystem } from '../../support/memory-file-system.ts';
import { body, FakeKernel } from './calls.ts';

const id = objectId('7'.repeat(32));
const type = { read: 0, write: 1, none: 2 } as const;
const flockFlag = 1;
const flockUnlockFlag = 2;
const turn = () => new Promise((resolve) => setImmediate(resolve));

interface Wanted {
  readonly handle?: bigint;
  readonly owner: bigint;
  readonly what: keyof typeof type;
  readonly start?: bigint;
  readonly end?: bigint;
  readonly flags?: number;
}

function lockBody({ handle = 1n, owner, what, start = 0n, end = lastByte, flags = 0 }: Wanted) {
  return body(handle, owner, start, end, type[what], 4711, flags, 0);
}

let world: ClusterWorld;
let host: WorldHost;
let kernel: FakeKernel;
let ino: Ino;

before(async () => {
  world = new ClusterWorld();
  host = await world.host('a');
  await host.router.create(id, 'file');
});

after(() => host.stop());

beforeEach(async () => {
  const fileSystem = new MemoryFileSystem();
  const caller = { uid: 1, gid: 1 };
  ({ ino } = await fileSystem.make(1 as Ino, 'f', { type: 'file', mode: 0o644 }, caller));
  const objectOf = (asked: Ino) => (asked === ino ? id : undefined);
  kernel = new FakeKernel(fileSystem, new FileLocks(objectOf, host.locks));
});

const ask = async (code: number, wanted: Wanted) =>
  (await kernel.ask(code, ino, lockBody(wanted))).error;
const set = (wanted: Wanted) => ask(opcode.setlk, wanted);
const close = (owner: bigint) => kernel.ask(opcode.flush, ino, body(1n, 0, 0, owner));
const release = (handle: bigint, flags = 0, owner = 0n) =>
  kernel.ask(opcode.release, ino, body(handle, 0, flags, owner));

/** Gives all of it back, so that each test begins without locks. */
async function assertFree(flags = 0): Promise<void> {
  assert.equal(await set({ owner: 99n, what: 'write', flags }), 0, 'it is free');
  assert.equal(await set({ owner: 99n, what: 'none', flags }), 0);
}

describe('a lock request', () => {
  test('is granted, refused with EAGAIN, and shown with its range and process', async () => {
    assert.equal(await set({ owner: 1n, what: 'write', start: 100n, end: 199n }), 0);
    assert.equal(await set({ owner: 2n, what: 'read', start: 0n, end: 100n }), errno.EAGAIN);
    assert.equal(await set({ owner: 2n, what: 'read', start: 0n, end: 99n }), 0);
    const wanted = lockBody({ owner: 3n, what: 'read' });
    const { payload } = await kernel.ask(opcode.getlk, ino, wanted);
    assert.deepEqual(payload, Buffer.from(body(100n, 199n, type.write, 4711)));
    const free = lockBody({ owner: 3n, what: 'write', start: 300n });
    const nothing = await kernel.ask(opcode.getlk, ino, free);
    assert.deepEqual(nothing.payload, Buffer.from(body(0n, 0n, type.none, 0)));
    await Promise.all([close(1n), close(2n)]);
    await assertFree();
  });

  test('of a wrong type or range, or of what is no file, is invalid', async () => {
    const bad = [
      lockBody({ owner: 1n, what: 'read', start: 2n, end: 1n }),
      lockBody({ owner: 1n, what: 'read', end: lastByte + 1n }),
      body(1n, 1n, 0n, 1n, 3, 0, 0, 0),
    ];
    for (const code of [opcode.getlk, opcode.setlk, opcode.setlkw]) {
      for (const fields of bad)
        assert.equal((await kernel.ask(code, ino, fields)).error, errno.EINVAL);
      const good = lockBody({ owner: 1n, what: 'read' });
      assert.equal((await kernel.ask(code, 1, good)).error, errno.EINVAL);
    }
    await assertFree();
  });

  test('is left to the kernel where locks are not served', async () => {
    const bare = new FakeKernel(new MemoryFileSystem());
    for (const code of [opcode.getlk, opcode.setlk, opcode.setlkw]) {
      const good = lockBody({ owner: 1n, what: 'read' });
      assert.equal((await bare.ask(code, ino, good)).error, errno.ENOSYS);
    }
  });
});

describe('locks of a process', () => {
  test('end when it closes any descriptor, and no others do', async () => {
    await set({ handle: 1n, owner: 1n, what: 'read', start: 0n, end: 9n });
    await set({ handle: 2n, owner: 1n, what: 'read', start: 20n, end: 29n });
    await set({ handle: 3n, owner: 2n, what: 'read', start: 40n, end: 49n });
    await close(1n);
    assert.equal(await set({ owner: 3n, what: 'write', start: 0n, end: 39n }), 0);
    assert.equal(await set({ owner: 3n, what: 'write', start: 40n }), errno.EAGAIN);
    await Promise.all([close(2n), close(3n)]);
    await assertFree();
  });

  test('that it took after a close outlast the open file that it closed', async () => {
    await set({ handle: 1n, owner: 1n, what: 'read' });
    await close(1n);
    await set({ handle: 2n, owner: 1n, what: 'read' });
    await release(1n);
    assert.equal(await set({ owner: 2n, what: 'write' }), errno.EAGAIN);
    await close(1n);
    await assertFree();
  });
});

describe('locks of an open file', () => {
  test('end with it, whoever closes what', async () => {
    await set({ handle: 1n, owner: 1n, what: 'write', start: 0n, end: 9n });
    await set({ handle: 2n, owner: 2n, what: 'write', start: 10n, end: 19n });
    await close(77n);
    await release(2n);
    assert.equal(await set({ owner: 3n, what: 'write', start: 10n }), 0);
    assert.equal(await set({ owner: 3n, what: 'write' }), errno.EAGAIN);
    await release(1n);
    await close(3n);
    await assertFree();
  });

  test('of flock(2) end with it as well, and only those', async () => {
    await set({ handle: 1n, owner: 1n, what: 'write', flags: flockFlag });
    await set({ handle: 1n, owner: 5n, what: 'write' });
    assert.equal(await set({ owner: 2n, what: 'read', flags: flockFlag }), errno.EAGAIN);
    await close(1n);
    assert.equal(await set({ owner: 2n, what: 'read', flags: flockFlag }), errno.EAGAIN);
    await release(1n, flockUnlockFlag, 1n);
    await assertFree(flockFlag);
    await assertFree();
  });

  test('are gone before what is asked for next', async () => {
    await set({ handle: 1n, owner: 1n, what: 'write' });
    const released = release(1n);
    assert.equal(await set({ owner: 2n, what: 'write' }), 0);
    await released;
    await close(2n);
    await assertFree();
  });
});

describe('a request that waits for a lock', () => {
  const wait = (unique: bigint, owner: bigint) => {
    kernel.unique = unique;
    return ask(opcode.setlkw, { owner, what: 'write' });
  };

  test('is answered when it is its turn', async () => {
    await set({ owner: 1n, what: 'write' });
    const waits = wait(2n, 2n);
    await close(1n);
    assert.equal(await waits, 0);
    assert.equal(await set({ owner: 1n, what: 'read' }), errno.EAGAIN);
    await close(2n);
    await assertFree();
  });

  test('is torn by an interrupt, and no other is', async () => {
    await set({ owner: 1n, what: 'write' });
    const [first, second] = [wait(2n, 2n), wait(3n, 3n)];
    await turn();
    kernel.waits.interrupt(2n);
    kernel.waits.interrupt(17n);
    assert.equal(await first, errno.EINTR);
    await close(1n);
    assert.equal(await second, 0);
    await close(3n);
    await assertFree();
  });

  test('leaves slots to others: there are so many at once', async () => {
    await set({ owner: 1n, what: 'write' });
    const waits = [wait(2n, 2n), wait(3n, 3n)];
    await turn();
    assert.equal(await wait(4n, 4n), errno.ENOLCK);
    kernel.waits.end();
    assert.deepEqual(await Promise.all(waits), [errno.ENOTCONN, errno.ENOTCONN]);
    assert.equal(await wait(5n, 5n), errno.ENOTCONN);
    await close(1n);
    await assertFree();
  });
});
