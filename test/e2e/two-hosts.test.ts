/** Two hosts on one machine: one namespace, objects that follow their users, hosts that come and go. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MiB } from '../../src/core/units.ts';
import type { Ready } from '../support/playground.ts';
import { cannotMount, Playground, sh } from '../support/playground.ts';

interface Vdisk {
  readonly owner: string;
  readonly state: string;
  readonly changes: string;
  readonly replica?: string;
  readonly waiting?: string;
}

async function ask<T>(host: Ready, method: string, path: string): Promise<T> {
  const response = await fetch(`${host.admin}${path}`, { method });
  const answer = (await response.json()) as T;
  assert.equal(response.status, 200, JSON.stringify(answer));
  return answer;
}

const vdisk = (host: Ready, path: string) => ask<Vdisk>(host, 'GET', `/v1/vdisk?path=${path}`);

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, `never happened: ${what}`);
    await sleep(50);
  }
}

async function many(playground: Playground, count: number): Promise<[Ready, Ready, Ready]> {
  await playground.start('--hosts', String(count));
  assert.equal(playground.hosts.length, count);
  return playground.hosts as unknown as [Ready, Ready, Ready];
}

async function pair(playground: Playground): Promise<[Ready, Ready]> {
  const [a, b] = await many(playground, 2);
  return [a, b];
}

describe('two hosts', { skip: cannotMount }, () => {
  test('see the same files: inode, attributes and content', async () => {
    await using playground = new Playground();
    const [a, b] = await pair(playground);
    await fs.mkdir(join(a.mount, 'vm1'));
    await fs.writeFile(join(a.mount, 'vm1', 'vm.xml'), '<domain/>', { mode: 0o640 });
    assert.equal(await fs.readFile(join(b.mount, 'vm1', 'vm.xml'), 'utf8'), '<domain/>');
    const [atA, atB] = await Promise.all(
      [a, b].map(({ mount }) => fs.stat(join(mount, 'vm1', 'vm.xml'))),
    );
    assert.deepEqual(
      [atB?.ino, atB?.mode, atB?.size, atB?.mtimeMs],
      [atA?.ino, atA?.mode, atA?.size, atA?.mtimeMs],
    );
    await fs.appendFile(join(b.mount, 'vm1', 'vm.xml'), '<!-- b -->');
    assert.equal(await fs.readFile(join(a.mount, 'vm1', 'vm.xml'), 'utf8'), '<domain/><!-- b -->');
    await fs.rename(join(b.mount, 'vm1'), join(b.mount, 'vm2'));
    assert.deepEqual(await fs.readdir(a.mount), ['vm2']);
  });

  test('hand a volume to the one that uses it, with all that was written', async () => {
    await using playground = new Playground();
    const [a, b] = await pair(playground);
    const content = Buffer.alloc(32 * MiB);
    for (let at = 0; at < content.length; at += 4096) content.writeUInt32LE(at + 1, at);
    await fs.writeFile(join(a.mount, 'disk.raw'), content);
    assert.equal((await vdisk(b, '/disk.raw')).owner, 'a');
    const file = await fs.open(join(b.mount, 'disk.raw'), 'r+');
    const found = Buffer.alloc(4096);
    for (let index = 0; index < 8192; index += 1) {
      await file.read(found, 0, 4096, index * 4096);
      assert.equal(found.readUInt32LE(0), index * 4096 + 1);
    }
    await until('b owns it', async () => {
      await file.read(found, 0, 4096, 0);
      return (await vdisk(a, '/disk.raw')).owner === 'b';
    });
    await file.write(Buffer.alloc(4096, 9), 0, 4096, 0);
    await file.sync();
    await file.close();
    const again = await fs.readFile(join(a.mount, 'disk.raw'));
    assert.ok(again.subarray(0, 4096).equals(Buffer.alloc(4096, 9)));
    assert.ok(again.subarray(4096).equals(content.subarray(4096)));
  });

  test('move a volume to and fro under verified I/O on either', async () => {
    await using playground = new Playground();
    const [a, b] = await pair(playground);
    const path = join(b.mount, 'disk.raw');
    await fs.writeFile(path, '');
    await fs.truncate(path, 64 * MiB);
    const fio = sh(
      ...([
        'fio',
        '--verify_state_save=0',
        '--name=moved',
        `--filename=${path}`,
        '--rw=randwrite',
        '--bs=4k',
      ] as const),
      ...['--direct=1', '--ioengine=io_uring', '--iodepth=8', '--size=64m', '--rate_iops=4000'],
      ...['--verify=crc32c', '--do_verify=1', '--fsync=64', '--time_based=0', '--loops=2'],
    );
    let isWriting = true;
    void fio.finally(() => (isWriting = false)).catch(() => {});
    let moves = 0;
    for (; isWriting; moves += 1) {
      await ask(
        moves % 2 === 0 ? a : b,
        'POST',
        `/v1/vdisk/move?path=/disk.raw&to=${'ab'[moves % 2]}`,
      );
      await sleep(200);
    }
    assert.match(await fio, /err= 0/);
    assert.ok(moves >= 4, `${moves} moves`);
  });

  test('go on with all that a killed one acknowledged, and it goes on with what it is now', async () => {
    await using playground = new Playground();
    const [a, b] = await pair(playground);
    const path = join(a.mount, 'disk.raw');
    await fs.writeFile(path, '');
    await fs.truncate(path, 64 * MiB);
    await until('there is a copy', async () => {
      const handle = await fs.open(path, 'r+');
      await handle.write(Buffer.alloc(4096, 1), 0, 4096, 0);
      await handle.close();
      return (await vdisk(a, '/disk.raw')).replica === 'b';
    });
    // Written through the page cache of nobody, and never flushed.
    const direct = ['oflag=direct', 'conv=notrunc'];
    for (const seek of [1, 2, 3]) {
      const source = join(playground.folder, `source-${seek}`);
      await fs.writeFile(source, Buffer.alloc(MiB, seek));
      await sh('dd', `if=${source}`, `of=${path}`, 'bs=1M', `seek=${seek}`, ...direct);
    }
    process.kill(a.pid, 'SIGKILL');
    const content = await fs.readFile(join(b.mount, 'disk.raw'));
    for (const seek of [1, 2, 3])
      assert.ok(content.subarray(seek * MiB, (seek + 1) * MiB).every((byte) => byte === seek));
    const shown = await vdisk(b, '/disk.raw');
    assert.equal(shown.owner, 'b');
    assert.match(shown.changes, /on the SSD of host b alone \(no other host is up\)/);
    assert.equal(await playground.stop(), 70);
    const [again] = await pair(playground);
    const later = await fs.readFile(join(again.mount, 'disk.raw'));
    assert.ok(later.equals(content));
    assert.ok((await fs.readdir(join(playground.folder, 'a/data/journal'))).length === 0);
  });

  test('wait for a killed one that has no copy, say for whom, and take what is left if told to', async () => {
    await using playground = new Playground();
    const [a, b, c] = await many(playground, 3);
    const path = join(a.mount, 'disk.raw');
    await fs.writeFile(path, Buffer.alloc(MiB, 1));
    await ask(a, 'POST', '/v1/vdisk/sync?path=/disk.raw');
    process.kill(b.pid, 'SIGSTOP');
    process.kill(c.pid, 'SIGSTOP');
    const handle = await fs.open(path, 'r+');
    await handle.write(Buffer.alloc(4096, 2), 0, 4096, 0);
    await handle.sync();
    await handle.close();
    assert.match((await vdisk(a, '/disk.raw')).changes, /on the SSD of host a alone \(.+\)/);
    process.kill(a.pid, 'SIGKILL');
    process.kill(b.pid, 'SIGCONT');
    process.kill(c.pid, 'SIGCONT');
    const reading = fs.readFile(join(b.mount, 'disk.raw'));
    const command = 'wharf vdisk takeover /disk.raw --accept-loss';
    await until('it says what it waits for', async () => {
      const { waiting = '' } = await vdisk(b, '/disk.raw');
      return waiting.startsWith('host a, whose SSD alone') && waiting.endsWith(command);
    });
    await assert.rejects(ask(b, 'POST', '/v1/vdisk/takeover?path=/disk.raw'), /waits for host a/);
    await ask(b, 'POST', '/v1/vdisk/takeover?path=/disk.raw&acceptLoss=1');
    assert.ok((await reading).equals(Buffer.alloc(MiB, 1)));
  });

  test('are drained by the command, one after the other', async () => {
    await using playground = new Playground();
    const [a, b] = await pair(playground);
    for (let number = 0; number < 5; number += 1) {
      await fs.writeFile(join(a.mount, `disk-${number}.raw`), Buffer.alloc(MiB, number + 1));
      await fs.writeFile(join(a.mount, `note-${number}`), `${number}`);
    }
    const cli = join(import.meta.dirname, '../../src/cli/main.ts');
    const drain = async ({ admin }: Ready, ...argv: string[]) => {
      const line = [cli, 'host', 'drain', ...argv, '--json', '--admin', admin];
      return JSON.parse(await sh(process.execPath, ...line)) as Record<string, unknown>;
    };
    const drained = { state: 'drained', total: 10, moved: 10, failed: [] };
    assert.deepEqual(await drain(a, 'a'), { host: 'a', ...drained });
    for (let number = 0; number < 5; number += 1) {
      assert.equal((await vdisk(a, `/disk-${number}.raw`)).owner, 'b');
      const content = await fs.readFile(join(a.mount, `disk-${number}.raw`));
      assert.ok(content.equals(Buffer.alloc(MiB, number + 1)));
    }
    assert.equal((await drain(a, 'a', '--off'))['state'], 'off');
    assert.deepEqual(await drain(b, 'b'), { host: 'b', ...drained });
    assert.equal((await vdisk(a, '/disk-3.raw')).owner, 'a');
    await assert.rejects(drain(a, 'b'), /this is host a: ask host b itself/);
  });

  test('leave all they have to each other when they stop', async () => {
    await using playground = new Playground();
    const [, b] = await pair(playground);
    await fs.writeFile(join(b.mount, 'disk.raw'), Buffer.alloc(MiB, 3));
    await fs.writeFile(join(b.mount, 'note'), 'of b');
    assert.equal((await vdisk(b, '/disk.raw')).owner, 'b');
    assert.equal(await playground.stop(), 0);
    const alone = await playground.start();
    assert.ok((await fs.readFile(join(alone.mount, 'disk.raw'))).equals(Buffer.alloc(MiB, 3)));
    assert.equal(await fs.readFile(join(alone.mount, 'note'), 'utf8'), 'of b');
    assert.equal((await vdisk(alone, '/disk.raw')).owner, 'a');
  });
});
