/**
 * Mounts a file system: mount(2) as root, fusermount3 otherwise. What a dead process left mounted
 * at the same place is taken away first; what lives there is left alone and named.
 */

import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { describeError, StorageError } from '../../core/errors.ts';
import { limits } from '../../core/limits.ts';
import { within } from '../../core/within.ts';
import type { Ino } from '../../core/units.ts';
import { errnoName } from '../../platform/errno.ts';
import type { Native } from '../../platform/native.ts';
import type { Clock } from '../../ports/clock.ts';
import type { FileSystem } from '../../ports/file-system.ts';
import type { Log } from '../../ports/log.ts';
import type { FileLocks } from '../file-locks.ts';
import type { Belief } from './call.ts';
import type { MountHost, MountPointDeps } from './mount-point.ts';
import { mountedAt, mountType, prepareMountPoint, probe } from './mount-point.ts';
import type { MountRecord } from './mount-table.ts';
import { allowsOthers, escapeOption, parseMountInfo } from './mount-table.ts';
import type { KernelWords } from './ring-plan.ts';
import { enableUringPath, planRing } from './ring-plan.ts';
import type { SessionSettings } from './session.ts';
import { FuseSession } from './session.ts';

const devicePath = '/dev/fuse';
const fuseConfPath = '/etc/fuse.conf';
const processorsPath = '/sys/devices/system/cpu/possible';
const mountFlags = { readOnly: 1, noSuid: 2, noDevices: 4 } as const;
const detachFlag = 2;
const unmountAttempts = 20;
const unmountPauseMs = 100;
/** How long requests that are under way at the end are waited for. */
const drainMsMax = 10_000;

export interface MountSettings extends Omit<SessionSettings, 'ring'> {
  readonly mountPoint: string;
  /** `ring`: io_uring where the kernel has it, else the device. */
  readonly transport: 'device' | 'ring';
  /** What `df` and /proc/mounts show. */
  readonly source: string;
  /** The kernel then refuses changes with EROFS by itself. */
  readonly isReadOnly?: boolean;
}

export interface Mount {
  readonly mountPoint: string;
  /** What carries its requests, and why where that is not what was asked for: for people. */
  readonly transport: string;
  /** Resolves when the mount is no longer served, by `unmount` or by somebody else. */
  readonly ended: Promise<void>;
  /**
   * Unmounts, answering what the kernel still sends, and resolves when all is answered. A mount
   * that stays busy is detached after a bounded time, and its users see errors. Idempotent.
   */
  unmount(): Promise<void>;
  /** For a process that is about to end for a bad reason: no dead mount stays behind. */
  detachNow(): void;
  /** Requests that came so far, by the name of what they ask. */
  requestCounts(): Readonly<Record<string, number>>;
  /**
   * The kernel forgets what it has of a file, or of a name. Resolves after the requests on it that
   * are under way, so no request may wait for this.
   */
  invalidateInode(ino: Ino, what: 'all' | 'attributes'): Promise<void>;
  invalidateEntry(parent: Ino, name: string): Promise<void>;
}

export interface MountDeps {
  readonly native: Native;
  readonly fileSystem: FileSystem;
  readonly locks?: FileLocks;
  readonly belief: Belief;
  readonly clock: Clock;
  readonly log: Log;
}

export async function mountFuse(deps: MountDeps, settings: MountSettings): Promise<Mount> {
  const { native } = deps;
  const host = mountHost(native);
  const mountPoint = canonicalMountPoint(settings.mountPoint);
  await prepareMountPoint({ ...deps, host }, mountPoint);
  const fd = isRoot()
    ? mountAsRoot(native, settings, mountPoint)
    : await mountAsUser(deps, settings, mountPoint);
  // Opening the device has loaded the module, if need be: it says now what it can.
  const ring =
    settings.transport === 'ring' ? planRing(readKernelWords(), settings.requestsMax) : undefined;
  const session = new FuseSession(deps, { ...settings, ring }, fd, 'new');
  try {
    await session.started;
  } catch (error) {
    await host.detach(mountPoint);
    session.close();
    throw new StorageError('failed', `mount of ${mountPoint} failed: ${describeError(error)}`);
  }
  return mountOf({ ...deps, host }, session, mountPoint);
}

/**
 * Serves a mount whose descriptor somebody else holds: a `new` one is greeted by the kernel, of a
 * `resumed` one another process was killed, and what that left unanswered comes again. Such a
 * mount is always served over the device: what a daemon has got over the ring does not come again.
 */
export async function serveFuse(
  deps: MountDeps,
  settings: MountSettings,
  { fd, kind }: { readonly fd: number; readonly kind: 'new' | 'resumed' },
): Promise<Mount> {
  const session = new FuseSession(deps, settings, fd, kind);
  if (kind === 'resumed') await session.resend();
  await session.started;
  const host = mountHost(deps.native);
  return mountOf({ ...deps, host }, session, canonicalMountPoint(settings.mountPoint));
}

type ServingDeps = MountPointDeps & { readonly native: Native; readonly clock: Clock };

function mountOf(deps: ServingDeps, session: FuseSession, mountPoint: string): Mount {
  let unmounting: Promise<void> | undefined;
  return {
    mountPoint,
    transport: session.transport,
    ended: session.ended,
    unmount: () => (unmounting ??= unmount(deps, session, mountPoint)),
    detachNow() {
      // What lives there after the session has ended is somebody else's.
      const isOurs = !session.hasEnded || isDeadNow(mountPoint);
      // An unmount would wait here for requests that only this thread can take from the ring.
      session.close();
      if (isOurs) abandonMountSync(mountPoint, deps.native);
    },
    requestCounts: () => session.requestCounts(),
    invalidateInode: (ino, what) => session.invalidateInode(ino, what),
    invalidateEntry: (parent, name) => session.invalidateEntry(parent, name),
  };
}

async function unmount(deps: ServingDeps, session: FuseSession, mountPoint: string): Promise<void> {
  const { host, clock, log } = deps;
  for (let attempt = 1; await isStillOurs(deps, session, mountPoint); attempt += 1) {
    const error = await host.unmount(mountPoint);
    if (error === undefined) continue;
    if (error !== 'EBUSY' || attempt >= unmountAttempts) {
      log.warn({ mountPoint, error }, 'mount stays busy and is detached; its users see errors');
      await host.detach(mountPoint);
      break;
    }
    if (attempt === 1) log.warn({ mountPoint }, 'mount is busy; waiting for its users');
    await clock.sleep(unmountPauseMs);
  }
  if ((await within(clock, drainMsMax, session.drain())) === 'late') {
    const requests = session.underWay;
    log.warn({ mountPoint, requests }, 'requests wait for what does not come; they get an error');
  }
  session.close();
}

/** A session that has ended may have left a dead mount; a living one there is somebody else's. */
async function isStillOurs(
  deps: ServingDeps,
  session: FuseSession,
  mountPoint: string,
): Promise<boolean> {
  if (mountedAt(deps.host, mountPoint)?.type !== mountType) return false;
  return !session.hasEnded || (await probe(deps, mountPoint)) === 'dead';
}

/** Whether something is mounted right there, alive or dead. */
export function isMounted(mountPoint: string): boolean {
  return readMounts().some((mount) => mount.mountPoint === mountPoint);
}

/** Takes a mount out of the tree, whatever its state, without waiting: for the last moment. */
export function abandonMountSync(mountPoint: string, native?: Native): void {
  if (native?.unmountNow(mountPoint, detachFlag) === 0) return;
  spawnSync('fusermount3', ['-u', '-z', '--', mountPoint], { stdio: 'ignore' });
}

/** Without links on the way, as the kernel names it. What is mounted there may be dead. */
export function canonicalMountPoint(path: string): string {
  const absolute = resolve(path);
  try {
    return join(fs.realpathSync(dirname(absolute)), basename(absolute));
  } catch {
    return absolute;
  }
}

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

function readKernelWords(): KernelWords {
  const read = (path: string) => {
    try {
      return fs.readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  };
  return { enableUring: read(enableUringPath), processors: read(processorsPath) };
}

function readMounts(): MountRecord[] {
  return parseMountInfo(fs.readFileSync('/proc/self/mountinfo', 'utf8'));
}

function isDeadNow(path: string): boolean {
  try {
    fs.statfsSync(path);
    return false;
  } catch (error) {
    return codeOf(error) === 'ENOTCONN';
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'EIO';
}

/** The machine; without the addon, fusermount3 does what umount2(2) would. */
export function mountHost(native: Native | undefined): MountHost {
  const direct = isRoot() ? native : undefined;
  return {
    hasDevice: () => fs.existsSync(devicePath),
    mounts: readMounts,
    async statfs(path) {
      try {
        await fs.promises.statfs(path);
        return undefined;
      } catch (error) {
        return codeOf(error);
      }
    },
    async stat(path) {
      try {
        return { isFolder: (await fs.promises.stat(path)).isDirectory() };
      } catch (error) {
        return codeOf(error);
      }
    },
    list(path) {
      try {
        return fs.readdirSync(path);
      } catch (error) {
        return codeOf(error);
      }
    },
    async unmount(mountPoint) {
      // fusermount3 does not tell its reasons apart.
      if (!direct) return (await runFusermount(['-u', '--', mountPoint])) && 'EBUSY';
      const status = await direct.unmountLater(mountPoint, 0);
      return status === 0 ? undefined : errnoName(-status);
    },
    async detach(mountPoint) {
      if (direct) await direct.unmountLater(mountPoint, detachFlag);
      else await runFusermount(['-u', '-z', '--', mountPoint]);
    },
  };
}

const commonOptions = ['default_permissions', `max_read=${limits.requestBytesMax}`];

function mountAsRoot(
  native: Native,
  { source, isReadOnly = false }: MountSettings,
  mountPoint: string,
): number {
  let fd: number;
  try {
    fd = fs.openSync(devicePath, 'r+');
  } catch (error) {
    throw new StorageError('not_permitted', `${devicePath} can't be opened: ${codeOf(error)}`);
  }
  const owner = `user_id=${process.geteuid?.() ?? 0},group_id=${process.getegid?.() ?? 0}`;
  const text = [`fd=${fd},rootmode=40000`, owner, 'allow_other', ...commonOptions].join(',');
  const flags = mountFlags.noSuid | mountFlags.noDevices | (isReadOnly ? mountFlags.readOnly : 0);
  const status = native.mount(source, mountPoint, mountType, flags, text);
  if (status === 0) return fd;
  fs.closeSync(fd);
  const name = errnoName(-status);
  throw new StorageError('not_permitted', `mount of ${mountPoint} is refused: ${name}`);
}

/** fusermount3 opens the device, mounts, and sends the descriptor back over a socket. */
async function mountAsUser(
  { native, log }: MountDeps,
  { source, isReadOnly = false }: MountSettings,
  mountPoint: string,
): Promise<number> {
  const pair = native.socketPair();
  if (typeof pair === 'number')
    throw new StorageError('failed', `no sockets for fusermount3: ${errnoName(-pair)}`);
  const [ours, theirs] = pair;
  try {
    const names = [`fsname=${escapeOption(source)}`, 'subtype=wharf'];
    const access = isReadOnly ? ['ro'] : [];
    const options = [...commonOptions, ...otherUsers(log), ...access, ...names].join(',');
    const failure = await runFusermount(['-o', options, '--', mountPoint], theirs);
    const fd = failure ? -1 : native.receiveDescriptor(ours);
    if (fd >= 0) return fd;
    const why = failure ?? errnoName(-fd);
    throw new StorageError('not_permitted', `mount of ${mountPoint} is refused: ${why}`);
  } finally {
    fs.closeSync(ours);
    fs.closeSync(theirs);
  }
}

/** Where the administrator does not let users share their mounts, the mount is its user's own. */
function otherUsers(log: Log): string[] {
  let conf = '';
  try {
    conf = fs.readFileSync(fuseConfPath, 'utf8');
  } catch {
    // Without the file nothing is allowed.
  }
  if (allowsOthers(conf)) return ['allow_other'];
  log.warn({ file: fuseConfPath }, 'mount is for its user alone: user_allow_other is not set');
  return [];
}

/** Gives what it complained of, or nothing when it succeeded. */
function runFusermount(argv: readonly string[], socket?: number): Promise<string | undefined> {
  const { promise, resolve: settle } = Promise.withResolvers<string | undefined>();
  const child = spawn('fusermount3', argv, {
    stdio: ['ignore', 'ignore', 'pipe', ...(socket === undefined ? [] : [socket])],
    env: { ...process.env, ...(socket !== undefined && { _FUSE_COMMFD: '3' }) },
  });
  let complaint = '';
  child.stderr?.on('data', (text: Buffer) => (complaint += text.toString()));
  child.on('error', (error) => settle(`fusermount3 can't be run: ${codeOf(error)}`));
  child.on('close', (code) =>
    settle(code === 0 ? undefined : complaint.trim().replaceAll('\n', '; ') || `status ${code}`),
  );
  return promise;
}
