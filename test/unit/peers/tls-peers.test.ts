/** Peers over TLS: who is refused, what is said of it at either side, and what the network sees. */

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, describe, test } from 'node:test';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { connect as connectTls, createServer } from 'node:tls';
import { isStorageError } from '../../../src/core/errors.ts';
import type { PeerTls } from '../../../src/platform/peers/tls.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import type { PeerMessage } from '../../../src/ports/peers.ts';
import { Certificates } from '../../support/certificates.ts';
import type { Line } from '../../support/quiet-log.ts';
import { recorded, tcpHost } from '../../support/tcp-world.ts';

/** Of tests that wait for a line of the log. */
const timeout = 60_000;
const options = { deadlineMs: 30_000 };
const made = await Certificates.make('a', 'b');
after(() => made[Symbol.asyncDispose]());
await made.makeCa('other-ca');
await made.makeCertificate('stranger', 'other-ca');
await made.makeCertificate('expired', 'ca', 0);

const message = (text = ''): PeerMessage => ({
  ...{ kind: 1, head: new Uint8Array(0), payload: Buffer.from(text) },
});

type Host = Awaited<ReturnType<typeof tcpHost>>;

const withTls = (name: string, tls: PeerTls = made.of(name)) => tcpHost({ name }, undefined, tls);

/** The one line that a host has logged. */
async function lineOf({ log }: Host): Promise<string> {
  while (log.lines.length === 0) await new Promise((resolve) => setImmediate(resolve));
  const [line, ...more] = log.lines;
  assert.deepEqual(more, []);
  const { error } = (line as Line).facts as { readonly error: string };
  assert.doesNotMatch(error, /\n/);
  return `${(line as Line).message}: ${error}`;
}

async function refuses(called: Host, caller: Host, atCaller: RegExp, atCalled: RegExp) {
  for (let attempt = 0; attempt < 2; attempt += 1)
    await assert.rejects(caller.peers.call(called.at, message(), options), (error) => {
      assert.ok(isStorageError(error, 'unavailable'), String(error));
      assert.match(error.message, atCaller);
      return true;
    });
  assert.match(await lineOf(caller), atCaller);
  assert.match(await lineOf(called), atCalled);
}

describe('hosts with TLS', { timeout }, () => {
  const oneSided = /: one host speaks TLS, the other does not: check peers\.tls$/;

  test('and hosts without refuse each other, and both say why', async () => {
    for (const isCaller of [true, false]) {
      await using secured = await withTls('a');
      await using plain = await tcpHost({ name: 'b' });
      const [caller, called] = isCaller ? [secured, plain] : [plain, secured];
      await refuses(called, caller, oneSided, oneSided);
    }
  });

  test('refuse certificates of another authority, and those that are over', async () => {
    await using a = await withTls('a');
    for (const [name, reason] of [
      ['stranger', /SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_GET/],
      ['expired', /CERT_HAS_EXPIRED/],
    ] as const) {
      await using called = await withTls('a');
      await using b = await withTls('b', { ...made.of(name), ca: made.read('ca.crt') });
      const line = (whose: string) =>
        new RegExp(`certificate of the ${whose} can't be verified: .* \\((${reason.source})\\)$`);
      await refuses(called, b, line('caller'), line('caller'));
      await assert.rejects(a.peers.call(b.at, message(), options), line('called'));
    }
  });

  test('need the cluster key as well', async () => {
    await using a = await withTls('a');
    const key = new Uint8Array(32).fill(8);
    await using b = await tcpHost({ name: 'b', key }, undefined, made.of('b'));
    await refuses(a, b, /host a has another cluster key: check peers\.key$/, /closed/);
  });

  test('let nobody between them who has a right certificate and not the key', async () => {
    await using a = await withTls('a');
    await using b = await withTls('b');
    await using wire = await relayed(b.address);
    const at = { host: b.at.host, address: wire.address };
    const call = a.peers.call(at, message(), options);
    await assert.rejects(call, /host b has another cluster key/);
    const answered = wire.carried.filter((text) => text.includes('"nonce"'));
    assert.equal(answered.length, 2, 'hello and challenge went through');
  });

  test('say so where nobody listens', async () => {
    await using a = await withTls('a');
    await using b = await withTls('b');
    await b.peers.close();
    const call = a.peers.call(b.at, message(), options);
    await assert.rejects(call, /host b at \S+ can't be reached: connect ECONNREFUSED/);
  });

  test('let nobody on the way read what they say', async () => {
    await using a = await withTls('a');
    await using b = await withTls('b');
    await using wire = await recorded(b.address);
    const at = { host: b.at.host, address: wire.address };
    const answer = await a.peers.call(at, message('a secret of guests'), options);
    assert.equal(Buffer.from(answer.payload).toString(), 'a secret of guests');
    const seen = Buffer.concat(wire.lines).toString('latin1');
    assert.ok(seen.length > 1000);
    assert.doesNotMatch(seen, /a secret of guests|versions|demo/);
  });

  test('are not begun with files that do not fit', async () => {
    const a = made.of('a');
    for (const tls of [
      { ...a, key: made.read('b.key') },
      { ...a, cert: Buffer.from('no PEM') },
    ])
      await assert.rejects(withTls('a', tls), (error) => {
        assert.ok(isStorageError(error, 'invalid'));
        assert.match(
          error.message,
          /^peers\.tls: found what is no certificate, or not its key; al/,
        );
        return true;
      });
  });
});

/** Speaks TLS to both sides, and passes on what either says. */
async function relayed(to: string) {
  const carried: string[] = [];
  const sockets: TLSSocket[] = [];
  const port = Number(to.split(':').at(-1));
  const tls = { ...made.of('b'), rejectUnauthorized: false };
  const server = createServer({ ...tls, requestCert: true }, (caller) => {
    const called = connectTls({ ...tls, host: '127.0.0.1', port });
    sockets.push(caller, called);
    for (const [from, into] of [
      [caller, called],
      [called, caller],
    ] as const) {
      from.on('data', (chunk: Buffer) => carried.push(chunk.toString()));
      from.on('error', () => {});
      from.on('close', () => into.destroy());
      from.pipe(into);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port: own } = server.address() as { port: number };
  return {
    ...{ carried, address: `127.0.0.1:${own}` },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Somebody with TLS who shows what certificate he likes, and the first that he hears. */
async function stranger(address: string, shown: ConnectionOptions) {
  const port = Number(address.split(':').at(-1));
  const socket = connectTls({
    ...{ host: '127.0.0.1', port, rejectUnauthorized: false },
    ...shown,
  });
  let session: Buffer | undefined;
  let isResumed = false;
  let text = '';
  socket.on('secureConnect', () => (isResumed = socket.isSessionReused()));
  socket.on('session', (given: Buffer) => (session = given));
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
  socket.on('error', (error: NodeJS.ErrnoException) => (text += error.code));
  await new Promise((resolve) => socket.once('close', resolve));
  return { text, session, isResumed };
}

/** Bytes without TLS of our own, and then the end. */
async function sent(address: string, bytes: Uint8Array): Promise<void> {
  const socket = connect({ host: '127.0.0.1', port: Number(address.split(':').at(-1)) });
  socket.on('error', () => {});
  socket.end(bytes);
  socket.resume();
  await new Promise((resolve) => socket.once('close', resolve));
}

describe('a stranger at a host with TLS', { timeout }, () => {
  test('without a certificate hears no more than that, also when he comes again', async () => {
    await using a = await withTls('a');
    const first = await stranger(a.address, {});
    assert.match(first.text, /^\{"refused":"the certificate of the caller can't be verified/);
    assert.ok(first.session);
    const second = await stranger(a.address, { session: first.session });
    assert.match(second.text, /^\{"refused":"the certificate of the caller can't be verified/);
    assert.equal(second.isResumed, false);
  });

  test('with an older TLS is refused', async () => {
    await using a = await withTls('a');
    const { text } = await stranger(a.address, { ...made.of('b'), maxVersion: 'TLSv1.2' });
    assert.match(text, /^ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION|^ECONNRESET/);
  });

  test("who sends anything else, or nothing, is in nobody's way", async () => {
    await using a = await withTls('a');
    await using b = await withTls('b');
    const random = seededRandom(13);
    for (let count = 0; count < 50; count += 1) {
      const bytes = random.bytes(1 + Math.floor(random.fraction() * 3000));
      if (count % 2 === 0) bytes.set([0x16, 0x03, 0x01]);
      await sent(b.address, bytes);
    }
    const port = Number(b.address.split(':').at(-1));
    const idle = Array.from({ length: 80 }, () => connect({ host: '127.0.0.1', port }));
    for (const socket of idle) socket.on('error', () => {});
    await Promise.all(
      idle.map((socket) => new Promise((resolve) => socket.once('connect', resolve))),
    );
    const answer = await a.peers.call(b.at, message('still here'), options);
    assert.equal(Buffer.from(answer.payload).toString(), 'still here');
    for (const socket of idle) socket.destroy();
  });
});
