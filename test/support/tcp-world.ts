/** Hosts of one test that speak over TCP on loopback. */

import { hostId } from '../../src/core/units.ts';
import { tableChecksum } from '../../src/platform/checksum.ts';
import type { PeerIdentity } from '../../src/platform/peers/handshake.ts';
import { TcpPeers } from '../../src/platform/peers/tcp-peers.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { systemClock } from '../../src/platform/system-clock.ts';
import type { PeerHandler } from '../../src/ports/peers.ts';
import { quietLog } from './quiet-log.ts';

const key = new Uint8Array(32).fill(7);
const echo: PeerHandler = (_from, message) => message;

export async function tcpHost(
  { name, ...rest }: Partial<PeerIdentity> & { readonly name: string },
  handler: PeerHandler = echo,
) {
  const log = quietLog();
  const identity = { host: hostId(name), instance: `${name}1`, vpool: 'demo', key, ...rest };
  const deps = { checksum: tableChecksum(), clock: systemClock(undefined), random: systemRandom() };
  const peers = await TcpPeers.listen({ identity, log, ...deps }, '127.0.0.1:0', handler);
  const { address } = peers;
  return {
    ...{ peers, log, address, at: { host: hostId(name), address } },
    [Symbol.asyncDispose]: () => peers.close(),
  };
}
