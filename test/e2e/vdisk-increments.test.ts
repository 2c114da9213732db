/** What changed between snapshots, and increments that bring a copy elsewhere from one to the next. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { KiB, MiB } from '../../src/core/units.ts';
import type { VdiskReport } from '../../src/daemon/endpoints.ts';
import type { SnapshotReport } from '../../src/frontend/admin/vdisk-snapshots.ts';
import { wharf, wharfFile } from '../support/command.ts';
import { cannotMount, Playground, sh } from '../support/playground.ts';

describe('increments', { skip: cannotMount }, () => {
  const here = new Playground();
  const there = new Playground();
  const file = (name: string) => join(here.folder, name);
  const adminOf = ({ hosts }: Playground) => ['--admin', hosts[0]?.admin ?? ''];
  const disk = () => join(here.mount, 'vm1/disk.raw');
  const copy = () => join(there.mount, 'copy.raw');

  before(async () => {
    await Promise.all([here.start(), there.start()]);
    await fs.mkdir(join(here.mount, 'vm1'));
    await done(here, 'create', '/vm1/disk.raw', '--size', '24M');
    await put(disk(), 0, Buffer.alloc(5 * MiB, 1));
    await put(disk(), 16 * MiB, Buffer.alloc(2 * MiB, 2));
    await snapshot(here, '/vm1/disk.raw', 's1');
    await change(disk(), 3);
    await done(here, 'resize', '/vm1/disk.raw', '--size', '32M');
    await put(disk(), 30 * MiB + 5, Buffer.from('behind what was the end'));
    await put(disk(), 28 * MiB - 100, Buffer.alloc(4 * KiB, 6));
    await snapshot(here, '/vm1/disk.raw', 's2');
    await change(disk(), 4);
    // In the middle of a block.
    await done(here, 'resize', '/vm1/disk.raw', '--size', String(28 * MiB + 512), '--force');
    await snapshot(here, '/vm1/disk.raw', 's3');
    await change(disk(), 5);
    for (const [since, name] of [
      ['s1', 's2'],
      ['s2', 's3'],
    ] as const)
      await done(
        ...([here, 'export', `/vm1/disk.raw@${name}`, file(`${since}-${name}`)] as const),
        ...['--since', since],
      );
    await done(here, 'export', '/vm1/disk.raw@s1', file('full.raw'));
    await renew();
  });
  after(async () => {
    await here[Symbol.asyncDispose]();
    await there[Symbol.asyncDispose]();
  });

  async function put(path: string, offset: number, bytes: Buffer): Promise<void> {
    await using target = await fs.open(path, 'r+');
    await target.write(bytes, 0, bytes.length, offset);
  }

  /** Data over data, over holes, and holes over data. */
  async function change(path: string, value: number): Promise<void> {
    await put(path, value * 64 * KiB, Buffer.alloc(40 * KiB, value));
    for (let piece = 0; piece < 10; piece += 1)
      await put(path, (8 + piece / 2) * MiB + value * 100_000, Buffer.alloc(3000, value));
    const offset = String(17 * MiB + value * 64 * KiB);
    await sh('fallocate', '-p', '-o', offset, '-l', String(64 * KiB), path);
  }

  /** The copy as it is at the first snapshot. */
  async function renew(): Promise<void> {
    const found = await wharf(
      'vdisk',
      'snapshot',
      'list',
      '/copy.raw',
      '--json',
      ...adminOf(there),
    );
    const { snapshots = [] } = (found.code === 0 ? JSON.parse(found.stdout) : {}) as {
      snapshots?: SnapshotReport[];
    };
    for (const { name } of snapshots)
      await done(there, 'snapshot', 'delete', '/copy.raw', name, '--yes');
    await done(there, 'import', file('full.raw'), '/copy.raw', '--force');
    await snapshot(there, '/copy.raw', 's1');
  }

  async function done<T = VdiskReport>(at: Playground, ...words: string[]): Promise<T> {
    const { code, stdout, stderr } = await wharf('vdisk', ...words, '--json', ...adminOf(at));
    assert.deepEqual([code, stderr], [0, '']);
    return JSON.parse(stdout) as T;
  }

  const snapshot = (at: Playground, path: string, name: string) =>
    done<object>(at, 'snapshot', 'create', path, name);

  async function refused(
    ...[code, why, at, ...words]: [number, RegExp, Playground, ...string[]]
  ): Promise<void> {
    const ended = await wharf('vdisk', ...words, ...adminOf(at));
    assert.deepEqual([ended.code, ended.stdout], [code, ''], ended.stderr);
    assert.match(ended.stderr, why);
    assert.equal(ended.stderr.trim().split('\n').length, 1, ended.stderr);
  }

  const apply = (name: string, ...flags: string[]) => [
    ...['import', '--apply', file(name), '/copy.raw', ...flags],
  ];

  /** The copy is what the disk was, to the byte, and has no snapshots but these. */
  async function copyIs(name: string, ...names: string[]): Promise<void> {
    const shown = join(here.mount, `vm1/.snapshots/${name}/disk.raw`);
    assert.ok((await fs.readFile(shown)).equals(await fs.readFile(copy())), `not ${name}`);
    assert.deepEqual(await namesAt(there, '/copy.raw'), names.sort());
  }

  async function namesAt(at: Playground, path: string): Promise<string[]> {
    const found = await done<{ snapshots: SnapshotReport[] }>(at, 'snapshot', 'list', path);
    return found.snapshots.map(({ name }) => name).sort();
  }

  /** A pipeline; `{here}` and `{there}` are the command at the two vPools. */
  function shell(line: string): Promise<string> {
    const at = (playground: Playground, words: string) =>
      `'${process.execPath}' '${wharfFile}' vdisk ${words} ${adminOf(playground).join(' ')}`;
    const whole = line.replaceAll(
      /\{(here|there) ([^}]*)\}/g,
      (_all, where: string, words: string) => at(where === 'here' ? here : there, words),
    );
    return sh('bash', '-o', 'pipefail', '-c', whole);
  }

  test('show what changed, exactly and in order', async () => {
    const { stdout } = await wharf(
      ...['vdisk', 'diff', '/vm1/disk.raw@s2', '/vm1/disk.raw@s3', ...adminOf(here)],
    );
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => line.trim().split(/ +/));
    const partly = (piece: number) => Math.floor(((8 + piece / 2) * MiB + 400_000) / 4096) * 4096;
    assert.deepEqual(lines, [
      ['OFFSET', 'LENGTH', 'WHAT'],
      [String(4 * 64 * KiB), String(40 * KiB), 'data'],
      // 3,000 bytes in two blocks.
      ...Array.from({ length: 10 }, (_, piece) => [String(partly(piece)), '8192', 'data']),
      [String(17 * MiB + 4 * 64 * KiB), String(64 * KiB), 'zeroes'],
      [String(28 * MiB), '512', 'data'],
      [
        ...'13 extents: 121 KiB of data, 64.0 KiB of zeroes; the size was'.split(' '),
        ...[String(32 * MiB), 'bytes,', 'and', 'is', String(28 * MiB + 512)],
      ],
    ]);
    const now = await wharf(
      ...['vdisk', 'diff', '/vm1/disk.raw@s1', '/vm1/disk.raw', '--json', ...adminOf(here)],
    );
    const extentLines = now.stdout.trim().split('\n');
    const { extents, sizeBytes, sizeBeforeBytes } = JSON.parse(extentLines.pop() ?? '') as {
      readonly [name: string]: number;
    };
    assert.deepEqual(
      [extents, sizeBeforeBytes, sizeBytes],
      [extentLines.length, 24 * MiB, 28 * MiB + 512],
    );
    // What was made for that moment is gone.
    const again = await wharf(
      ...['vdisk', 'diff', '/vm1/disk.raw@s3', '/vm1/disk.raw@s3', ...adminOf(here)],
    );
    assert.match(again.stdout, /^0 extents/m);
    await refused(3, /has no snapshot s9/, here, 'diff', '/vm1/disk.raw@s1', '/vm1/disk.raw@s9');
    await refused(2, /since when/, here, 'diff', '/vm1/disk.raw', '/vm1/disk.raw@s1');
    await refused(2, /two vDisks/, here, 'diff', '/vm1/disk.raw@s1', '/other.raw@s2');
    await refused(3, /no such vDisk/, here, 'diff', '/none.raw@s1', '/none.raw@s2');
  });

  test('bring a copy in another vPool from each snapshot to the next', async () => {
    // The same again at another place is no change.
    await put(copy(), MiB, Buffer.alloc(MiB, 1));
    await copyIs('s1', 's1');
    const { size } = await fs.stat(file('s1-s2'));
    assert.ok(size < 200 * KiB, `${size} bytes`);
    const first = await done<{ dataBytes: number; snapshot: string }>(there, ...apply('s1-s2'));
    assert.equal(first.snapshot, 's2');
    await copyIs('s2', 's1', 's2');
    await done(there, ...apply('s2-s3'));
    await copyIs('s3', 's1', 's2', 's3');
    // Of what is now, which gets a snapshot for the next one; and through a pipe.
    const line = '{here export /vm1/disk.raw@s1 - --since s3} | {there import --apply - /copy.raw}';
    await assert.rejects(shell(line), /has a snapshot s1: it is applied already/);
    const made = await shell(
      '{here export /vm1/disk.raw - --since s3} | {there import --apply - /copy.raw}',
    );
    const [, name = ''] = /is @(\S+) now, from @s3/.exec(made) ?? [];
    await copyIs(name, 's1', 's2', 's3', name);
    assert.ok((await fs.readFile(disk())).equals(await fs.readFile(copy())));
    // Nothing has changed since: that is an increment as well.
    await snapshot(here, '/vm1/disk.raw', 'same');
    await done(here, 'export', '/vm1/disk.raw@same', file('empty'), '--since', name);
    assert.ok((await fs.stat(file('empty'))).size < 200);
    await done(there, ...apply('empty'));
    await copyIs('same', 's1', 's2', 's3', name, 'same');
    await renew();
  });

  test('are refused where they do not fit, and leave the copy as it is', async () => {
    await refused(1, /has no snapshot s2, from which/, there, ...apply('s2-s3'));
    await refused(3, /nothing: no such file/, there, ...apply('nothing'));
    await refused(3, /no such vDisk/, there, 'import', '--apply', file('s1-s2'), '/none.raw');
    await refused(1, /full\.raw is refused: it is no increment/, there, ...apply('full.raw'));
    await refused(2, /--format/, there, ...apply('s1-s2'), '--format', 'raw');
    const user = await fs.open(copy());
    await refused(1, /copy\.raw is open/, there, ...apply('s1-s2'));
    await user.close();
    await refused(
      2,
      /from @s1 to itself/,
      ...([here, 'export', '/vm1/disk.raw@s1'] as const),
      file('x'),
      '--since',
      's1',
    );
    await refused(
      3,
      /has no snapshot s9/,
      here,
      'export',
      '/vm1/disk.raw',
      file('x'),
      '--since',
      's9',
    );
    await copyIs('s1', 's1');
    await done(there, 'create', '/small.raw', '--size', '1M');
    await snapshot(there, '/small.raw', 's1');
    await refused(
      ...([1, /it is of another vDisk/, there, 'import', '--apply'] as const),
      ...[file('s1-s2'), '/small.raw'],
    );
    // Of the same size, with a snapshot of that name: its content tells.
    await done(there, 'create', '/other.raw', '--size', '24M');
    await put(join(there.mount, 'other.raw'), MiB, Buffer.alloc(MiB, 9));
    await snapshot(there, '/other.raw', 's1');
    const was = await fs.readFile(join(there.mount, 'other.raw'));
    await refused(
      ...([1, /is not what the increment starts from/, there, 'import', '--apply'] as const),
      ...[file('s1-s2'), '/other.raw'],
    );
    assert.ok(was.equals(await fs.readFile(join(there.mount, 'other.raw'))));
  });

  test('that are damaged or cut off change nothing, from a file or a pipe', async () => {
    const whole = await fs.readFile(file('s1-s2'));
    const flipped = Buffer.from(whole);
    flipped[whole.length >> 1] = (flipped[whole.length >> 1] as number) ^ 1;
    const damaged: readonly (readonly [string, Buffer, RegExp])[] = [
      ['flipped', flipped, /is refused: it is damaged/],
      ['cut', whole.subarray(0, -40), /is refused: it is cut off/],
      ['longer', Buffer.concat([whole, Buffer.alloc(1)]), /is refused: something stands behind/],
    ];
    for (const [name, bytes, why] of damaged) {
      await fs.writeFile(file(name), bytes);
      await refused(1, why, there, ...apply(name));
      await assert.rejects(shell(`cat ${file(name)} | {there import --apply - /copy.raw}`), why);
      await copyIs('s1', 's1');
    }
  });

  test('are not applied to a copy that was changed, unless it is rolled back first', async () => {
    await put(copy(), 20 * MiB, Buffer.from('mine'));
    await refused(1, /was changed since @s1: --force rolls it back/, there, ...apply('s1-s2'));
    const forced = await wharf('vdisk', ...apply('s1-s2', '--force'), ...adminOf(there));
    assert.equal(forced.code, 0, forced.stderr);
    const [, kept = ''] = /what it was is @(before-\S+)/.exec(forced.stderr) ?? [];
    await copyIs('s2', 's1', 's2', kept);
    const mine = await fs.readFile(join(there.mount, `.snapshots/${kept}/copy.raw`));
    assert.equal(mine.subarray(20 * MiB, 20 * MiB + 4).toString(), 'mine');
    await renew();
  });

  for (const signal of ['SIGINT', 'SIGKILL'] as const)
    test(`that end by ${signal} in the middle are never taken for whole`, async () => {
      const words = ['vdisk', 'import', '--apply', '-', '/copy.raw', ...adminOf(there)];
      const child = spawn(process.execPath, [wharfFile, ...words]);
      const ended = new Promise((resolve) =>
        child.on('close', (code, by) => resolve({ code, by })),
      );
      child.stdin.on('error', () => {});
      try {
        const whole = await fs.readFile(file('s1-s2'));
        child.stdin.write(whole.subarray(0, -20));
        // It has grown already.
        await until(async () => (await fs.stat(copy())).size === 32 * MiB);
        child.kill(signal);
        assert.deepEqual(await ended, { code: null, by: signal });
      } finally {
        child.kill('SIGKILL');
      }
      if (signal === 'SIGINT') await copyIs('s1', 's1');
      else {
        await refused(1, /was changed since @s1/, there, ...apply('s1-s2'));
        const forced = await wharf('vdisk', ...apply('s1-s2', '--force'), ...adminOf(there));
        assert.equal(forced.code, 0, forced.stderr);
        const [, kept = ''] = /what it was is @(before-\S+)/.exec(forced.stderr) ?? [];
        await copyIs('s2', 's1', 's2', kept);
      }
      await renew();
    });

  test('and images are made of snapshots of a disk that was renamed', async () => {
    await done(here, 'rename', '/vm1/disk.raw', '/moved.raw');
    await done(here, 'export', '/moved.raw@s1', file('again.raw'));
    await done(here, 'export', '/moved.raw@s2', file('again'), '--since', 's1');
    await done(here, 'rename', '/moved.raw', '/vm1/disk.raw');
    for (const [one, other] of [
      ['again.raw', 'full.raw'],
      ['again', 's1-s2'],
    ] as const)
      assert.ok((await fs.readFile(file(one))).equals(await fs.readFile(file(other))), one);
  });

  test('that can not be written leave neither a file nor a snapshot', async () => {
    const before = await namesAt(here, '/vm1/disk.raw');
    await fs.mkdir(file('full'));
    await sh('mount', '-t', 'tmpfs', '-o', 'size=16k', 'wharf-test', file('full'));
    try {
      const words = ['export', '/vm1/disk.raw', file('full/x'), '--since', 's1'];
      await refused(1, /no space|ENOSPC/i, here, ...words);
      assert.deepEqual(await fs.readdir(file('full')), []);
    } finally {
      await sh('umount', file('full'));
    }
    await assert.rejects(shell(`{here export /vm1/disk.raw - --since s1} | head -c 10`), /EPIPE/);
    const words = ['vdisk', 'export', '/vm1/disk.raw', '-', '--since', 's1', ...adminOf(here)];
    const child = spawn(process.execPath, [wharfFile, ...words]);
    const ended = once(child, 'close');
    // Nobody reads on from here.
    await once(child.stdout, 'readable');
    child.kill('SIGINT');
    assert.deepEqual(await ended, [null, 'SIGINT']);
    assert.deepEqual(await namesAt(here, '/vm1/disk.raw'), before);
  });
});

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, 'it never happened');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
