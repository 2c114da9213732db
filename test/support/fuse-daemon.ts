/**
 * A process that serves a memory file system, so that a test can kill it:
 *
 *   fuse-daemon.ts mount POINT          mounts it
 *   fuse-daemon.ts greet POINT          serves descriptor 4, which another process has mounted
 *   fuse-daemon.ts resume POINT         goes on with it where a daemon was killed
 *   fuse-daemon.ts silent POINT         the same, but never answers a read
 *   fuse-daemon.ts ring POINT           mounts it over io_uring, and never answers a read
 *
 * It holds one file `f.raw` of 4096 bytes. Says `ready` when it serves. A third argument is the
 * user that it becomes when its code is loaded, which that user need not be able to read.
 */

import type { Eventually } from '../../src/core/eventually.ts';
import type { Ino } from '../../src/core/units.ts';
import type { Mount } from '../../src/frontend/fuse/mount.ts';
import { mountFuse, serveFuse } from '../../src/frontend/fuse/mount.ts';
import { systemClock } from '../../src/platform/system-clock.ts';
import { belief, mountSettings, nativeOrThrow } from './fuse-mount.ts';
import { MemoryFileSystem } from './memory-file-system.ts';
import { quietLog } from './quiet-log.ts';

const [how = '', mountPoint = '', uid] = process.argv.slice(2);

class ToldFileSystem extends MemoryFileSystem {
  override read(ino: Ino, offset: number, into: Uint8Array): Eventually<number> {
    if (how !== 'silent' && how !== 'ring') return super.read(ino, offset, into);
    process.stdout.write('reading\n');
    return new Promise<number>(() => {});
  }
}

const fileSystem = new ToldFileSystem();
const root = { uid: 0, gid: 0 };
const { ino } = await fileSystem.make(1 as Ino, 'f.raw', { type: 'file', mode: 0o644 }, root);
await fileSystem.write(ino, 0, Buffer.alloc(4096, 'f.raw'));

const native = nativeOrThrow();
if (uid !== undefined) {
  process.setgroups?.([]);
  process.setgid?.(Number(uid));
  process.setuid?.(Number(uid));
}
const deps = { native, fileSystem, belief, log: quietLog(), clock: systemClock(native) };
const settings = { ...mountSettings, mountPoint };
const inheritedDescriptor = 4;

async function start(): Promise<Mount> {
  if (how === 'mount') return mountFuse(deps, settings);
  if (how === 'ring') return mountFuse(deps, { ...settings, transport: 'ring' });
  const kind = how === 'greet' ? 'new' : 'resumed';
  return serveFuse(deps, settings, { fd: inheritedDescriptor, kind });
}

const mount = await start();
process.on('SIGTERM', () => void mount.unmount().then(() => process.exit(0)));
process.stdout.write(`ready ${mount.transport}\n`);
