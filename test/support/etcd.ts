/**
 * An etcd cluster of three members, from Debian's package, on free ports in a folder of its own: on
 * loopback, or on another host of the test (see networks.ts).
 */

import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/platform/system-clock.ts';
import type { EtcdSettings } from '../../src/registry/etcd-client.ts';
import { EtcdRegistry } from '../../src/registry/etcd-registry.ts';
import { freePorts, run, Servers } from './servers.ts';

export const etcdMissing: string | false = existsSync('/usr/bin/etcd') ? false : 'no etcd-server';

const names = ['one', 'two', 'three'] as const;

/** Where the members run. */
interface Place {
  readonly address: string;
  /** What a command line begins with, to run there. */
  readonly enter: readonly string[];
}

const loopback: Place = { address: '127.0.0.1', enter: [] };

/** Prints what a server answers. */
const postScript = `
const [, url, body] = process.argv;
const response = await fetch(url, { method: 'POST', body, signal: AbortSignal.timeout(5000) });
process.stdout.write(await response.text());
process.exitCode = response.ok ? 0 : 1;
`;

const base64 = (text: string) => Buffer.from(text).toString('base64');

export class EtcdCluster implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'wharf-etcd-'));
  readonly #servers = new Servers();
  readonly #members: (ChildProcess | undefined)[] = [];
  readonly #extra: readonly string[];
  readonly #scheme: string;
  readonly #place: Place;
  #clients: readonly number[] = [];
  #peers: readonly number[] = [];

  private constructor(scheme: string, extra: readonly string[], place: Place) {
    this.#scheme = scheme;
    this.#extra = extra;
    this.#place = place;
  }

  static async start(
    scheme = 'http',
    extra: readonly string[] = [],
    place: Place = loopback,
  ): Promise<EtcdCluster> {
    const cluster = new EtcdCluster(scheme, extra, place);
    try {
      const ports = await freePorts(6);
      cluster.#clients = ports.slice(0, 3);
      cluster.#peers = ports.slice(3);
      await cluster.startAll();
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  get endpoints(): string[] {
    return this.#clients.map((port) => `${this.#scheme}://${this.#place.address}:${port}`);
  }

  async startAll(): Promise<void> {
    for (const index of names.keys()) this.#start(index);
    // The gateway asks for no certificate of ours where TLS is on: see untilUp.
    if (this.#scheme === 'http') await this.#servers.until('etcd', () => this.leader());
  }

  /** Where TLS is on: resolves when it serves who comes with this. */
  async untilUp(tls: NonNullable<EtcdSettings['tls']>): Promise<void> {
    await this.#servers.until('etcd', async () => {
      const settings = { endpoints: this.endpoints, tls };
      await (await EtcdRegistry.open(settings, systemClock(undefined))).close();
    });
  }

  async stopAll(): Promise<void> {
    for (const index of names.keys()) await this.kill(index);
  }

  /** Goes on with the data that it had when it was killed. */
  restart(index: number): void {
    this.#start(index);
  }

  async kill(index: number): Promise<void> {
    const member = this.#members[index];
    if (!member || member.exitCode !== null || member.signalCode !== null) return;
    const closed = new Promise((resolve) => member.once('close', resolve));
    member.kill('SIGKILL');
    await closed;
  }

  /** The index of the member that leads; throws while none does. */
  async leader(): Promise<number> {
    for (const [index, endpoint] of this.endpoints.entries()) {
      const status = await this.call('maintenance/status', {}, endpoint).catch(() => undefined);
      if (status?.['leader'] === undefined) continue;
      const header = status['header'] as { member_id: string };
      if (header.member_id === status['leader']) return index;
    }
    throw new Error('no leader');
  }

  /** Through etcd's HTTP gateway. */
  async call(
    path: string,
    body: object,
    endpoint = this.endpoints[0] ?? '',
  ): Promise<Record<string, unknown>> {
    const url = `${endpoint}/v3/${path}`;
    if (this.#place !== loopback) return this.#callThere(url, body);
    const response = await fetch(url, {
      method: 'POST',
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(5000),
    });
    const answer = (await response.json()) as Record<string, unknown>;
    if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`);
    return answer;
  }

  async #callThere(url: string, body: object): Promise<Record<string, unknown>> {
    const script = ['--input-type=module', '-e', postScript, '--', url, JSON.stringify(body)];
    const [command = '', ...argv] = [...this.#place.enter, process.execPath, ...script];
    return JSON.parse((await run(command, argv)).stdout) as Record<string, unknown>;
  }

  /** Deletes all that Wharf has written. */
  async wipe(): Promise<void> {
    await this.call('kv/deleterange', { key: base64('wharf/'), range_end: base64('wharf0') });
  }

  async compact(): Promise<void> {
    const { header } = await this.call('kv/put', { key: base64('another'), value: '' });
    await this.call('kv/compaction', { revision: (header as { revision: string }).revision });
  }

  #start(index: number): void {
    const name = names[index] ?? '';
    const { address, enter } = this.#place;
    const [command, ...rest] = [...enter, 'etcd'];
    const client = `${this.#scheme}://${address}:${this.#clients[index]}`;
    const peer = `http://${address}:${this.#peers[index]}`;
    const all = names.map((each, at) => `${each}=http://${address}:${this.#peers[at]}`).join();
    this.#members[index] = this.#servers.start(
      command,
      ...[...rest, '--name', name, '--data-dir', join(this.folder, name)],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
      ...['--initial-cluster', all, '--initial-cluster-token', this.folder],
      ...this.#extra,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#servers[Symbol.asyncDispose]();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
