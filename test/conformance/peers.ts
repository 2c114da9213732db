/** The contract of `Peers` (src/ports/peers.ts). */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ErrorCode } from '../../src/core/errors.ts';
import { isStorageError, StorageError } from '../../src/core/errors.ts';
import { MiB } from '../../src/core/units.ts';
import { seededRandom } from '../../src/platform/random.ts';
import type { PeerAddress, PeerHandler, PeerMessage, Peers } from '../../src/ports/peers.ts';
import { peerPayloadBytesMax } from '../../src/ports/peers.ts';

interface PeerHost extends AsyncDisposable {
  readonly peers: Peers;
  readonly at: PeerAddress;
}

/** The hosts of one test; each may be started again. */
export interface PeerWorld extends AsyncDisposable {
  host(name: string, handler?: PeerHandler): Promise<PeerHost>;
}

type WithWorld = (title: string, body: (world: PeerWorld) => Promise<void>) => void;

const nothing = new Uint8Array(0);
const options = { deadlineMs: 600_000 };
/** Of a test that waits for what never comes. */
const timeout = 30_000;
const headBytesMax = 4096;
const never = () => new Promise<PeerMessage>(() => {});

const message = (
  kind: number,
  payload: Uint8Array = nothing,
  head: Uint8Array = nothing,
): PeerMessage => ({
  ...{ kind, head, payload },
});

const failsWith = (code: ErrorCode, text?: RegExp) => (error: unknown) => {
  assert.ok(isStorageError(error, code), String(error));
  if (text) assert.match(error.message, text);
  return true;
};

const textOf = ({ payload }: PeerMessage) => Buffer.from(payload).toString();

export function peersSuite(name: string, open: () => Promise<PeerWorld>): void {
  const withWorld: WithWorld = (title, body) =>
    test(title, { timeout }, async () => {
      await using world = await open();
      await body(world);
    });
  describe(`peers over ${name}`, () => {
    messages(withWorld);
    errors(withWorld);
    ends(withWorld);
    memory(withWorld);
    closing(withWorld);
  });
}

function messages(withWorld: WithWorld): void {
  withWorld('carry messages of any size, many at once, each with its own answer', async (world) => {
    const a = await world.host('a');
    const b = await world.host('b');
    const random = seededRandom(5);
    const sizes = [0, 1, 4096, MiB, peerPayloadBytesMax, peerPayloadBytesMax];
    for (let count = 0; count < 300; count += 1) sizes.push(random.fraction() * 70_000);
    await Promise.all(
      sizes.map(async (size, index) => {
        const payload = random.bytes(Math.floor(size));
        const head = random.bytes(index % 2 === 0 ? index : headBytesMax - index);
        const answer = await a.peers.call(b.at, message(index % 256, payload, head), options);
        assert.equal(answer.kind, index % 256);
        assert.ok(Buffer.from(answer.head).equals(head));
        assert.ok(Buffer.from(answer.payload).equals(payload));
      }),
    );
  });

  withWorld('go both ways, and slow answers do not hold up quick ones', async (world) => {
    const slow = Promise.withResolvers<void>();
    const handler: PeerHandler = async (from, asked) => {
      if (asked.kind === 1) await slow.promise;
      return message(asked.kind, Buffer.from(from));
    };
    const a = await world.host('a', handler);
    const b = await world.host('b', handler);
    const late = a.peers.call(b.at, message(1), options);
    assert.equal(textOf(await a.peers.call(b.at, message(2), options)), 'a');
    assert.equal(textOf(await b.peers.call(a.at, message(2), options)), 'b');
    slow.resolve();
    assert.equal((await late).kind, 1);
  });
}

function errors(withWorld: WithWorld): void {
  withWorld('bring errors of handlers back, with their codes', async (world) => {
    const a = await world.host('a');
    const thrown = [
      new StorageError('not_owner', 'ask somebody else'),
      new StorageError('unavailable', 'not now', { cause: new Error('its disk is full') }),
      new Error('a mistake'),
    ];
    const b = await world.host('b', (_, { kind }) => {
      if (kind > 2) return Promise.reject(thrown[kind - 3] as Error);
      throw thrown[kind] as Error;
    });
    for (const before of [0, 3])
      for (const [kind, check] of [
        failsWith('not_owner', /^ask somebody else$/),
        failsWith('unavailable', /^not now: its disk is full$/),
        failsWith('failed', /^a mistake$/),
      ].entries())
        await assert.rejects(a.peers.call(b.at, message(before + kind), options), check);
  });

  withWorld('know that a request was surely not made where nobody is', async (world) => {
    let told = 0;
    const a = await world.host('a');
    const b = await world.host('b', (_, asked) => {
      told += 1;
      return asked;
    });
    await a.peers.call(b.at, message(1), options);
    await b.peers.close();
    // Who was connected may not have seen it yet.
    await assert.rejects(a.peers.call(b.at, message(1), options));
    const c = await world.host('c');
    for (const peers of [c.peers, c.peers, a.peers])
      await assert.rejects(peers.call(b.at, message(1), options), failsWith('unavailable'));
    const again = await world.host('b');
    assert.equal((await a.peers.call(again.at, message(2), options)).kind, 2);
    assert.equal(told, 1);
  });
}

function ends(withWorld: WithWorld): void {
  withWorld('say after the deadline that nobody knows what became of it', async (world) => {
    const late = Promise.withResolvers<PeerMessage>();
    const a = await world.host('a');
    const b = await world.host('b', (_, asked) => (asked.kind === 1 ? late.promise : asked));
    const call = a.peers.call(b.at, message(1), { deadlineMs: 20 });
    await assert.rejects(call, failsWith('unknown_outcome'));
    late.resolve(message(1, Buffer.from('too late')));
    const other = await a.peers.call(b.at, message(2, Buffer.from('in time')), options);
    assert.equal(textOf(other), 'in time');
  });

  withWorld('wait no longer than their signal, and ask nobody when it has fired', async (world) => {
    const told: number[] = [];
    const arrived = Promise.withResolvers<void>();
    const a = await world.host('a');
    const b = await world.host('b', (_, asked) => {
      told.push(asked.kind);
      arrived.resolve();
      return asked.kind === 1 ? never() : asked;
    });
    const stop = new AbortController();
    const call = a.peers.call(b.at, message(1), { ...options, signal: stop.signal });
    const reason = new Error('enough');
    const rejected = assert.rejects(call, reason);
    await arrived.promise;
    stop.abort(reason);
    await rejected;
    const late = a.peers.call(b.at, message(2), { ...options, signal: stop.signal });
    await assert.rejects(late, reason);
    await a.peers.call(b.at, message(3), options);
    assert.deepEqual(told, [1, 3]);
  });
}

function memory(withWorld: WithWorld): void {
  withWorld('leave the bytes of a request to the handler until it answers', async (world) => {
    const arrived = Promise.withResolvers<void>();
    const read = Promise.withResolvers<void>();
    const found = Promise.withResolvers<string>();
    const a = await world.host('a');
    const b = await world.host('b', async (_, asked) => {
      arrived.resolve();
      await read.promise;
      found.resolve(textOf(asked));
      return asked;
    });
    const bytes = Buffer.from('as it was');
    const call = a.peers.call(b.at, message(1, bytes), { deadlineMs: 20 });
    const rejected = assert.rejects(call, failsWith('unknown_outcome'));
    await arrived.promise;
    await rejected;
    bytes.fill('x');
    read.resolve();
    assert.equal(await found.promise, 'as it was');
  });

  withWorld(
    'give the bytes of an answer away, also those of one that others get',
    async (world) => {
      const kept = Buffer.alloc(5000, 'k');
      const a = await world.host('a');
      const b = await world.host('b', () => message(1, kept));
      const first = await a.peers.call(b.at, message(1), options);
      const second = await a.peers.call(b.at, message(1), options);
      first.payload.fill(0);
      for (let count = 0; count < 50; count += 1)
        (await a.peers.call(b.at, message(1), options)).payload.fill(count);
      assert.ok(Buffer.from(second.payload).equals(Buffer.alloc(5000, 'k')));
      assert.ok(kept.equals(Buffer.alloc(5000, 'k')));
    },
  );
}

function closing(withWorld: WithWorld): void {
  for (const [who, closer] of [
    ['the one that was called', 1],
    ['the caller', 0],
  ] as const)
    withWorld(`tell who waits for an answer when ${who} closes`, async (world) => {
      const arrived = Promise.withResolvers<void>();
      let told = 0;
      const a = await world.host('a');
      const b = await world.host('b', () => {
        told += 1;
        if (told === 2) arrived.resolve();
        return never();
      });
      const calls = [1, 2].map((kind) => a.peers.call(b.at, message(kind), options));
      const rejected = calls.map((call) => assert.rejects(call, failsWith('unknown_outcome')));
      await arrived.promise;
      await ([a, b][closer] as PeerHost).peers.close();
      await Promise.all(rejected);
    });

  withWorld('call nobody once they are closed, which they may be twice', async (world) => {
    let told = 0;
    const a = await world.host('a');
    const b = await world.host('b', (_, asked) => {
      told += 1;
      return asked;
    });
    await a.peers.call(b.at, message(1), options);
    await a.peers.close();
    await a.peers.close();
    await assert.rejects(a.peers.call(b.at, message(2), options), failsWith('closed'));
    assert.equal(told, 1);
  });

  withWorld('end a call that has only just begun when they close', async (world) => {
    const a = await world.host('a');
    const b = await world.host('b', never);
    const call = a.peers.call(b.at, message(1), options);
    const rejected = assert.rejects(call, (error) => isStorageError(error));
    await a.peers.close();
    await rejected;
    const c = await world.host('c');
    await assert.rejects(c.peers.call(a.at, message(1), options), failsWith('unavailable'));
  });
}
