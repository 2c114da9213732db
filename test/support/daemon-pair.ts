/** Two daemons of one vPool, each with settings and a kernel's mount of its own. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SettingsInput } from '../../src/daemon/settings.ts';
import { Daemon } from './daemon.ts';

export class DaemonPair implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'wharf-pair-'));
  readonly registry = join(this.#folder, 'registry.sqlite');
  readonly a: Daemon;
  readonly b: Daemon;

  constructor(settings: Partial<SettingsInput>) {
    const shared = {
      registry: { sqlite: this.registry },
      backend: { kind: 'dir', path: join(this.#folder, 'store') },
      peers: { key: '5a'.repeat(32) },
    } as const;
    this.a = new Daemon({ ...shared, ...settings, host: 'a' });
    this.b = new Daemon({ ...shared, ...settings, host: 'b' });
  }

  async start(): Promise<void> {
    await this.a.start();
    await this.b.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.a[Symbol.asyncDispose]();
    await this.b[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
