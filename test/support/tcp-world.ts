/** Hosts of one test that speak over TCP on loopback. */

import { connect, createServer, type Server, type Socket } from 'node:net';
import { hostId } from '../../src/core/units.ts';
import { tableChecksum } from '../../src/platform/checksum.ts';
import { loadNative } from '../../src/platform/native.ts';
import type { PeerIdentity } from '../../src/platform/peers/handshake.ts';
import { TcpPeers } from '../../src/platform/peers/tcp-peers.ts';
import type { PeerTls } from '../../src/platform/peers/tls.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { systemClock } from '../../src/platform/system-clock.ts';
import type { PeerHandler } from '../../src/ports/peers.ts';
import { quietLog } from './quiet-log.ts';

const key = new Uint8Array(32).fill(7);
const addon = loadNative().native;
const echo: PeerHandler = (_from, message) => message;

export async function tcpHost(
  {
    name,
    wires = 'of the addon',
    ...rest
  }: Partial<PeerIdentity> & {
    readonly name: string;
    /** What its connections are. */
    readonly wires?: 'of the addon' | 'of Node';
  },
  handler: PeerHandler = echo,
  tls?: PeerTls,
) {
  const log = quietLog();
  const native = wires === 'of the addon' ? addon : undefined;
  const identity = { host: hostId(name), instance: `${name}1`, vpool: 'demo', key, ...rest };
  const deps = {
    ...{ identity, log, native, checksum: tableChecksum(), random: systemRandom() },
    ...{ clock: systemClock(undefined), ...(tls && { tls }) },
  };
  const peers = await TcpPeers.listen(deps, '127.0.0.1:0', handler);
  const { address } = peers;
  return {
    ...{ peers, log, address, at: { host: hostId(name), address } },
    [Symbol.asyncDispose]: () => peers.close(),
  };
}

/** All that a server answers to what is said, until it ends the connection. */
export function said(address: string, ...lines: readonly (string | Uint8Array)[]): Promise<string> {
  const port = Number(address.split(':').at(-1));
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    let text = '';
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
    for (const line of lines) socket.write(line);
  });
}

/** Passes all that two peers say to each other on, and keeps it; what the caller says can be held. */
export async function recorded(to: string) {
  const lines: Buffer[] = [];
  const sockets = new Set<Socket>();
  const callers = new Set<Socket>();
  const port = Number(to.split(':').at(-1));
  const server: Server = createServer((caller) => {
    const called = connect({ host: '127.0.0.1', port });
    callers.add(caller);
    for (const socket of [caller, called]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        caller.destroy();
        called.destroy();
      });
    }
    caller.on('data', (chunk: Buffer) => lines.push(chunk));
    caller.pipe(called);
    called.pipe(caller);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port: own } = server.address() as { port: number };
  return {
    ...{ address: `127.0.0.1:${own}`, lines },
    hold: () => callers.forEach((caller) => caller.pause()),
    goOn: () => callers.forEach((caller) => caller.resume()),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
