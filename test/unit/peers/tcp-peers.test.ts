/** Peers over TCP: what is refused and how, and what strangers can't do. */

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import type { ErrorCode } from '../../../src/core/errors.ts';
import { hostId, MiB } from '../../../src/core/units.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import type { PeerMessage } from '../../../src/ports/peers.ts';
import { recorded, said, tcpHost } from '../../support/tcp-world.ts';

const nothing = new Uint8Array(0);
const options = { deadlineMs: 30_000 };

const message = (kind: number, payload: Uint8Array): PeerMessage => ({
  ...{ kind, head: nothing, payload },
});

const failsWith = (code: ErrorCode, text: RegExp) => (error: unknown) => {
  assert.ok(isStorageError(error, code), String(error));
  assert.match(error.message, text);
  return true;
};

describe('peers over TCP', () => {
  test('refuse another key, another vPool, another host and a host id used twice', async () => {
    await using b = await tcpHost({ name: 'b' });
    const other = new Uint8Array(32).fill(8);
    for (const [identity, at, text] of [
      [{ name: 'a', key: other }, b.at, /another cluster key: check peers\.key/],
      [{ name: 'a', vpool: 'else' }, b.at, /this is vPool demo/],
      [
        { name: 'a' },
        { ...b.at, host: hostId('c') },
        /host b answers where c should be: check peers\.listen of both/,
      ],
      [{ name: 'b', instance: 'other' }, b.at, /host id b is used twice/],
    ] as const) {
      await using a = await tcpHost(identity);
      await assert.rejects(
        a.peers.call(at, message(1, nothing), options),
        failsWith('unavailable', text),
      );
      const [line, ...more] = a.log.lines;
      assert.deepEqual(more, []);
      assert.equal(line?.message, 'a peer can not be reached');
      const { error, ...facts } = line.facts as { readonly error: string };
      assert.match(error, text);
      assert.deepEqual(facts, at);
    }
    const refusals = b.log.lines.filter(
      ({ message: found }) => found === 'a connection is refused',
    );
    assert.equal(refusals.length, 4);
  });
});

describe('memory', () => {
  const payload = Buffer.alloc(MiB);
  /** Bytes that TCP itself keeps on the way are some MiB. */
  const manyMiB = 100;

  test('of who sends holds a bounded part of what nobody takes', async () => {
    const told: number[] = [];
    await using a = await tcpHost({ name: 'a' });
    await using b = await tcpHost({ name: 'b' }, (_from, asked) => {
      told.push(asked.kind);
      return message(asked.kind, nothing);
    });
    await using wire = await recorded(b.address);
    const at = { host: b.at.host, address: wire.address };
    await a.peers.call(at, message(1, nothing), options);
    wire.hold();
    const stop = new AbortController();
    const calls = Array.from({ length: manyMiB }, () =>
      a.peers.call(at, message(2, payload), { ...options, signal: stop.signal }),
    );
    const rejected = calls.map((call) => assert.rejects(call, /enough/));
    stop.abort(new Error('enough'));
    wire.goOn();
    await Promise.all(rejected);
    // Comes behind all that was sent.
    await a.peers.call(at, message(3, nothing), options);
    const sent = told.filter((kind) => kind === 2).length;
    assert.ok(sent >= 8 && sent < 20, `${sent} MiB`);
  });

  test('of who is asked holds a bounded part of what is not done yet', async () => {
    const begun = Promise.withResolvers<void>();
    const end = Promise.withResolvers<void>();
    let told = 0;
    await using a = await tcpHost({ name: 'a' });
    await using b = await tcpHost({ name: 'b' }, async (_from, asked) => {
      told += 1;
      if (told === 64) begun.resolve();
      await end.promise;
      return message(asked.kind, nothing);
    });
    const calls = Array.from({ length: manyMiB }, () =>
      a.peers.call(b.at, message(1, payload), options),
    );
    await begun.promise;
    // Time for more to come.
    for (let count = 0; count < 20; count += 1)
      await b.peers.call(a.at, message(1, payload), options);
    assert.ok(told <= 66, `${told} MiB`);
    end.resolve();
    await Promise.all(calls);
    assert.equal(told, manyMiB);
  });
});

describe('a stranger', () => {
  test('who says again what a peer has said is refused', async () => {
    let handled = 0;
    await using a = await tcpHost({ name: 'a' });
    await using b = await tcpHost({ name: 'b' }, (_from, asked) => {
      handled += 1;
      return asked;
    });
    await using wire = await recorded(b.address);
    await a.peers.call({ host: b.at.host, address: wire.address }, message(3, nothing), options);
    assert.equal(handled, 1);
    const answer = await said(b.address, ...wire.lines);
    assert.match(answer, /refused/);
    assert.equal(handled, 1);
  });

  test('who sends anything else is cut off, and nobody else notices', async () => {
    await using a = await tcpHost({ name: 'a' });
    await using b = await tcpHost({ name: 'b' });
    const random = seededRandom(11);
    const hello = JSON.stringify({
      ...{ versions: [1, 1], vpool: 'demo', host: 'a', instance: 'x', to: 'b', nonce: '00' },
    });
    const wrong: (string | Uint8Array)[][] = [
      ['\n'],
      ['{}\n'],
      ['null\n'],
      ['x'.repeat(5000)],
      [`${hello}\n`, '{"mac":"00"}\n'],
      [`${hello}\n`, `{"mac":"${'0'.repeat(64)}"}\n`],
      [`${hello.replace('[1,1]', '[2,9]')}\n`],
      [`${hello.replace('"host":"a"', '"host":"../a"')}\n`],
      ...Array.from({ length: 100 }, () => [
        random.bytes(Math.floor(random.fraction() * 3000)),
        '\n',
      ]),
    ];
    for (const lines of wrong) assert.doesNotMatch(await said(b.address, ...lines), /^\{\}$/m);
    const answer = await a.peers.call(b.at, message(9, Buffer.from('still here')), options);
    assert.equal(Buffer.from(answer.payload).toString(), 'still here');
  });

  test('who waits is not waited for by others', async () => {
    await using a = await tcpHost({ name: 'a' });
    await using b = await tcpHost({ name: 'b' });
    const port = Number(b.address.split(':').at(-1));
    const idle = Array.from({ length: 80 }, () => {
      const socket = connect({ host: '127.0.0.1', port });
      socket.on('error', () => {});
      return socket;
    });
    await Promise.all(
      idle.map((socket) => new Promise((resolve) => socket.once('connect', resolve))),
    );
    await a.peers.call(b.at, message(1, nothing), options);
    for (const socket of idle) socket.destroy();
  });
});
