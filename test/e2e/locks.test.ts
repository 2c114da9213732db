/** Locks of ordinary programs, through the mounts of two hosts. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Locker } from '../support/locker.ts';
import type { Ready } from '../support/playground.ts';
import { cannotMount, Playground, sh } from '../support/playground.ts';

/** Adds to a counter, a transaction each; waits for others as SQLite does. */
const incrementing = (path: string) => `
  const { DatabaseSync } = require('node:sqlite');
  const database = new DatabaseSync(${JSON.stringify(path)});
  database.exec('PRAGMA busy_timeout = 60000');
  for (let index = 0; index < 20; index += 1)
    database.exec('BEGIN IMMEDIATE; UPDATE counter SET value = value + 1; COMMIT');
  database.close();`;
const integrity = { integrity_check: 'ok' };

const missing = (program: string) =>
  spawnSync(program, ['--version']).error ? `no ${program}` : false;

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, `never happened: ${what}`);
    await sleep(50);
  }
}

describe('locks on two hosts', { skip: cannotMount || missing('python3') }, () => {
  const playground = new Playground();
  let a: Ready;
  let b: Ready;
  let name: string;
  let files = 0;
  before(async () => {
    await playground.start('--hosts', '2');
    [a, b] = playground.hosts as unknown as [Ready, Ready];
  });
  after(() => playground[Symbol.asyncDispose]());
  beforeEach(async () => {
    files += 1;
    name = `file${files}`;
    await fs.writeFile(join(a.mount, name), 'x');
  });

  async function lockerOn(host: Ready): Promise<Locker> {
    const locker = new Locker();
    await locker.open(join(host.mount, name));
    return locker;
  }

  for (const kind of ['posix', 'ofd', 'flock'] as const) {
    test(`(${kind}) refuse, share and give way`, async () => {
      await using onA = await lockerOn(a);
      await using onB = await lockerOn(b);
      await using alsoOnB = await lockerOn(b);
      assert.equal(await onA.lock({ kind, type: 'write' }), 'done');
      assert.equal(await onB.lock({ kind, type: 'read' }), 'EAGAIN');
      assert.equal(await onA.lock({ kind, type: 'read' }), 'done');
      assert.equal(await onB.lock({ kind, type: 'read' }), 'done');
      assert.equal(await alsoOnB.lock({ kind, type: 'write' }), 'EAGAIN');
      assert.equal(await onA.lock({ kind, type: 'none' }), 'done');
      assert.equal(await onB.lock({ kind, type: 'none' }), 'done');
      assert.equal(await alsoOnB.lock({ kind, type: 'write' }), 'done');
      assert.equal(await onB.lock({ kind, type: 'read' }), 'EAGAIN');
    });

    test(`(${kind}) are waited for across hosts, and a signal ends the wait`, async () => {
      await using onA = await lockerOn(a);
      await using onB = await lockerOn(b);
      await onB.lock({ kind, type: 'write' });
      const interrupted = await onA.lock({ kind, type: 'write', wait: true, alarm: 0.3 });
      assert.equal(interrupted, 'EINTR');
      let isDone = false;
      const waits = onA.lock({ kind, type: 'write', wait: true }).finally(() => (isDone = true));
      await sleep(300);
      assert.equal(isDone, false);
      // Other requests are served meanwhile.
      assert.equal(await fs.readFile(join(a.mount, name), 'utf8'), 'x');
      await onB.lock({ kind, type: 'none' });
      assert.equal(await waits, 'done');
      assert.equal(await onB.lock({ kind, type: 'write' }), 'EAGAIN');
    });

    test(`(${kind}) end with their process, also while it waits`, async () => {
      await using onA = await lockerOn(a);
      await using onB = await lockerOn(b);
      await using waiting = await lockerOn(b);
      await onB.lock({ kind, type: 'write' });
      const waits = waiting.lock({ kind, type: 'write', wait: true });
      await sleep(200);
      await waiting.kill();
      assert.equal(await waits, 'ended');
      assert.equal(await onA.lock({ kind, type: 'write' }), 'EAGAIN');
      await onB.kill();
      assert.equal(await onA.lock({ kind, type: 'write', wait: true }), 'done');
    });

    test(`(${kind}) end when their file is closed`, async () => {
      await using onA = await lockerOn(a);
      await using onB = await lockerOn(b);
      await onA.open(join(a.mount, name), 2);
      await onA.lock({ kind, type: 'write' }, 2);
      assert.equal(await onB.lock({ kind, type: 'write' }), 'EAGAIN');
      await onA.close(kind === 'posix' ? 1 : 2);
      assert.equal(await onB.lock({ kind, type: 'write', wait: true }), 'done');
    });
  }

  test('have ranges, and are shown', async () => {
    await using onA = await lockerOn(a);
    await using onB = await lockerOn(b);
    const ofd = { kind: 'ofd', type: 'write' } as const;
    assert.equal(await onA.lock({ ...ofd, start: 100, length: 1 }), 'done');
    assert.equal(await onB.lock({ ...ofd, start: 101, length: 99 }), 'done');
    assert.equal(await onB.lock({ ...ofd, start: 90, length: 20 }), 'EAGAIN');
    const [type, start, length] = (await onB.lock({ ...ofd, what: 'get' })) as number[];
    assert.deepEqual([type, start, length], [1, 100, 1]);
    const free = (await onB.lock({ ...ofd, what: 'get', start: 300 })) as number[];
    assert.equal(free[0], 2);
  });

  test('show who has one what others wrote while they had it', async () => {
    await fs.writeFile(join(a.mount, name), '0');
    await using onA = await lockerOn(a);
    await using onB = await lockerOn(b);
    await using alsoOnB = await lockerOn(b);
    const lockers = [onA, onB, alsoOnB];
    const done = await Promise.all(lockers.map((locker) => locker.increment(60)));
    assert.deepEqual(done, ['done', 'done', 'done']);
    assert.equal(Number(await fs.readFile(join(a.mount, name), 'utf8')), 180);
  });

  test('keep a database whole that programs on both hosts change', async () => {
    const path = (host: Ready) => join(host.mount, `${name}.db`);
    const database = new DatabaseSync(path(a));
    database.exec('CREATE TABLE counter (value INTEGER); INSERT INTO counter VALUES (0)');
    const programs = [a, b, b].map((host) => sh(process.execPath, '-e', incrementing(path(host))));
    await Promise.all(programs);
    for (const host of [a, b]) {
      const reader = new DatabaseSync(path(host));
      assert.deepEqual({ ...reader.prepare('SELECT value FROM counter').get() }, { value: 60 });
      assert.deepEqual({ ...reader.prepare('PRAGMA integrity_check').get() }, integrity);
      reader.close();
    }
    database.close();
  });

  describe('of QEMU', { skip: missing('qemu-system-x86_64') || missing('qemu-io') }, () => {
    const diskOn = (host: Ready) => join(host.mount, `${name}.raw`);
    const write = (host: Ready) => sh('qemu-io', '-f', 'raw', '-c', 'write 0 4k', diskOn(host));
    const canWrite = (host: Ready) =>
      write(host).then(
        () => true,
        () => false,
      );
    beforeEach(() => sh('qemu-img', 'create', '-q', '-f', 'raw', diskOn(a), '64M'));

    test('refuse a second start of a disk on either host', async () => {
      await using vm = new PausedVm(diskOn(a));
      await vm.started();
      for (const host of [a, b]) {
        await using second = new PausedVm(diskOn(host));
        assert.equal(await second.ended, 1);
        assert.match(second.output, /Failed to get "write" lock/);
        await assert.rejects(write(host), /Failed to get "write" lock/);
      }
      assert.equal(await vm.quit(), 0);
      await until('the other host may have it', () => canWrite(b));
    });

    test('go with a VM that is migrated', async () => {
      const socket = join(playground.folder, 'migration');
      await using source = new PausedVm(diskOn(a));
      await source.started();
      await using destination = new PausedVm(diskOn(b), '-incoming', `unix:${socket}`);
      await destination.started();
      assert.equal(await canWrite(b), false);
      source.tell(`migrate -d unix:${socket}`);
      await until('it is migrated', async () => {
        source.tell('info migrate');
        return /Migration status: completed/.test(source.output);
      });
      await until('it runs there', async () => {
        for (const command of ['cont', 'info status']) destination.tell(command);
        return /VM status: running/.test(destination.output);
      });
      assert.equal(await source.quit(), 0);
      for (const host of [a, b]) assert.equal(await canWrite(host), false);
      assert.equal(await destination.quit(), 0);
      await until('both hosts may have it', async () => (await canWrite(a)) && canWrite(b));
    });
  });
});

/** A VM that has its disk and does not run; it needs no guest. */
class PausedVm implements AsyncDisposable {
  readonly #child: ChildProcess;
  /** Resolves with its exit code. */
  readonly ended: Promise<number>;
  /** Of its monitor, and of what it complains about. */
  output = '';

  constructor(disk: string, ...more: string[]) {
    const machine = ['-machine', 'q35', '-m', '64', '-accel', 'tcg', '-nodefaults', '-S'];
    const drive = `file=${disk},format=raw,if=virtio`;
    const screen = ['-display', 'none', '-monitor', 'stdio'];
    const argv = [...machine, ...screen, '-drive', drive, ...more];
    const child = spawn('qemu-system-x86_64', argv, { stdio: 'pipe' });
    child.stdin.on('error', () => {});
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (text: Buffer) => {
        this.output += text.toString();
      });
    this.#child = child;
    this.ended = new Promise((resolve) => child.on('close', (code) => resolve(code ?? -1)));
  }

  /** Its disk is open when the monitor answers. */
  started(): Promise<void> {
    this.tell('info status');
    return until('QEMU is up', async () => /VM status/.test(this.output));
  }

  tell(command: string): void {
    this.#child.stdin?.write(`${command}\n`);
  }

  quit(): Promise<number> {
    this.tell('quit');
    return this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }
}

describe('locks of a host that is gone', { skip: cannotMount || missing('python3') }, () => {
  test('end with its lease; those of the others stay when their owner has gone', async () => {
    await using playground = new Playground();
    await playground.start('--hosts', '2');
    const [a, b] = playground.hosts as unknown as [Ready, Ready];
    // Each host owns the file that it made.
    for (const [host, file] of [
      [a, 'of-a'],
      [b, 'of-b'],
    ] as const)
      await fs.writeFile(join(host.mount, file), 'x');
    await using onA = new Locker();
    await using onB = new Locker();
    const write = { kind: 'ofd', type: 'write' } as const;
    for (const [index, file] of ['of-a', 'of-b'].entries()) {
      await onA.open(join(a.mount, file), index);
      await onB.open(join(b.mount, file), index);
      assert.equal(await onB.lock({ ...write, start: 0, length: 10 }, index), 'done');
      assert.equal(await onA.lock({ ...write, start: 10, length: 10 }, index), 'done');
      assert.equal(await onA.lock({ ...write, start: 0, length: 10 }, index), 'EAGAIN');
    }
    process.kill(b.pid, 'SIGKILL');
    await using alsoOnA = new Locker();
    for (const [index, file] of ['of-a', 'of-b'].entries()) {
      const later = { ...write, start: 0, length: 10, wait: true };
      assert.equal(await onA.lock(later, index), 'done');
      await alsoOnA.open(join(a.mount, file), index);
      assert.equal(await alsoOnA.lock({ ...write, start: 10, length: 10 }, index), 'EAGAIN');
    }
    await onB.kill();
  });
});
