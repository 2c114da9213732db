/**
 * Three hosts of one vPool on this machine: daemons with mounts, three members of etcd, an S3 server.
 * In network namespaces where that is possible, on loopback otherwise, where nothing can be cut.
 */

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { SettingsInput } from '../../src/daemon/settings.ts';
import { EtcdCluster } from '../support/etcd.ts';
import { Networks, networksMissing } from '../support/networks.ts';
import { freePorts } from '../support/servers.ts';
import type { Chronicle } from './chronicle.ts';
import { Host } from './host.ts';
import type { HostName } from './plan.ts';
import { hostNames, leaseMs } from './plan.ts';
import type { Stalls } from './stalls.ts';
import { Store } from './store.ts';

const vpool = 'demo';
const peerPort = 7000;
const storePort = 9000;
/** s3rver's own. */
const storeKey = 'S3RVER';
/** Small, so that every trouble meets cuts, segments, commits and checkpoints on their way. */
const settings = {
  vpool,
  lease: { time: `${leaseMs}ms`, margin: '1500ms' },
  registryCopy: { delay: '2s' },
  files: { writeBackDelay: '200ms' },
  cache: { size: '8MiB' },
  // A disk follows its writer, who is not fast.
  handover: { reads: 100, writes: 15, coolDown: '1s' },
  volumes: {
    ...{ journalFile: '4MiB', journalMax: '16MiB', segment: '256KiB', cut: '512KiB' },
    ...{ destageDelay: '200ms', checkpointDelay: '500ms', tailSegments: 8, deltaBlocks: 1024 },
  },
} as const satisfies Partial<SettingsInput>;

export class Cluster implements AsyncDisposable {
  readonly #closing = new AsyncDisposableStack();
  readonly #hosts = new Map<HostName, Host>();
  networks: Networks | undefined;
  #etcd: EtcdCluster | undefined;
  #store: Store | undefined;

  static async start(chronicle: Chronicle, stalls: Stalls): Promise<Cluster> {
    const cluster = new Cluster();
    try {
      await cluster.#start(chronicle, stalls);
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  get hosts(): readonly Host[] {
    return hostNames.map((name) => this.host(name));
  }

  host(name: HostName): Host {
    return this.#hosts.get(name) as Host;
  }

  get etcd(): EtcdCluster {
    return this.#etcd as EtcdCluster;
  }

  get store(): Store {
    return this.#store as Store;
  }

  async #start(chronicle: Chronicle, stalls: Stalls): Promise<void> {
    if (networksMissing === false)
      this.networks = this.#closing.use(await Networks.make(...hostNames, 'etcd', 'store'));
    const { networks } = this;
    const etcdPlace = networks && {
      address: networks.address('etcd', 'registry'),
      enter: networks.enter('etcd'),
    };
    this.#etcd = this.#closing.use(await EtcdCluster.start('http', [], etcdPlace));
    this.#store = this.#closing.use(
      new Store({
        address: networks?.address('store', 'registry') ?? '127.0.0.1',
        port: networks ? storePort : ((await freePorts(1))[0] as number),
        folder: join(chronicle.folder, 'store'),
        enter: networks?.enter('store') ?? [],
      }),
    );
    await this.#store.start();
    // As daemons find them.
    process.env['AWS_ACCESS_KEY_ID'] = storeKey;
    process.env['AWS_SECRET_ACCESS_KEY'] = storeKey;
    const key = randomBytes(32).toString('hex');
    for (const name of hostNames) {
      const listen = networks && { listen: `${networks.address(name, 'peers')}:${peerPort}` };
      const host = await Host.make({
        ...{ name, chronicle, stalls, enter: networks?.enter(name) ?? [] },
        settings: {
          ...settings,
          registry: { etcd: { endpoints: this.#etcd.endpoints } },
          backend: { kind: 's3', endpoint: this.#store.endpoint },
          peers: { key, ...listen },
        },
      });
      this.#hosts.set(name, host);
      this.#closing.use(host);
      await host.start();
    }
  }

  /** All daemons first: whoever waits for one of them is let go. */
  async [Symbol.asyncDispose](): Promise<void> {
    const hosts = [...this.#hosts.values()];
    for (const host of hosts) host.close();
    await Promise.all(hosts.map((host) => host.end()));
    await this.#closing.disposeAsync();
  }
}
