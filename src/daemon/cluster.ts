/** This host among the others: its place on the network, and its lease in the registry. */

import type { HostPorts } from './host-ports.ts';
import type { Settings } from './settings.ts';
import { writeTime } from './units.ts';
import type { Disposer } from '../core/disposer.ts';
import { hostId } from '../core/units.ts';
import { fingerprintOf } from '../platform/peers/handshake.ts';
import type { PeerHandler } from '../ports/peers.ts';
import type { Random } from '../ports/random.ts';
import type { Registry } from '../ports/registry.ts';
import { HostRecords } from '../registry/host-records.ts';
import { Membership } from '../router/members/membership.ts';
import type { SharedSettings } from '../registry/shared-settings.ts';

const idBytes = 8;

export interface ClusterDeps {
  readonly ports: Pick<HostPorts, 'clock' | 'random' | 'log' | 'process' | 'listen'>;
  readonly registry: Registry;
  readonly vpool: string;
  /** Of the folder on the SSD. */
  readonly data: string;
}

/** Listens and joins. Requests of other hosts wait until somebody serves them. */
export async function joinCluster(deps: ClusterDeps, settings: Settings, closing: Disposer) {
  const { ports, registry, vpool, data } = deps;
  const { clock, random, log } = ports;
  const host = hostId(settings.host);
  const instance = hex(random, idBytes);
  const served = Promise.withResolvers<PeerHandler>();
  let handle: PeerHandler = async (from, message) => (await served.promise)(from, message);
  const serve = (handler: PeerHandler) => {
    handle = handler;
    served.resolve(handler);
  };
  const key = Buffer.from(settings.peers.key ?? hex(random, 32), 'hex');
  const identity = { host, instance, vpool, key };
  const peers = await ports.listen(identity, (from, message) => handle(from, message));
  closing.defer(() => peers.close());
  const hosts = new HostRecords(registry);
  const { address } = peers;
  const { mount, domain } = settings;
  const where = { address, mount, pid: ports.process.pid, ...(domain !== undefined && { domain }) };
  const shared = sharedSettings(settings, key);
  const record = { id: host, instance, data, ...where, shared };
  const lease = { ttlMs: settings.lease.time, marginMs: settings.lease.margin };
  const membership = await Membership.join({ registry, hosts, clock, log, record }, lease);
  closing.defer(() => membership.leave());
  return { host, peers, hosts, membership, serve };
}

/** The kind of backend comes first: with another one, its place is not worth a word. */
function sharedSettings(
  { peers, backend, lease, files }: Settings,
  key: Uint8Array,
): SharedSettings {
  const written = {
    'peers.tls': peers.tls ? 'some' : 'none',
    'backend.kind': backend.kind,
    ...(backend.kind === 'dir'
      ? { 'backend.path': backend.path }
      : { 'backend.endpoint': new URL(backend.endpoint).href }),
    'backend.layout': backend.layout,
    'lease.time': writeTime(lease.time),
    'lease.margin': writeTime(lease.margin),
    'files.volumeNames': [...files.volumeNames].sort(),
  };
  const texts = Object.entries(written).map(([name, value]) => [name, JSON.stringify(value)]);
  return { 'peers.key': fingerprintOf(key), ...(Object.fromEntries(texts) as SharedSettings) };
}

const hex = (random: Random, count: number) => Buffer.from(random.bytes(count)).toString('hex');
