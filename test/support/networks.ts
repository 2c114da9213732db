/**
 * Hosts as network namespaces. Each has a place on two networks, which are bridges in a namespace
 * of their own, so that it can be cut from its peers, from the registry, or from both; nothing of
 * it is seen from outside. A host that is cut is not told: what it sends is lost.
 *
 *   peers      10.77.1.N     the hosts
 *   registry   10.77.2.N     the hosts, and the members of etcd in a namespace of their own
 *
 * Only the network differs: a program that is started by `enter` sees the files and the mounts of
 * all others.
 */

import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename } from 'node:path';
import { run } from './servers.ts';

const subnets = { peers: '10.77.1', registry: '10.77.2' } as const;
const networks = Object.keys(subnets) as NetworkName[];

export type NetworkName = keyof typeof subnets;

export const networksMissing: string | false = ['/sbin/ip', '/bin/ip'].some((path) =>
  existsSync(path),
)
  ? false
  : 'no iproute2';

export class Networks implements AsyncDisposable {
  /** By the folder of the test run, so that what is left behind is known (see test/leaks.ts). */
  readonly #prefix = `${basename(tmpdir())}-${randomBytes(4).toString('hex')}`;
  readonly #hosts: readonly string[];
  readonly #made: string[] = [];

  private constructor(hosts: readonly string[]) {
    this.#hosts = hosts;
  }

  static async make(...hosts: readonly string[]): Promise<Networks> {
    const made = new Networks(hosts);
    try {
      await made.#make();
      return made;
    } catch (error) {
      await made[Symbol.asyncDispose]();
      throw error;
    }
  }

  address(host: string, network: NetworkName): string {
    return `${subnets[network]}.${this.#hosts.indexOf(host) + 1}`;
  }

  /** What a command line begins with, to run on a host. The process stays the one that is started. */
  enter(host: string): readonly string[] {
    return ['nsenter', `--net=/run/netns/${this.#namespace(host)}`];
  }

  async cut(host: string, ...from: readonly NetworkName[]): Promise<void> {
    for (const network of from) await this.#set(host, network, 'down');
  }

  async mend(host: string): Promise<void> {
    for (const network of networks) await this.#set(host, network, 'up');
  }

  /** What `from` sends to `to` is lost, and what `to` sends arrives. */
  async lose(from: string, to: string, network: NetworkName): Promise<void> {
    // It goes to an address of the link that nobody has.
    const nobody = ['lladdr', '02:00:00:00:00:00', 'nud', 'permanent'];
    await this.#neighbour('replace', { from, to, network }, ...nobody);
  }

  async deliver(from: string, to: string, network: NetworkName): Promise<void> {
    await this.#neighbour('delete', { from, to, network });
  }

  #neighbour(
    verb: 'replace' | 'delete',
    { from, to, network }: { from: string; to: string; network: NetworkName },
    ...more: readonly string[]
  ) {
    const what = [this.address(to, network), 'dev', network, ...more];
    return ip('-n', this.#namespace(from), 'neighbour', verb, ...what);
  }

  /** The end at the bridge: the host keeps its address and its connections. */
  #set(host: string, network: NetworkName, state: 'up' | 'down') {
    return ip('-n', this.#bridges, 'link', 'set', `${network}-${host}`, state);
  }

  get #bridges(): string {
    return `${this.#prefix}-bridges`;
  }

  #namespace(host: string): string {
    return `${this.#prefix}-${host}`;
  }

  async #make(): Promise<void> {
    await this.#add(this.#bridges);
    for (const network of networks) {
      await ip('-n', this.#bridges, 'link', 'add', network, 'type', 'bridge');
      await ip('-n', this.#bridges, 'link', 'set', network, 'up');
    }
    for (const host of this.#hosts) {
      const namespace = this.#namespace(host);
      await this.#add(namespace);
      await ip('-n', namespace, 'link', 'set', 'lo', 'up');
      for (const network of networks) await this.#connect(host, network);
    }
  }

  async #connect(host: string, network: NetworkName): Promise<void> {
    const namespace = this.#namespace(host);
    const link = ['link', 'add', `${network}-${host}`, 'master', network, 'type', 'veth'];
    await ip('-n', this.#bridges, ...link, 'peer', 'name', network, 'netns', namespace);
    const address = `${this.address(host, network)}/24`;
    await ip('-n', namespace, 'address', 'add', address, 'dev', network);
    await ip('-n', namespace, 'link', 'set', network, 'up');
    await this.#set(host, network, 'up');
  }

  async #add(namespace: string): Promise<void> {
    await ip('netns', 'add', namespace);
    this.#made.push(namespace);
  }

  /** After the processes in them have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const namespace of this.#made) await ip('netns', 'delete', namespace);
  }
}

const ip = (...argv: readonly string[]) => run('ip', [...argv]);
