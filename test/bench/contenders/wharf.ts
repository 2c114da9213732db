/** The product: a daemon of one host, with a disk on its mount. */

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

  private constructor({ folder }: Place, settings: Partial<SettingsInput>) {
    const data = join(folder, 'data');
    const backend = { kind: 'dir', path: join(folder, 'store') } as const;
    const alone = { replica: { mode: 'none' } } as const;
    this.daemon = new Daemon({ backend, data, ...alone, ...settings });
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

  metrics(): Promise<Metrics> {
    return metricsOf(this.daemon.admin);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.daemon[Symbol.asyncDispose]();
  }
}
