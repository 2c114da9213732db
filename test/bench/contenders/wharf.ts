/** The product: a daemon of one host, with a disk on its mount. */

import * as fs from 'node:fs/promises';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { SettingsInput } from '../../../src/daemon/settings.ts';
import { Daemon } from '../../support/daemon.ts';
import type { Metrics } from '../metrics.ts';
import { metricsOf } from '../metrics.ts';
import type { Contender, Place } from './contender.ts';
import { makeFile } from './contender.ts';

const diskName = 'disk.raw';

export class Wharf implements Contender {
  readonly daemon: Daemon;
  readonly #data: string;
  readonly #diskBytes: number;

  private constructor({ folder, diskBytes }: Place, settings: Partial<SettingsInput>) {
    this.#diskBytes = diskBytes;
    this.#data = join(folder, 'data');
    const backend = { kind: 'dir', path: join(folder, 'store') } as const;
    const alone = { replica: { mode: 'none' } } as const;
    this.daemon = new Daemon({ backend, data: this.#data, ...alone, ...settings });
  }

  /** Settings are the defaults where nothing else is said. */
  static async start(place: Place, settings: Partial<SettingsInput> = {}): Promise<Wharf> {
    const wharf = new Wharf(place, settings);
    try {
      await wharf.daemon.start();
      await makeFile(wharf.disk.file, place.diskBytes);
      return wharf;
    } catch (error) {
      await wharf[Symbol.asyncDispose]();
      throw error;
    }
  }

  get disk(): { readonly file: string } {
    return { file: this.daemon.at(diskName) };
  }

  settle(): Promise<void> {
    return this.daemon.sync(`/${diskName}`);
  }

  /** Nothing was ever written to the disk from now on. */
  async renewDisk(): Promise<void> {
    await fs.unlink(this.disk.file);
    await makeFile(this.disk.file, this.#diskBytes);
  }

  /** Of the admin API, about the disk. */
  async ask<T>(method: 'GET' | 'POST', what: string): Promise<T> {
    const query = new URLSearchParams({ path: `/${diskName}` }).toString();
    const response = await fetch(`${this.daemon.admin}/v1/${what}?${query}`, { method });
    if (!response.ok) throw new Error(`${what}: ${await response.text()}`);
    return (await response.json()) as T;
  }

  metrics(): Promise<Metrics> {
    return metricsOf(this.daemon.admin);
  }

  /** Started anew, with nothing in its read cache. */
  async restartEmptied(): Promise<void> {
    await this.settle();
    await this.daemon.end('SIGTERM');
    rmSync(join(this.#data, 'cache'), { recursive: true });
    await this.daemon.start();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.daemon[Symbol.asyncDispose]();
  }
}
