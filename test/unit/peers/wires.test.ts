/** What connections go over: by the addon and by Node, and each with the other. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import { hostId, KiB, MiB } from '../../../src/core/units.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import { tableChecksum } from '../../../src/platform/checksum.ts';
import { PeerConnection } from '../../../src/platform/peers/connection.ts';
import type { Wire, WireEvents } from '../../../src/platform/peers/wire.ts';
import { systemClock } from '../../../src/platform/system-clock.ts';
import { encodeFrame, frameMemory } from '../../../src/format/peer-frame.ts';
import type { PeerHandler, PeerMessage } from '../../../src/ports/peers.ts';
import { peerPayloadBytesMax } from '../../../src/ports/peers.ts';
import { tcpHost } from '../../support/tcp-world.ts';

const kinds = ['of the addon', 'of Node'] as const;
const pairs = kinds.flatMap((a) => kinds.map((b) => ({ a, b })));
const options = { deadlineMs: 30_000 };
const nothing = new Uint8Array(0);

/** What a message of that number carries, so that content which is overwritten is seen. */
function payloadOf(number: number, bytes: number): Uint8Array {
  return Buffer.alloc(bytes, `${number},`);
}

function messageOf(number: number, bytes: number): PeerMessage {
  return { kind: number % 256, head: Buffer.from(`${number}`), payload: payloadOf(number, bytes) };
}

function isWhole({ head, payload }: PeerMessage): boolean {
  const number = Number(Buffer.from(head).toString());
  return Buffer.from(payload).equals(payloadOf(number, payload.length));
}

for (const { a: ofA, b: ofB } of pairs)
  describe(`a connection ${ofA} to one ${ofB}`, () => {
    test('carries messages of all sizes both ways, answered at once or late, unharmed', async () => {
      const random = seededRandom(3);
      const late = new Set<() => void>();
      const damaged: PeerMessage[] = [];
      const answer = async (message: PeerMessage) => {
        // Much else comes meanwhile.
        await new Promise<void>((resolve) => {
          late.add(resolve);
          if (late.size > 20) for (const wake of late) wake();
          if (late.size > 20) late.clear();
        });
        if (!isWhole(message)) damaged.push(message);
        return message;
      };
      const handler = (_from: unknown, message: PeerMessage) => {
        if (!isWhole(message)) damaged.push(message);
        return message.kind % 3 === 0 ? answer(message) : message;
      };
      await using a = await tcpHost({ name: 'a', wires: ofA }, handler);
      await using b = await tcpHost({ name: 'b', wires: ofB }, handler);
      const sizes = [
        0,
        1,
        100,
        4 * KiB,
        4 * KiB,
        4 * KiB,
        20 * KiB,
        300 * KiB,
        peerPayloadBytesMax,
      ];
      let isOver = false;
      const calls = Array.from({ length: 800 }, async (_, number) => {
        const bytes = sizes[Math.floor(random.fraction() ** 2 * sizes.length)] ?? 0;
        const into = number % 2 === 0 ? new Uint8Array(5 * KiB) : undefined;
        const [from, to] = number % 4 < 2 ? [a, b] : [b, a];
        const answered = await from.peers.call(to.at, messageOf(number, bytes), {
          ...options,
          into,
        });
        const expected = payloadOf(number, Math.min(bytes, into?.length ?? bytes));
        assert.ok(Buffer.from(answered.payload).equals(expected), `${number} of ${bytes} bytes`);
        assert.equal(Buffer.from(answered.head).toString(), `${number}`);
        if (into && answered.payload.length > 0) assert.equal(answered.payload.buffer, into.buffer);
      });
      const waking = (async () => {
        while (!isOver) {
          await new Promise((resolve) => setImmediate(resolve));
          for (const wake of late) wake();
          late.clear();
        }
      })();
      await Promise.all(calls).finally(() => (isOver = true));
      await waking;
      assert.deepEqual(damaged, []);
    });

    test('tells who waits for an answer when the other end goes', async () => {
      const asked = Promise.withResolvers<void>();
      await using a = await tcpHost({ name: 'a', wires: ofA });
      const b = await tcpHost({ name: 'b', wires: ofB }, () => {
        asked.resolve();
        return new Promise<PeerMessage>(() => {});
      });
      const call = a.peers.call(b.at, messageOf(1, 10), options);
      const outcome = assert.rejects(call, (error) => isStorageError(error, 'unknown_outcome'));
      await asked.promise;
      await b.peers.close();
      await outcome;
    });

    test('puts nothing into memory whose call has ended', async () => {
      const answer = Promise.withResolvers<PeerMessage>();
      await using a = await tcpHost({ name: 'a', wires: ofA });
      await using b = await tcpHost({ name: 'b', wires: ofB }, (_from, message) =>
        message.kind === 1 ? answer.promise : message,
      );
      const stop = new AbortController();
      const into = new Uint8Array(MiB);
      const request = { kind: 1, head: nothing, payload: nothing };
      const call = a.peers.call(b.at, request, { ...options, signal: stop.signal, into });
      const outcome = assert.rejects(call, /enough/);
      await a.peers.call(b.at, { ...request, kind: 2 }, options);
      stop.abort(new Error('enough'));
      await outcome;
      answer.resolve({ kind: 1, head: nothing, payload: Buffer.alloc(MiB, 1) });
      await a.peers.call(b.at, { ...request, kind: 2 }, options);
      assert.ok(into.every((byte) => byte === 0));
    });
  });

/** A connection whose wire keeps what is sent, as references, and takes all of it at once. */
function kept(handler: PeerHandler) {
  const sent: Uint8Array[] = [];
  let events: WireEvents | undefined;
  const wire: Wire = {
    ...{ waitingBytes: 0, isPaused: false },
    send: (parts) => void sent.push(...parts),
    ...{ pause() {}, resume() {}, reuse() {}, destroy() {} },
  };
  const deps = { checksum, clock: systemClock(undefined), handler, onEnd() {} };
  const connection = new PeerConnection(hostId('b'), deps, (given) => {
    events = given;
    return { wire, early: nothing };
  });
  return { sent, connection, come: (chunk: Uint8Array) => events?.onChunk(chunk) };
}

const checksum = tableChecksum();
const turn = () => new Promise((resolve) => setImmediate(resolve));

test('an answer that lies in the memory of its request is what it was when it was given', async () => {
  const { sent, connection, come } = kept((_from, message) => message);
  const payload = payloadOf(7, 20 * KiB);
  const chunk = frameMemory(new Uint8Array(32 * KiB));
  const frame = { type: 'request', kind: 1, number: 7, head: nothing, payload } as const;
  const payloadAt = encodeFrame(frame, chunk, 0, checksum);
  chunk.bytes.set(payload, payloadAt);
  assert.equal(come(chunk.bytes.subarray(0, payloadAt + payload.length)), 'free');
  await turn();
  chunk.bytes.fill(0);
  connection.end(new Error('enough'));
  assert.ok(Buffer.concat(sent).subarray(-payload.length).equals(payload));
});

test('who waits for room goes on where all that filled it went out at once', async () => {
  const { sent, connection } = kept((_from, message) => message);
  const calls = Array.from({ length: 20 }, (_, number) =>
    connection.call(messageOf(number, MiB), options).catch((error: unknown) => error),
  );
  for (let turns = 0; turns < 10; turns += 1) await turn();
  const payloads = sent.filter((part) => part.length === MiB).length;
  connection.end(new Error('enough'));
  await Promise.all(calls);
  assert.equal(payloads, 20);
});
