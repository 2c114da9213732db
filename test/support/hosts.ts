/**
 * Two hosts of one vPool, each a daemon that a test may stop, kill or cut off: one object store,
 * etcd with three members, and a disk that users of either mount write and check all the while.
 */

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Daemon } from './daemon.ts';
import { EtcdCluster } from './etcd.ts';
import { MountUser } from './mount-user.ts';
import { Networks } from './networks.ts';
import { Load, StampedDisk } from './stamped-disk.ts';

const diskName = 'disk.raw';
/** In the vPool. */
export const diskPath = `/${diskName}`;
const diskBlocks = 1024;
const peerPort = 7000;
export const lease = { timeMs: 4000, marginMs: 1500 } as const;
/** Small, so that every trouble meets cuts, segments, commits and checkpoints on their way. */
const settings = {
  lease: { time: `${lease.timeMs}ms`, margin: `${lease.marginMs}ms` },
  volumes: {
    ...{ journalFile: '4MiB', journalMax: '1GiB', segment: '256KiB', cut: '512KiB' },
    ...{ destageDelay: '50ms', checkpointDelay: '100ms', tailSegments: 8, deltaBlocks: 1024 },
  },
} as const;

export interface HostsOptions {
  /** With networks that can be cut, or on loopback. */
  readonly network: 'cuttable' | 'loopback';
  /** From 0 to 1. */
  readonly random: () => number;
}

export type Users = readonly [atA: MountUser, atB: MountUser];

export class Hosts implements AsyncDisposable {
  readonly disk: StampedDisk;
  readonly load: Load;
  readonly #folder = mkdtempSync(join(tmpdir(), 'wharf-hosts-'));
  readonly #closing = new AsyncDisposableStack();
  readonly #key = randomBytes(32).toString('hex');
  readonly #options: HostsOptions;
  #networks: Networks | undefined;
  #etcd: EtcdCluster | undefined;
  #daemons: readonly Daemon[] = [];

  private constructor(options: HostsOptions) {
    this.#options = options;
    this.#closing.defer(() => rmSync(this.#folder, { recursive: true, force: true }));
    this.disk = new StampedDisk(diskBlocks, options.random);
    this.load = new Load(this.disk);
  }

  /** The first one has made the disk, and owns it. */
  static async start(options: HostsOptions): Promise<Hosts> {
    const hosts = new Hosts(options);
    try {
      await hosts.#start();
      return hosts;
    } catch (error) {
      await hosts[Symbol.asyncDispose]();
      throw error;
    }
  }

  get a(): Daemon {
    return this.#daemons[0] as Daemon;
  }

  get b(): Daemon {
    return this.#daemons[1] as Daemon;
  }

  get networks(): Networks {
    return this.#networks as Networks;
  }

  /** A user of the disk at this host's mount. */
  async user(host: Daemon): Promise<MountUser> {
    return this.#closing.use(await MountUser.of(host.at(diskName)));
  }

  /** Both read and write all the while. */
  async useBoth(): Promise<Users> {
    const users: Users = [await this.user(this.a), await this.user(this.b)];
    for (const user of users) this.load.start(user);
    await Promise.all(users.map((user) => this.load.progress(user)));
    return users;
  }

  /** Both go on, and then all is there, at either mount. */
  async goOn(users: Users): Promise<void> {
    await Promise.all(users.map((user) => this.load.progress(user)));
    await this.load.stop();
    for (const user of users) await this.disk.check(user);
  }

  /** Waits until the disk's owner has a complete copy on the other host. */
  async hasCopy(): Promise<void> {
    await this.a.until('there is a copy', async () => {
      const found = await this.a.wharf<{ replica?: string }>('vdisk', 'show', diskPath);
      return found.replica !== undefined;
    });
  }

  async ownerBy(host: Daemon): Promise<string> {
    return (await host.wharf<{ owner: string }>('vdisk', 'show', diskPath)).owner;
  }

  async #start(): Promise<void> {
    const isCuttable = this.#options.network === 'cuttable';
    if (isCuttable) this.#networks = this.#closing.use(await Networks.make('a', 'b', 'etcd'));
    const place = this.#networks && {
      address: this.#networks.address('etcd', 'registry'),
      enter: this.#networks.enter('etcd'),
    };
    this.#etcd = this.#closing.use(await EtcdCluster.start('http', [], place));
    this.#daemons = ['a', 'b'].map((id) => this.#daemon(id));
    for (const daemon of this.#daemons) await daemon.start();
    const disk = await fs.open(this.a.at(diskName), 'w');
    await disk.truncate(this.disk.bytes);
    await disk.close();
  }

  #daemon(host: string): Daemon {
    const networks = this.#networks;
    const listen = networks
      ? { listen: `${networks.address(host, 'peers')}:${peerPort}` }
      : undefined;
    const daemon = new Daemon(
      {
        ...{ ...settings, host },
        registry: { etcd: { endpoints: this.#etcd?.endpoints ?? [] } },
        backend: { kind: 'dir', path: join(this.#folder, 'store') },
        peers: { key: this.#key, ...listen },
      },
      networks?.enter(host),
    );
    return this.#closing.use(daemon);
  }

  /** Daemons before users, whose calls would hang. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#daemons.map((daemon) => daemon.end('SIGKILL')));
    await this.#closing.disposeAsync();
  }
}
