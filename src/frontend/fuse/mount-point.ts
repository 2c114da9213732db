/**
 * Looks after the place where a file system is mounted: what stands there, what may, and the dead
 * mount that a killed process has left. It touches the machine through `MountHost` alone.
 */

import { StorageError } from '../../core/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { MountRecord } from './mount-table.ts';

export const mountType = 'fuse.wharf';
/** How long a mount may take to show that it lives. */
const answerMsMax = 2000;
/** A process may have been killed several times, and mounted over its own dead mount. */
const deadMountsMax = 16;

export interface MountHost {
  hasDevice(): boolean;
  mounts(): readonly MountRecord[];
  /**
   * statfs(2), or an errno name. Unlike attributes its answer is never cached, so that a dead
   * mount shows at once.
   */
  statfs(path: string): Promise<string | undefined>;
  /** An errno name where stat(2) fails. */
  stat(path: string): Promise<{ readonly isFolder: boolean } | string>;
  /** Entries of a folder, or an errno name. */
  list(path: string): readonly string[] | string;
  /** What went wrong, where anything did: `EBUSY` may get better. */
  unmount(mountPoint: string): Promise<string | undefined>;
  /** Takes a mount out of the tree at once, busy or not. */
  detach(mountPoint: string): Promise<void>;
}

export interface MountPointDeps {
  readonly host: MountHost;
  /** Without one, a mount that does not answer is waited for. */
  readonly clock: Clock | undefined;
  readonly log: Log;
}

/** What is mounted right there, alive or dead. */
export function mountedAt(host: MountHost, mountPoint: string): MountRecord | undefined {
  return host.mounts().findLast((mount) => mount.mountPoint === mountPoint);
}

/** `silent`: it neither answers nor is it known to be dead. */
export async function probe(
  { host, clock }: Pick<MountPointDeps, 'host' | 'clock'>,
  mountPoint: string,
): Promise<'alive' | 'dead' | 'silent'> {
  const answered = host
    .statfs(mountPoint)
    .then((error) => (error === 'ENOTCONN' ? ('dead' as const) : ('alive' as const)));
  if (clock === undefined) return answered;
  const enough = new AbortController();
  const late = clock.sleep(answerMsMax, { signal: enough.signal }).then(
    () => 'silent' as const,
    () => 'silent' as const,
  );
  const outcome = await Promise.race([answered, late]);
  enough.abort();
  return outcome;
}

/** Makes sure that `mountPoint` can be mounted on, or throws one line that says why not. */
export async function prepareMountPoint(deps: MountPointDeps, mountPoint: string): Promise<void> {
  const { host } = deps;
  if (!host.hasDevice())
    throw new StorageError('unsupported', '/dev/fuse is missing: load the kernel module `fuse`');
  await clearDeadMounts(deps, mountPoint);
  const found = await host.stat(mountPoint);
  if (found === 'ENOENT')
    throw new StorageError('not_found', `mount point ${mountPoint} does not exist`);
  if (typeof found === 'string')
    throw new StorageError('access_denied', `mount point ${mountPoint} can't be used: ${found}`);
  if (!found.isFolder)
    throw new StorageError('not_directory', `mount point ${mountPoint} is not a folder`);
  const entries = host.list(mountPoint);
  if (typeof entries === 'string')
    throw new StorageError('access_denied', `mount point ${mountPoint} can't be read: ${entries}`);
  if (entries.length > 0)
    throw new StorageError('not_empty', `mount point ${mountPoint} is not empty`);
}

async function clearDeadMounts(deps: MountPointDeps, mountPoint: string): Promise<void> {
  const { host, log } = deps;
  for (let count = 0; count <= deadMountsMax; count += 1) {
    const mounted = mountedAt(host, mountPoint);
    if (mounted === undefined) return;
    const what = `${mounted.source}, ${mounted.type}`;
    const state = await probe(deps, mountPoint);
    if (state === 'silent')
      throw new StorageError('busy', `${mountPoint} is mounted and does not answer (${what})`);
    if (state === 'alive' || mounted.type !== mountType)
      throw new StorageError('busy', `${mountPoint} is mounted already (${what})`);
    log.warn({ mountPoint, source: mounted.source }, 'mount of a dead process is taken away');
    await host.detach(mountPoint);
  }
  throw new StorageError('busy', `a dead mount stays at ${mountPoint}: unmount it by hand`);
}
