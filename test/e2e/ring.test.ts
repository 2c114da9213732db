/** A daemon whose mount goes over io_uring, under what programs and administrators do to it. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { Daemon } from '../support/daemon.ts';
import { Locker } from '../support/locker.ts';
import { sh } from '../support/playground.ts';
import { cannotRing, RingSwitch } from '../support/ring-switch.ts';
import { noSystemCalls } from '../support/system-calls.ts';

const ring = { fuse: { transport: 'ring' } } as const;
const MiB = 1024 * 1024;

const fio = (path: string, ...argv: string[]) =>
  sh('fio', '--name=ring', `--filename=${path}`, '--verify_state_save=0', ...argv);

describe('a daemon over io_uring', { skip: cannotRing || noSystemCalls }, () => {
  let held: RingSwitch;
  let daemon: Daemon;
  before(async () => {
    held = await RingSwitch.turn('on');
    daemon = new Daemon(ring);
    await daemon.start();
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
    await held[Symbol.asyncDispose]();
  });

  test('says so', async () => {
    assert.equal((await daemon.status<{ transport: string }>()).transport, 'io_uring');
    assert.equal((await daemon.wharf<{ transport: string }>('status')).transport, 'io_uring');
  });

  test('reads what was written, in requests of all sizes, many at once', async () => {
    const always = ['--direct=1', '--ioengine=io_uring', '--iodepth=32', '--verify=crc32c'];
    const sizes = ['--rw=randwrite', '--bsrange=4k-1m', '--size=64m'];
    await fio(daemon.at('deep.raw'), ...always, ...sizes);
    const writers = ['--numjobs=4', '--offset_increment=16m', '--size=16m', '--rw=randwrite'];
    await fio(daemon.at('wide.raw'), ...always, ...writers, '--bs=4k', '--group_reporting');
    const buffered = ['--ioengine=psync', '--rw=randwrite', '--bsrange=512-100k', '--bs_unaligned'];
    await fio(daemon.at('small.bin'), ...buffered, '--size=8m', '--verify=crc32c', '--end_fsync=1');
  });

  test('lets locks be waited for, and a signal end the wait', async () => {
    await fs.writeFile(daemon.at('locked'), 'x');
    await using first = new Locker();
    await using second = new Locker();
    for (const locker of [first, second]) await locker.open(daemon.at('locked'));
    for (const kind of ['posix', 'ofd', 'flock'] as const) {
      await first.lock({ kind, type: 'write' });
      const interrupted = await second.lock({ kind, type: 'write', wait: true, alarm: 0.3 });
      assert.equal(interrupted, 'EINTR');
      const waits = second.lock({ kind, type: 'write', wait: true });
      assert.equal(await fs.readFile(daemon.at('locked'), 'utf8'), 'x');
      await first.lock({ kind, type: 'none' });
      assert.equal(await waits, 'done');
      await second.lock({ kind, type: 'none' });
    }
  });

  test('stops cleanly under load, and serves again', async () => {
    const path = daemon.at('stopped.raw');
    const writes = async () =>
      (await daemon.status<{ requests: Record<string, number> }>()).requests['write'] ?? 0;
    await fs.writeFile(path, Buffer.alloc(16 * MiB, 1));
    const before = await writes();
    const load = fio(
      ...[path, '--rw=randrw', '--bs=4k', '--size=16m', '--direct=1', '--ioengine=io_uring'],
      ...['--iodepth=16', '--time_based=1', '--runtime=60', '--allow_file_create=0'],
    ).catch(() => {});
    await daemon.until('fio writes', async () => (await writes()) > before + 100);
    assert.equal(await daemon.end('SIGTERM'), 0);
    await load;
    await daemon.start();
    assert.equal((await fs.stat(path)).size, 16 * MiB);
    await fs.readFile(path);
  });
});

test('what programs do to files is the same over io_uring', {
  skip: cannotRing || noSystemCalls,
}, async () => {
  await using _ = await RingSwitch.turn('on');
  const { NODE_TEST_CONTEXT: _context, ...environment } = process.env;
  const file = join(import.meta.dirname, 'file-operations.test.ts');
  const env = { ...environment, WHARF_TEST_TRANSPORT: 'ring' };
  const argv = ['--test', '--test-reporter=tap', file];
  const { stdout } = await promisify(execFile)(process.execPath, argv, { env });
  assert.match(stdout, /^# fail 0$/m);
});

test('a daemon for which there is no io_uring serves, and says what to do', {
  skip: cannotRing,
}, async () => {
  await using _ = await RingSwitch.turn('off');
  await using daemon = new Daemon(ring);
  await daemon.start();
  const { transport } = await daemon.wharf<{ transport: string }>('status');
  assert.match(transport, /^\/dev\/fuse \(no io_uring: switched off .*echo Y > \/sys\/module/);
  await fs.writeFile(daemon.at('f'), 'served');
});
