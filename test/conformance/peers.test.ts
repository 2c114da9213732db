import { hostId } from '../../src/core/units.ts';
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

async function onTcp(): Promise<PeerWorld> {
  const closing = new AsyncDisposableStack();
  return {
    host: async (name, handler) => closing.use(await tcpHost({ name }, handler)),
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

peersSuite('memory', inMemory);
peersSuite('TCP', onTcp);
