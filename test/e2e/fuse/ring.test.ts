/** FUSE over io_uring: that it carries all that the device does, how it ends, what it falls back to. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { availableParallelism, constants } from 'node:os';
import { after, before, describe, test } from 'node:test';
import { slotBytes } from '../../../src/frontend/fuse/call.ts';
import type { Mount } from '../../../src/frontend/fuse/mount.ts';
import { isMounted, mountFuse } from '../../../src/frontend/fuse/mount.ts';
import { KiB, MiB } from '../../../src/core/units.ts';
import type { Native, NativeDevice } from '../../../src/platform/native.ts';
import { systemClock } from '../../../src/platform/system-clock.ts';
import { FuseDaemon } from '../../support/fuse-daemon-process.ts';
import { belief, mountSettings, TestMount } from '../../support/fuse-mount.ts';
import { MemoryFileSystem } from '../../support/memory-file-system.ts';
import { sh } from '../../support/playground.ts';
import { cannotRing, RingSwitch } from '../../support/ring-switch.ts';
import { getAttribute, setAttribute } from '../../support/system-calls.ts';

const forceFlag = 1;
const ring = { transport: 'ring' } as const;

// These tests serve the files that they use: none starts a program while it has one open, because
// the program's beginning closes it, which this process would have to answer while it waits for that.

/** Reads wait at a gate. */
class GatedFileSystem extends MemoryFileSystem {
  readonly #gate = Promise.withResolvers<void>();
  readonly #wanted: { readonly count: number; readonly resolve: () => void }[] = [];
  waiting = 0;
  waitingMax = 0;

  override async read(...args: Parameters<MemoryFileSystem['read']>): Promise<number> {
    this.waiting += 1;
    this.waitingMax = Math.max(this.waitingMax, this.waiting);
    for (const { count, resolve } of this.#wanted) if (this.waiting >= count) resolve();
    await this.#gate.promise;
    this.waiting -= 1;
    return super.read(...args);
  }

  /** Resolves when so many reads wait. */
  waits(count: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    if (this.waiting >= count) resolve();
    this.#wanted.push({ count, resolve });
    return promise;
  }

  openGate(): void {
    this.#gate.resolve();
  }
}

/** Until the process waits for an answer of FUSE; the loop does not turn meanwhile. */
function awaitRequestOf(pid: number): void {
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  const deadline = performance.now() + 10_000;
  while (!/request_wait|fuse/.test(readFileSync(`/proc/${pid}/wchan`, 'utf8'))) {
    assert.ok(performance.now() < deadline, 'the process asks FUSE nothing');
    Atomics.wait(sleeper, 0, 0, 2);
  }
}

/** Of this process's largest piece of memory: the slots. */
function residentSlotBytes(slotCount: number): number {
  const pieces = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const found = pieces.find((piece) => kibibytes(piece, 'Size') === (slotCount * slotBytes) / KiB);
  assert.ok(found !== undefined, 'the slots are one piece of memory');
  return kibibytes(found, 'Rss') * KiB;
}

const kibibytes = (piece: string, field: string) =>
  Number(new RegExp(`^${field}: +(\\d+) kB`, 'm').exec(piece)?.[1]);

describe('a mount over io_uring', { skip: cannotRing }, () => {
  let held: RingSwitch;
  before(async () => {
    held = await RingSwitch.turn('on');
  });
  after(() => held[Symbol.asyncDispose]());

  test('carries data of all sizes, names and attributes', async () => {
    await using made = await TestMount.of(new MemoryFileSystem(), ring);
    assert.equal(made.mount?.transport, 'io_uring');
    const expected = Buffer.alloc(5 * MiB);
    const file = await fs.open(made.at('f.raw'), 'w+');
    for (const [bytes, offset] of [
      ...[[1, 0] as const, [4 * KiB, 4 * KiB] as const, [1 * MiB, 8 * KiB] as const],
      ...[[2 * MiB + 1, 1 * MiB - 1] as const, [3 * MiB - 5, 2 * MiB + 5] as const],
    ]) {
      const data = randomBytes(bytes);
      data.copy(expected, offset);
      assert.equal((await file.write(data, 0, bytes, offset)).bytesWritten, bytes);
    }
    for (const [bytes, offset] of [
      ...[[1, 0] as const, [5 * MiB, 0] as const, [100, 4095] as const],
      ...[[2 * MiB + 1, 1 * MiB - 1] as const],
    ]) {
      const { buffer } = await file.read(Buffer.alloc(bytes), 0, bytes, offset);
      assert.ok(buffer.equals(expected.subarray(offset, offset + bytes)), `${bytes} at ${offset}`);
    }
    await file.truncate(7);
    assert.equal((await file.stat()).size, 7);
    await file.close();
    const name = 'n'.repeat(255);
    await fs.mkdir(made.at('folder'), 0o750);
    await fs.rename(made.at('f.raw'), made.at('folder', name));
    await fs.symlink('t'.repeat(4000), made.at('link'));
    assert.equal((await fs.readlink(made.at('link'))).length, 4000);
    assert.deepEqual(await fs.readdir(made.at('folder')), [name]);
    await assert.rejects(fs.stat(made.at('none')), { code: 'ENOENT' });
    await fs.unlink(made.at('folder', name));
    // What the kernel does not send over the ring is read nevertheless.
    const forgets = () => {
      const { forget = 0, batchForget = 0 } = made.mount?.requestCounts() ?? {};
      return forget + batchForget;
    };
    while (forgets() === 0) await new Promise((resolve) => setImmediate(resolve));
    for (const bytes of [1, 100, 60 * KiB]) {
      const value = randomBytes(bytes);
      await setAttribute(made.at('folder'), `user.${bytes}`, value);
      assert.ok((await getAttribute(made.at('folder'), `user.${bytes}`)).equals(value));
    }
  });

  test('takes requests of each processor', async () => {
    await using made = await TestMount.of(new MemoryFileSystem(), ring);
    await fs.writeFile(made.at('f.raw'), 'wharf');
    for (let processor = 0; processor < availableParallelism(); processor += 1)
      assert.equal(await sh('taskset', '-c', `${processor}`, 'cat', made.at('f.raw')), 'wharf');
  });

  test('has so many requests under way, and serves the others in their turn', async () => {
    const fileSystem = new GatedFileSystem();
    const slots = 8;
    await using made = await TestMount.of(fileSystem, { ...ring, requestsMax: slots });
    await fs.writeFile(made.at('f.raw'), randomBytes(64 * KiB));
    const readers = Array.from({ length: 64 }, () =>
      sh('dd', `if=${made.at('f.raw')}`, 'of=/dev/null', 'bs=4k', 'count=4', 'iflag=direct'),
    );
    await fileSystem.waits(1);
    fileSystem.openGate();
    await Promise.all(readers);
    assert.equal(made.mount?.requestCounts()['read'], 64 * 4);
    assert.ok(fileSystem.waitingMax <= slots * availableParallelism());
  });

  test('keeps little memory of large requests, and no descriptor that a child could keep', async () => {
    const rings = () =>
      readdirSync('/proc/self/fd').filter((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`).includes('io_uring');
        } catch {
          return false;
        }
      }).length;
    const ringsBefore = rings();
    const fileSystem = new GatedFileSystem();
    await using made = await TestMount.of(fileSystem, { ...ring, requestsMax: 40 });
    assert.equal(rings(), ringsBefore);
    await fs.writeFile(made.at('f.raw'), Buffer.alloc(1 * MiB, 1));
    const readers = Array.from({ length: 36 }, () =>
      sh('dd', `if=${made.at('f.raw')}`, 'of=/dev/null', 'bs=1M', 'iflag=direct'),
    );
    await fileSystem.waits(32);
    fileSystem.openGate();
    await Promise.all(readers);
    const slots = 40 + availableParallelism() * Math.max(32, 40 / availableParallelism());
    const resident = residentSlotBytes(slots);
    assert.ok(resident >= 1 * MiB && resident < 20 * MiB, `${resident} bytes of ${slots} slots`);
  });

  test('answers what is under way before it ends', async () => {
    const fileSystem = new GatedFileSystem();
    await using made = await TestMount.of(fileSystem, ring);
    await fs.writeFile(made.at('f.raw'), 'answered');
    const file = await fs.open(made.at('f.raw'));
    const read = file.read(Buffer.alloc(8), 0, 8, 0);
    await fileSystem.waits(1);
    const unmounting = made.mount?.unmount();
    fileSystem.openGate();
    assert.equal((await read).buffer.toString(), 'answered');
    await file.close();
    await unmounting;
    assert.equal(isMounted(made.point), false);
  });

  test('that somebody unmounts by force ends what is under way with an error', async () => {
    const fileSystem = new GatedFileSystem();
    await using made = await TestMount.of(fileSystem, ring);
    await fs.writeFile(made.at('f.raw'), 'x');
    const file = await fs.open(made.at('f.raw'));
    const read = file.read(Buffer.alloc(1), 0, 1, 0);
    await fileSystem.waits(1);
    const failed = assert.rejects(read, { code: 'ECONNABORTED' });
    await made.native.unmountLater(made.point, forceFlag);
    await failed;
    await made.mount?.ended;
    fileSystem.openGate();
    await file.close().catch(() => {});
    await made.mount?.unmount();
    assert.deepEqual(
      made.log.lines.filter(({ level }) => level === 'error'),
      [],
    );
  });

  test('is given up at once by a process that has to end, whatever is on its way', async () => {
    await using made = await TestMount.of(new MemoryFileSystem(), ring);
    await fs.writeFile(made.at('f.raw'), 'x');
    const user = spawn('stat', ['-f', made.point], { stdio: 'ignore' });
    const ended = new Promise((resolve) => user.on('close', resolve));
    awaitRequestOf(user.pid as number);
    made.mount?.detachNow();
    assert.equal(isMounted(made.point), false);
    assert.notEqual(await ended, 0);
  });

  test('whose daemon is killed fails what was under way, and the next daemon mounts anew', async () => {
    await using made = new TestMount();
    await using daemon = new FuseDaemon('ring', made.point);
    await daemon.said('ready io_uring');
    const file = await fs.open(made.at('f.raw'));
    const read = file.read(Buffer.alloc(1), 0, 1, 0);
    await daemon.said('reading');
    const failed = assert.rejects(read, { code: 'ECONNABORTED' });
    await daemon.end('SIGKILL');
    await failed;
    await file.close().catch(() => {});
    await made.start(new MemoryFileSystem(), ring);
    assert.equal(made.mount?.transport, 'io_uring');
    await fs.writeFile(made.at('f'), 'alive');
  });

  test('answers once, and only what it was asked', async () => {
    await using made = new TestMount();
    const statuses: number[] = [];
    const native: Native = {
      ...made.native,
      fuseReply(device: NativeDevice, slot: number, error: number, payloadBytes: number) {
        const tooLarge = made.native.fuseReply(device, slot, 0, 2 * MiB);
        const status = made.native.fuseReply(device, slot, error, payloadBytes);
        const again = made.native.fuseReply(device, slot, error, payloadBytes);
        const elsewhere = made.native.fuseReply(device, 1e6, error, payloadBytes);
        statuses.push(tooLarge, again, elsewhere);
        return status;
      },
    };
    made.mount = await mountWith(native, made);
    await fs.writeFile(made.at('f'), 'x');
    assert.equal(await fs.readFile(made.at('f'), 'utf8'), 'x');
    assert.ok(statuses.length > 10);
    assert.deepEqual([...new Set(statuses)], [-constants.errno.EINVAL]);
  });

  test('that the kernel refuses after all goes on over /dev/fuse, and says why', async () => {
    await using made = new TestMount();
    // Twice as many queues as the machine has processors.
    const native: Native = {
      ...made.native,
      fuseRingOpen: (device: NativeDevice, slotsEach: number) =>
        made.native.fuseRingOpen(device, slotsEach / 2),
    };
    made.mount = await mountWith(native, made);
    assert.equal(
      made.mount.transport,
      '/dev/fuse (no io_uring: the kernel refuses it with EINVAL)',
    );
    await fs.writeFile(made.at('f'), 'served');
    assert.equal(await fs.readFile(made.at('f'), 'utf8'), 'served');
    assert.ok(
      made.log.lines.some(({ level, message }) => level === 'warn' && /no io_uring/.test(message)),
    );
  });

  test('that this process may not use goes over /dev/fuse, and says what to do', async () => {
    await using made = new TestMount();
    const native: Native = { ...made.native, fuseRingOpen: () => -constants.errno.EPERM };
    made.mount = await mountWith(native, made);
    assert.match(made.mount.transport, /^\/dev\/fuse \(no io_uring: .*sysctl -w/);
    await fs.writeFile(made.at('f'), 'served');
  });
});

function mountWith(native: Native, made: TestMount): Promise<Mount> {
  const deps = { fileSystem: new MemoryFileSystem(), belief, clock: systemClock(native) };
  const settings = { ...mountSettings, ...ring, mountPoint: made.point };
  return mountFuse({ ...deps, native, log: made.log }, settings);
}

test('a ring that is switched off in the kernel is done without, which is said', {
  skip: cannotRing,
}, async () => {
  await using _ = await RingSwitch.turn('off');
  await using made = await TestMount.of(new MemoryFileSystem(), ring);
  assert.match(made.mount?.transport ?? '', /^\/dev\/fuse \(no io_uring: .*echo Y > \/sys\/module/);
  await fs.writeFile(made.at('f'), 'served');
});
