/**
 * Mounts a file system: mount(2) as root, fusermount3 otherwise. What a dead process left mounted
 * at the same place is taken away first; what lives there is left alone and named.
 */

import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { describeError, StorageError } from '../../core/errors.ts';
import { limits } from '../../core/limits.ts';
import { errnoName } from '../../platform/errno.ts';
import type { Native } from '../../platform/native.ts';
import type { Clock } from '../../ports/clock.ts';
import type { FileSystem } from '../../ports/file-system.ts';
import type { Log } from '../../ports/log.ts';
import type { SessionSettings } from './session.ts';
import { FuseSession } from './session.ts';

const devicePath = '/dev/fuse';
const mountType = 'fuse.wharf';
const mountFlags = { noSuid: 2, noDevices: 4 } as const;
const detachFlag = 2;
const ebusy = 16;
const unmountAttempts = 20;
const unmountPauseMs = 100;

export interface MountSettings extends SessionSettings {
  readonly mountPoint: string;
  /** What `df` and /proc/mounts show. */
  readonly source: string;
}

export interface Mount {
  readonly mountPoint: string;
  /** Resolves when the kernel has let go, by `unmount` or by somebody else. */
  readonly ended: Promise<void>;
  /** Unmounts, answering what the kernel still sends; detaches where the mount stays busy. */
  unmount(): Promise<void>;
  /** For a process that is about to end for a bad reason: no dead mount stays behind. */
  detachNow(): void;
}

export interface MountDeps {
  readonly native: Native;
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly log: Log;
}

export async function mountFuse(deps: MountDeps, settings: MountSettings): Promise<Mount> {
  const { native, log, clock } = deps;
  const { mountPoint } = settings;
  await prepareMountPoint(native, log, mountPoint);
  const isRoot = process.getuid?.() === 0;
  const fd = isRoot ? mountAsRoot(native, settings) : await mountAsUser(native, settings);
  const session = new FuseSession(native, deps.fileSystem, log, fd, settings);
  try {
    await session.started;
  } catch (error) {
    native.unmountNow(mountPoint, detachFlag);
    throw new StorageError('failed', `mount of ${mountPoint} failed: ${describeError(error)}`);
  }
  return {
    mountPoint,
    ended: session.ended,
    async unmount() {
      for (let attempt = 1; ; attempt += 1) {
        const status = isRoot
          ? await native.unmountLater(mountPoint, 0)
          : await runFusermount(['-u', mountPoint]);
        if (status === 0 || !isMounted(mountPoint)) return session.ended;
        if (attempt === unmountAttempts || (isRoot && status !== -ebusy)) break;
        if (attempt === 1) log.warn({ mountPoint }, 'mount is busy; waiting for its users');
        await clock.sleep(unmountPauseMs);
      }
      log.warn({ mountPoint }, 'mount stays busy and is detached; its users see errors');
      if (isRoot) await native.unmountLater(mountPoint, detachFlag);
      else await runFusermount(['-u', '-z', mountPoint]);
    },
    detachNow() {
      native.unmountNow(mountPoint, detachFlag);
    },
  };
}

/** Whether something is mounted right there, alive or dead. */
export function isMounted(mountPoint: string): boolean {
  return mountTypeAt(mountPoint) !== undefined;
}

function mountTypeAt(mountPoint: string): string | undefined {
  const lines = fs.readFileSync('/proc/self/mountinfo', 'utf8').trimEnd().split('\n');
  const types = lines.flatMap((line) => {
    const [left = '', right = ''] = line.split(' - ');
    const point = (left.split(' ')[4] ?? '').replace(/\\(\d{3})/g, (_, octal: string) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    );
    return point === mountPoint ? [right.split(' ')[0] ?? ''] : [];
  });
  return types.at(-1);
}

async function prepareMountPoint(native: Native, log: Log, mountPoint: string): Promise<void> {
  if (!fs.existsSync(devicePath))
    throw new StorageError('unsupported', `${devicePath} is missing: load the fuse module`);
  const mounted = mountTypeAt(mountPoint);
  if (mounted !== undefined) {
    if (mounted !== mountType || !(await isDead(mountPoint)))
      throw new StorageError('busy', `${mountPoint} is mounted already (${mounted})`);
    log.warn({ mountPoint }, 'mount of a dead process is taken away');
    if (native.unmountNow(mountPoint, detachFlag) !== 0)
      await runFusermount(['-u', '-z', mountPoint]);
  }
  const stat = fs.statSync(mountPoint, { throwIfNoEntry: false });
  if (stat === undefined)
    throw new StorageError('not_found', `mount point ${mountPoint} does not exist`);
  if (!stat.isDirectory())
    throw new StorageError('not_directory', `mount point ${mountPoint} is not a folder`);
  if (fs.readdirSync(mountPoint).length > 0)
    throw new StorageError('not_empty', `mount point ${mountPoint} is not empty`);
}

/** A mount whose process is gone answers ENOTCONN. */
async function isDead(mountPoint: string): Promise<boolean> {
  try {
    await fs.promises.stat(mountPoint);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOTCONN';
  }
}

function options(): string[] {
  return ['allow_other', 'default_permissions', `max_read=${limits.requestBytesMax}`];
}

function mountAsRoot(native: Native, settings: MountSettings): number {
  const fd = fs.openSync(devicePath, 'r+');
  const text = [
    `fd=${fd},rootmode=40000,user_id=${process.getuid?.() ?? 0},group_id=${process.getgid?.() ?? 0}`,
    ...options(),
  ].join(',');
  const flags = mountFlags.noSuid | mountFlags.noDevices;
  const status = native.mount(settings.source, settings.mountPoint, mountType, flags, text);
  if (status === 0) return fd;
  fs.closeSync(fd);
  throw new StorageError(
    'not_permitted',
    `mount of ${settings.mountPoint} failed: ${errnoName(-status)}`,
  );
}

/** fusermount3 opens the device, mounts, and sends the descriptor back over a socket. */
async function mountAsUser(native: Native, settings: MountSettings): Promise<number> {
  const pair = native.socketPair();
  if (typeof pair === 'number') throw new StorageError('failed', 'no sockets for fusermount3');
  const [ours, theirs] = pair;
  const text = [...options(), `fsname=${settings.source}`, 'subtype=wharf'].join(',');
  const status = await runFusermount(['-o', text, '--', settings.mountPoint], theirs);
  fs.closeSync(theirs);
  const fd = status === 0 ? native.receiveDescriptor(ours) : -1;
  fs.closeSync(ours);
  if (fd >= 0) return fd;
  throw new StorageError(
    'not_permitted',
    `fusermount3 could not mount ${settings.mountPoint}; without root, user_allow_other must ` +
      'stand in /etc/fuse.conf',
  );
}

function runFusermount(argv: readonly string[], socket?: number): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const child = spawn('fusermount3', argv, {
    stdio: ['ignore', 'ignore', 'inherit', ...(socket === undefined ? [] : [socket])],
    env: { ...process.env, _FUSE_COMMFD: '3' },
  });
  child.on('error', () => resolve(-1));
  child.on('exit', (code) => resolve(code ?? -1));
  return promise;
}
