/** Mounting and unmounting: what is refused and how, what is cleaned up, who may. */

import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { isStorageError } from '../../../src/core/errors.ts';
import type { ErrorCode } from '../../../src/core/errors.ts';
import { abandonMountSync, isMounted } from '../../../src/frontend/fuse/mount.ts';
import { parseMountInfo } from '../../../src/frontend/fuse/mount-table.ts';
import { FuseDaemon } from '../../support/fuse-daemon-process.ts';
import { TestMount } from '../../support/fuse-mount.ts';
import { MemoryFileSystem } from '../../support/memory-file-system.ts';
import { cannotMount, sh } from '../../support/playground.ts';

const skip = cannotMount;
const refusedWith = (code: ErrorCode, message: RegExp) => (error: unknown) => {
  assert.ok(isStorageError(error, code), String(error));
  assert.match(error.message, message);
  assert.ok(!error.message.includes('\n'));
  return true;
};

describe('a mount point', { skip }, () => {
  test('that is missing, a file or not empty is refused in one line', async () => {
    await using made = new TestMount();
    const start = (mountPoint: string) => made.start(new MemoryFileSystem(), { mountPoint });
    await assert.rejects(start(made.at('none')), refusedWith('not_found', /does not exist/));
    writeFileSync(made.at('file'), '');
    await assert.rejects(start(made.at('file')), refusedWith('not_directory', /not a folder/));
    await assert.rejects(start(made.point), refusedWith('not_empty', /is not empty/));
  });

  test('that is mounted and alive is refused by name, and stays', async () => {
    await using first = await TestMount.of(new MemoryFileSystem());
    await using second = new TestMount();
    const again = second.start(new MemoryFileSystem(), { mountPoint: first.point });
    await assert.rejects(again, refusedWith('busy', /mounted already \(wharf:test, fuse\.wharf\)/));
    await fs.writeFile(first.at('f'), 'still served');
  });

  test('is named without links on the way', async () => {
    await using made = new TestMount();
    await fs.symlink(made.folder, join(made.folder, 'link'));
    const mount = await made.start(new MemoryFileSystem(), {
      mountPoint: join(made.folder, 'link', 'mnt'),
    });
    assert.equal(mount.mountPoint, made.point);
    assert.equal(isMounted(made.point), true);
  });

  test('that killed daemons have left dead, several times, is cleaned at the next start', async () => {
    await using made = new TestMount();
    for (let round = 0; round < 2; round += 1) {
      await using daemon = new FuseDaemon('mount', made.point);
      await daemon.said('ready');
      assert.equal((await fs.readFile(made.at('f.raw'))).length, 4096);
      await daemon.end('SIGKILL');
      await assert.rejects(fs.statfs(made.point), { code: 'ENOTCONN' });
    }
    await made.start(new MemoryFileSystem());
    await fs.writeFile(made.at('f'), 'alive');
    assert.equal(made.log.lines[0]?.message, 'mount of a dead process is taken away');
    await made.mount?.unmount();
    assert.equal(isMounted(made.point), false);
  });

  test('that is dead, but of another file system, is left alone', async () => {
    await using made = new TestMount();
    const fd = openSync('/dev/fuse', 'r+');
    const options = `fd=${fd},rootmode=40000,user_id=0,group_id=0`;
    assert.equal(made.native.mount('other', made.point, 'fuse.other', 0, options), 0);
    closeSync(fd);
    await assert.rejects(made.start(new MemoryFileSystem()), refusedWith('busy', /fuse\.other/));
  });

  test('is given up at once by a process that has to end', async () => {
    await using made = await TestMount.of(new MemoryFileSystem());
    abandonMountSync(made.point, made.native);
    assert.equal(isMounted(made.point), false);
    abandonMountSync(made.point, made.native);
  });
});

describe('a mount', { skip }, () => {
  test('is shown with its source, type and options', async () => {
    await using made = await TestMount.of(new MemoryFileSystem());
    const mounts = parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8'));
    const own = mounts.find(({ mountPoint }) => mountPoint === made.point);
    assert.deepEqual(own, { mountPoint: made.point, type: 'fuse.wharf', source: 'wharf:test' });
  });

  test('that stays busy is detached after a while, and its users see errors', async () => {
    await using made = await TestMount.of(new MemoryFileSystem());
    await fs.writeFile(made.at('f.raw'), 'x');
    const file = await fs.open(made.at('f.raw'));
    await made.mount?.unmount();
    assert.equal(isMounted(made.point), false);
    await assert.rejects(file.read(Buffer.alloc(1), 0, 1, 0), { code: /ENOTCONN|ECONNABORTED/ });
    await file.close().catch(() => {});
    assert.ok(made.log.lines.some(({ message }) => message.startsWith('mount stays busy')));
  });

  test('answers what is under way before it ends', async () => {
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    const { promise: reading, resolve: started } = Promise.withResolvers<void>();
    class SlowFileSystem extends MemoryFileSystem {
      override async read(...args: Parameters<MemoryFileSystem['read']>): Promise<number> {
        started();
        await gate;
        return super.read(...args);
      }
    }
    await using made = await TestMount.of(new SlowFileSystem());
    await fs.writeFile(made.at('f.raw'), 'answered');
    const file = await fs.open(made.at('f.raw'));
    const read = file.read(Buffer.alloc(8), 0, 8, 0);
    await reading;
    const unmounting = made.mount?.unmount();
    open();
    assert.equal((await read).buffer.toString(), 'answered');
    await file.close();
    await unmounting;
  });

  test('that somebody else unmounts ends by itself, and unmounting it again is no error', async () => {
    await using made = await TestMount.of(new MemoryFileSystem());
    await sh('umount', made.point);
    await made.mount?.ended;
    await made.mount?.unmount();
    assert.deepEqual(
      made.log.lines.filter(({ level }) => level === 'error'),
      [],
    );
  });

  test('of a user without rights is made by fusermount3', async () => {
    await using made = new TestMount();
    const nobody = 65534;
    chmodSync(made.folder, 0o755);
    mkdirSync(join(made.folder, 'own'));
    chownSync(join(made.folder, 'own'), nobody, nobody);
    await using daemon = new FuseDaemon('mount', join(made.folder, 'own'), { uid: nobody });
    await daemon.said('ready');
    const mounts = parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8'));
    const own = mounts.find(({ mountPoint }) => mountPoint === join(made.folder, 'own'));
    assert.deepEqual([own?.type, own?.source], ['fuse.wharf', 'wharf:test']);
    assert.equal(await daemon.end('SIGTERM'), 0);
    assert.equal(isMounted(join(made.folder, 'own')), false);
  });

  test('whose descriptor somebody holds outlives its daemon: the next one answers', async () => {
    await using made = new TestMount();
    const fd = openSync('/dev/fuse', 'r+');
    const options = `fd=${fd},rootmode=40000,user_id=0,group_id=0,allow_other`;
    assert.equal(made.native.mount('wharf:held', made.point, 'fuse.wharf', 0, options), 0);
    await using greeter = new FuseDaemon('greet', made.point, { fd });
    await greeter.said('ready');
    await greeter.end('SIGKILL');
    await using silent = new FuseDaemon('silent', made.point, { fd });
    await silent.said('ready');
    const read = sh('head', '-c', '5', made.at('f.raw'));
    await silent.said('reading');
    await silent.end('SIGKILL');
    await using next = new FuseDaemon('resume', made.point, { fd });
    assert.equal(await read, 'f.raw');
    await next.said('ready');
    closeSync(fd);
    assert.equal(await next.end('SIGTERM'), 0);
    assert.equal(isMounted(made.point), false);
  });
});
