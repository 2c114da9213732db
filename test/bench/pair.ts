/** Two hosts of one vPool for a bench: etcd, one object store, and a disk that `a` has made. */

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SettingsInput } from '../../src/daemon/settings.ts';
import { Daemon } from '../support/daemon.ts';
import { EtcdCluster } from '../support/etcd.ts';
import { onSignals } from './on-signals.ts';

export const diskName = 'disk.raw';

/** Objects move when they are told to, and not otherwise. */
export const stayPut = { handover: { reads: 0, writes: 0 } } as const;

export class Pair implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'wharf-bench-'));
  readonly #closing = new AsyncDisposableStack();
  #daemons: readonly Daemon[] = [];
  #ended: Promise<void> | undefined;

  private constructor() {
    this.#closing.defer(() => rmSync(this.#folder, { recursive: true, force: true }));
    this.#closing.use(onSignals(() => void this[Symbol.asyncDispose]()));
  }

  static async start(settings: Partial<SettingsInput> = {}): Promise<Pair> {
    const pair = new Pair();
    try {
      await pair.#start(settings);
      return pair;
    } catch (error) {
      await pair[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Folder of the object store. */
  get store(): string {
    return join(this.#folder, 'store');
  }

  get a(): Daemon {
    return this.#daemons[0] as Daemon;
  }

  get b(): Daemon {
    return this.#daemons[1] as Daemon;
  }

  /** Of `bytes`, without a block written, by `a`. */
  async makeDisk(bytes: number): Promise<void> {
    await fs.writeFile(this.a.at(diskName), '');
    await fs.truncate(this.a.at(diskName), bytes);
  }

  /** Of the admin API, about the disk. */
  async ask<T>(method: 'GET' | 'POST', what: string, more: Record<string, string> = {}) {
    const query = new URLSearchParams({ path: `/${diskName}`, ...more });
    const response = await fetch(`${this.b.admin}/v1/${what}?${query.toString()}`, { method });
    if (!response.ok) throw new Error(`${what}: ${await response.text()}`);
    return (await response.json()) as T;
  }

  async #start(settings: Partial<SettingsInput>): Promise<void> {
    const etcd = this.#closing.use(await EtcdCluster.start());
    const shared: Partial<SettingsInput> = {
      registry: { etcd: { endpoints: etcd.endpoints } },
      backend: { kind: 'dir', path: this.store },
      peers: { key: randomBytes(32).toString('hex') },
      ...settings,
    };
    this.#daemons = ['a', 'b'].map((host) => this.#closing.use(new Daemon({ ...shared, host })));
    for (const daemon of this.#daemons) await daemon.start();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#ended ??= this.#end();
    return this.#ended;
  }

  async #end(): Promise<void> {
    await Promise.all(this.#daemons.map((daemon) => daemon.end('SIGKILL')));
    await this.#closing.disposeAsync();
  }
}
