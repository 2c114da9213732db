/** Snapshots of a whole VM by the command: vDisks and files of two hosts, at one moment. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { MiB } from '../../src/core/units.ts';
import type { VmSnapshotReport } from '../../src/frontend/admin/vm-snapshots.ts';
import { wharf } from '../support/command.ts';
import { cannotMount, Playground } from '../support/playground.ts';

const blockBytes = 4096;
const number = (value: number) => Buffer.alloc(blockBytes, String(value).padStart(8, '0'));

describe('a VM', { skip: cannotMount }, () => {
  const playground = new Playground();
  const at = (host: number, ...path: string[]) =>
    join(playground.hosts[host]?.mount ?? '', 'vm', ...path);

  async function done<T>(host: number, what: string, ...words: string[]): Promise<T> {
    const admin = playground.hosts[host]?.admin ?? '';
    const asked = ['vdisk', 'snapshot', what, '--vm', '/vm', ...words];
    const { code, stdout, stderr } = await wharf(...asked, '--json', '--admin', admin);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as T;
  }

  async function refused(code: number, why: RegExp, ...words: string[]): Promise<void> {
    const admin = playground.hosts[0]?.admin ?? '';
    const ended = await wharf('vdisk', 'snapshot', ...words, '--admin', admin);
    assert.deepEqual([ended.code, ended.stdout], [code, ''], ended.stderr);
    assert.match(ended.stderr, why);
    assert.equal(ended.stderr.trim().split('\n').length, 1, ended.stderr);
  }

  async function write(path: string, value: number): Promise<void> {
    const file = await fs.open(path, 'r+').catch(() => fs.open(path, 'w'));
    await file.write(number(value), 0, blockBytes, 0);
    await file.close();
  }

  async function numberIn(path: string): Promise<number> {
    const bytes = await fs.readFile(path);
    assert.ok(bytes.subarray(0, blockBytes).equals(number(Number(bytes.toString('latin1', 0, 8)))));
    return Number(bytes.toString('latin1', 0, 8));
  }

  /** The kernel of another host believes for a moment what it has been told of names. */
  async function appears(path: string): Promise<void> {
    while (
      await fs.stat(path).then(
        () => false,
        () => true,
      )
    )
      await sleep(20);
  }

  before(async () => {
    await playground.start('--hosts', '2');
    await fs.mkdir(at(0, 'sub', 'deep'), { recursive: true });
    await appears(at(1, 'sub', 'deep'));
    for (const [host, name] of [
      [0, 'a.raw'],
      [1, 'b.raw'],
      [0, 'sub/c.raw'],
      [1, 'conf'],
      [1, 'sub/deep/log'],
    ] as const) {
      await fs.writeFile(at(host, name), number(0));
      if (name.endsWith('.raw')) await fs.truncate(at(host, name), 4 * MiB);
    }
    await fs.symlink('conf', at(0, 'link'));
  });
  after(() => playground[Symbol.asyncDispose]());

  test('is kept at one moment, while it is written through both hosts', async () => {
    let isDone = false;
    let written = 0;
    const writing = (async () => {
      for (let value = 1; !isDone; value += 1) {
        await write(at(0, 'a.raw'), value);
        await write(at(1, 'b.raw'), value);
        await write(at(1, 'conf'), value);
        written = value;
      }
    })();
    const names = ['one', 'two', 'three', 'four'];
    for (const [index, name] of names.entries()) {
      const seen = written;
      const made = await done<VmSnapshotReport>(index % 2, 'create', name);
      assert.deepEqual([made.name, made.vdisks, made.files], [name, 3, 2]);
      while (written < seen + 3) await sleep(1);
    }
    isDone = true;
    await writing;
    for (const name of names)
      for (const host of [0, 1]) {
        const of = (file: string) => at(host, '.snapshots', name, file);
        await appears(of('conf'));
        const found = [await numberIn(of('a.raw')), await numberIn(of('b.raw'))];
        found.push(await numberIn(of('conf')));
        const [first = 0, second = 0, third = 0] = found;
        assert.ok(
          first >= second && second >= third && third >= first - 1,
          `${name}: ${found.join()}`,
        );
        assert.equal(await fs.readlink(of('link')), 'conf');
        assert.equal(await numberIn(of('sub/deep/log')), 0);
      }
    const { snapshots } = await done<{ snapshots: VmSnapshotReport[] }>(1, 'list');
    assert.deepEqual(
      snapshots.map(({ name, vdisks, files }) => [name, vdisks, files].join()),
      names.map((name) => `${name},3,2`),
    );
  });

  test('is made what it was then, and what it was until now is kept', async () => {
    const kept = await numberIn(at(0, '.snapshots/one/conf'));
    for (const name of ['a.raw', 'b.raw', 'sub/c.raw', 'conf']) await write(at(0, name), 12_345);
    await fs.writeFile(at(1, 'later'), 'stays');
    await fs.rm(at(0, 'sub/deep'), { recursive: true });
    await fs.rm(at(0, 'link'));
    const user = await fs.open(at(1, 'b.raw'));
    await refused(1, /b\.raw of \/vm is open/, 'rollback', '--vm', '/vm', 'one', '--yes');
    await user.close();
    assert.equal(await numberIn(at(0, 'a.raw')), 12_345);
    const { before: name } = await done<{ before: string }>(1, 'rollback', 'one', '--yes');
    for (const host of [0, 1]) {
      await appears(at(host, 'sub/deep/log'));
      await appears(at(host, 'link'));
      assert.equal(await numberIn(at(host, 'conf')), kept);
      assert.ok([kept, kept + 1].includes(await numberIn(at(host, 'a.raw'))));
      assert.ok([kept, kept + 1].includes(await numberIn(at(host, 'b.raw'))));
      assert.equal(await numberIn(at(host, 'sub/c.raw')), 0);
      assert.equal(await fs.readFile(at(host, 'later'), 'utf8'), 'stays');
      for (const file of ['a.raw', 'b.raw', 'sub/c.raw', 'conf'])
        assert.equal(await numberIn(at(host, '.snapshots', name, file)), 12_345);
    }
    await done(0, 'rollback', name, '--yes');
    assert.equal(await numberIn(at(1, 'a.raw')), 12_345);
    assert.equal(await numberIn(at(1, 'conf')), 12_345);
  });

  test('says no to what makes no sense, in one line', async () => {
    const create = (...words: string[]) => ['create', '--vm', ...words];
    await refused(1, /\/vm has a snapshot one already/, ...create('/vm', 'one'));
    await refused(1, /is no name of a snapshot/, ...create('/vm', '.x'));
    await refused(1, /\/vm\/sub\/deep has no vDisk/, ...create('/vm/sub/deep'));
    await refused(1, /\/vm\/conf is not a folder/, ...create('/vm/conf'));
    await refused(3, /\/nothing: no such/, ...create('/nothing'));
    await refused(3, /\/vm has no snapshot x/, 'delete', '--vm', '/vm', 'x', '--yes');
    await refused(3, /\/vm has no snapshot x/, 'rollback', '--vm', '/vm', 'x', '--yes');
    await refused(2, /not deleted without --yes/, 'delete', '--vm', '/vm', 'one');
  });

  test('has its snapshots deleted as a whole, unless somebody reads one', async () => {
    const reader = await fs.open(at(1, '.snapshots/two/conf'));
    try {
      const words = ['delete', '--vm', '/vm', 'two', '--yes'];
      await refused(1, /conf of \/vm@two is open/, ...words);
      assert.deepEqual((await fs.readdir(at(0, '.snapshots/two'))).length, 5);
    } finally {
      await reader.close();
    }
    for (const name of await fs.readdir(at(0, '.snapshots')))
      await done(name.length % 2, 'delete', name, '--yes');
    while (
      await fs.stat(at(0, '.snapshots')).then(
        () => true,
        () => false,
      )
    )
      await sleep(20);
    await fs.rm(at(0), { recursive: true });
  });
});
