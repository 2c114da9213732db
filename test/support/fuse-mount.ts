/** A real mount of a file system in a temporary folder, taken away when it is disposed of. */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Mount, MountSettings } from '../../src/frontend/fuse/mount.ts';
import { abandonMountSync, mountFuse } from '../../src/frontend/fuse/mount.ts';
import type { Native } from '../../src/platform/native.ts';
import { loadNative } from '../../src/platform/native.ts';
import { systemClock } from '../../src/platform/system-clock.ts';
import type { FileSystem } from '../../src/ports/file-system.ts';
import { quietLog } from './quiet-log.ts';

export const mountSettings = {
  source: 'wharf:test',
  transport: 'device',
  requestsMax: 64,
  pollMicroseconds: 50,
} as const;

export const belief = { timeoutMs: () => 1000, changeCount: () => 0 };

export function nativeOrThrow(): Native {
  const loaded = loadNative();
  if (!loaded.native) throw new Error(loaded.reason);
  return loaded.native;
}

export class TestMount implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'wharf-fuse-'));
  readonly point = join(this.folder, 'mnt');
  readonly log = quietLog();
  readonly native = nativeOrThrow();
  mount: Mount | undefined;

  constructor() {
    mkdirSync(this.point);
  }

  static async of(fileSystem: FileSystem, settings: Partial<MountSettings> = {}) {
    const made = new TestMount();
    try {
      await made.start(fileSystem, settings);
    } catch (error) {
      await made[Symbol.asyncDispose]();
      throw error;
    }
    return made;
  }

  async start(fileSystem: FileSystem, settings: Partial<MountSettings> = {}): Promise<Mount> {
    const { native, log } = this;
    const deps = { native, fileSystem, belief, log, clock: systemClock(native) };
    const mountPoint = this.point;
    this.mount = await mountFuse(deps, { ...mountSettings, mountPoint, ...settings });
    return this.mount;
  }

  at(...parts: string[]): string {
    return join(this.point, ...parts);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.mount?.unmount();
    abandonMountSync(this.point, this.native);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
