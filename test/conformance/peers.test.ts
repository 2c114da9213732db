import { after } from 'node:test';
import { hostId } from '../../src/core/units.ts';
import type { PeerTls } from '../../src/platform/peers/tls.ts';
import { Certificates } from '../support/certificates.ts';
import { MemoryNetwork } from '../support/memory-peers.ts';
import { tcpHost } from '../support/tcp-world.ts';
import type { PeerWorld } from './peers.ts';
import { peersSuite } from './peers.ts';

async function inMemory(): Promise<PeerWorld> {
  const network = new MemoryNetwork();
  const closing = new AsyncDisposableStack();
  let started = 0;
  return {
    host: async (name, handler = (_, message) => message) => {
      started += 1;
      const address = `${name}:${started}`;
      const peers = network.join(hostId(name), address, handler);
      const at = { host: hostId(name), address };
      return closing.use({ peers, at, [Symbol.asyncDispose]: () => peers.close() });
    },
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

const onTcp = (tls?: PeerTls) => async (): Promise<PeerWorld> => {
  const closing = new AsyncDisposableStack();
  return {
    host: async (name, handler) => closing.use(await tcpHost({ name }, handler, tls)),
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
};

peersSuite('memory', inMemory);
peersSuite('TCP', onTcp());
const made = await Certificates.make('host');
peersSuite('TLS', onTcp(made.of('host')));
after(() => made[Symbol.asyncDispose]());
