/**
 * The fallback where the addon can't be built: npm's `fuse-native` (libfuse 2), behind the same
 * `Mount`. It is slower, hands over one request at a time, and serves less; see
 * fuse-native-operations.ts. That somebody else unmounts is not noticed.
 */

import { describeError, StorageError } from '../../core/errors.ts';
import { TaskGroup } from '../../core/task-group.ts';
import type { Clock } from '../../ports/clock.ts';
import type { FileSystem } from '../../ports/file-system.ts';
import type { Log } from '../../ports/log.ts';
import { FuseNativeOperations } from './fuse-native-operations.ts';
import type { Mount } from './mount.ts';
import { abandonMountSync, canonicalMountPoint, mountHost } from './mount.ts';
import { prepareMountPoint } from './mount-point.ts';

type Done = (error?: Error | null) => void;

/** The part of `fuse-native` that is used here. */
interface FuseNative {
  mount(done: Done): void;
  unmount(done: Done): void;
}
type FuseNativeClass = new (
  mountPoint: string,
  operations: object,
  options: Readonly<Record<string, unknown>>,
) => FuseNative;

export interface FallbackDeps {
  readonly fileSystem: FileSystem;
  readonly log: Log;
  /** Without one, a mount that stands there and does not answer is waited for. */
  readonly clock?: Clock;
}

export async function mountFuseNative(
  deps: FallbackDeps,
  path: string,
  source = 'wharf',
): Promise<Mount> {
  const { fileSystem, log, clock } = deps;
  const FuseNativeClass = await loadFuseNative();
  const mountPoint = canonicalMountPoint(path);
  await prepareMountPoint({ host: mountHost(undefined), clock, log }, mountPoint);
  const tasks = new TaskGroup((error) => log.error({ error: describeError(error) }, 'bug'));
  const owner = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
  const operations = new FuseNativeOperations(fileSystem, log, tasks, owner);
  const fuse = new FuseNativeClass(mountPoint, operations, {
    // Its own timer would answer while a request still waits for the backend.
    timeout: false,
    allowOther: true,
    defaultPermissions: true,
    fsname: source,
    subtype: 'wharf',
  });
  await call((done) => fuse.mount(done), `mount of ${mountPoint} by fuse-native`);
  const ended = Promise.withResolvers<void>();
  let unmounting: Promise<void> | undefined;
  const unmount = async () => {
    await call((done) => fuse.unmount(done), `unmount of ${mountPoint}`);
    await tasks.drained();
    ended.resolve();
  };
  return {
    mountPoint,
    transport: 'fuse-native',
    ended: ended.promise,
    unmount: () => (unmounting ??= unmount()),
    detachNow: () => abandonMountSync(mountPoint),
    requestCounts: () => ({}),
    // libfuse 2 can't ask for it by inode; what the kernel believes ends after a second.
    invalidateInode: () => Promise.resolve(),
    invalidateEntry: () => Promise.resolve(),
  };
}

async function loadFuseNative(): Promise<FuseNativeClass> {
  try {
    // By a name that the type checker does not look for: the package is optional.
    const packageName = 'fuse-native';
    return ((await import(packageName)) as { readonly default: FuseNativeClass }).default;
  } catch (cause) {
    const message = 'neither the addon nor the npm package fuse-native is there; run setup.sh';
    throw new StorageError('unsupported', message, { cause });
  }
}

function call(start: (done: Done) => void, what: string): Promise<void> {
  return new Promise((resolve, reject) =>
    start((error) => {
      if (error) reject(new StorageError('failed', `${what}: ${describeError(error)}`));
      else resolve();
    }),
  );
}
