/** Snapshots, clones and templates by the command, on whichever of two hosts. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { MiB } from '../../src/core/units.ts';
import type { VdiskReport } from '../../src/daemon/endpoints.ts';
import type { SnapshotReport } from '../../src/frontend/admin/vdisk-snapshots.ts';
import { wharf } from '../support/command.ts';
import { cannotMount, Playground } from '../support/playground.ts';

const sizeBytes = 8 * MiB;
const content = (value: number) => Buffer.alloc(sizeBytes, value);

describe('a vDisk', { skip: cannotMount }, () => {
  const playground = new Playground();
  const at = (host: number, name: string) => join(playground.hosts[host]?.mount ?? '', name);
  const admin = (host: number) => playground.hosts[host]?.admin ?? '';

  async function done<T = VdiskReport>(host: number, ...words: string[]): Promise<T> {
    const { code, stdout, stderr } = await wharf(...words, '--json', '--admin', admin(host));
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as T;
  }

  /** One line that says why. */
  async function refused(code: number, why: RegExp, ...words: string[]): Promise<void> {
    const ended = await wharf(...words, '--admin', admin(0));
    assert.deepEqual([ended.code, ended.stdout], [code, ''], ended.stderr);
    assert.match(ended.stderr, why);
    assert.equal(ended.stderr.trim().split('\n').length, 1, ended.stderr);
  }

  async function write(host: number, name: string, value: number): Promise<void> {
    const file = await fs.open(at(host, name), 'r+').catch(() => fs.open(at(host, name), 'w'));
    await file.write(content(value), 0, sizeBytes, 0);
    await file.sync();
    await file.close();
  }

  async function holds(host: number, name: string, value: number): Promise<void> {
    assert.ok(
      (await fs.readFile(at(host, name))).equals(content(value)),
      `${name} is not ${value}`,
    );
  }

  const snapshotsOf = async (path: string) =>
    (await done<{ snapshots: SnapshotReport[] }>(1, 'vdisk', 'snapshot', 'list', path)).snapshots;

  before(async () => {
    await playground.start('--hosts', '2');
    await fs.mkdir(at(0, 'vm'));
  });
  after(() => playground[Symbol.asyncDispose]());

  test('is kept as it is, and is made that again', async () => {
    await write(0, 'vm/d.raw', 1);
    const made = await done<SnapshotReport>(1, 'vdisk', 'snapshot', 'create', '/vm/d.raw', 'one');
    assert.deepEqual([made.name, made.sizeBytes, made.clones], ['one', sizeBytes, 0]);
    await write(1, 'vm/d.raw', 2);
    const timed = await done<SnapshotReport>(0, 'vdisk', 'snapshot', 'create', at(0, 'vm/d.raw'));
    assert.match(timed.name, /^\d{4}-\d\d-\d\dT/);
    type Done = VdiskReport & { before: string };
    const words = ['vdisk', 'snapshot', 'rollback', '/vm/d.raw'];
    const rolled = await done<Done>(1, ...words, 'one', '--yes');
    await holds(0, 'vm/d.raw', 1);
    await holds(1, 'vm/d.raw', 1);
    await done(0, ...words, rolled.before, '--yes');
    await holds(1, 'vm/d.raw', 2);
    const names = (await snapshotsOf('/vm/d.raw')).map(({ name }) => name);
    assert.equal(names.length, 4);
    assert.deepEqual(names.slice(0, 3), ['one', timed.name, rolled.before]);
  });

  test('is rolled back under its user only by force, and a table shows what there is', async () => {
    const user = await fs.open(at(1, 'vm/d.raw'), 'r+');
    const words = ['vdisk', 'snapshot', 'rollback', '/vm/d.raw', 'one'];
    try {
      await refused(1, /\/vm\/d\.raw is open: stop its guest first; --force/, ...words, '--yes');
      await done(0, ...words, '--yes', '--force');
      const { buffer } = await user.read(Buffer.alloc(MiB), 0, MiB, 0);
      assert.ok(buffer.equals(Buffer.alloc(MiB, 1)));
    } finally {
      await user.close();
    }
    const listed = await wharf('vdisk', 'snapshot', 'list', '/vm/d.raw', '--admin', admin(0));
    assert.match(listed.stdout, /^SNAPSHOT +CREATED +SIZE +DATA +CLONES\none +20.* 8\.0 MiB/);
    await refused(2, /is not rolled back without --yes/, ...words);
  });

  test('says no to what makes no sense, in one line', async () => {
    const snapshot = (...words: string[]) => ['vdisk', 'snapshot', ...words];
    await refused(1, /snapshot one exists already/, ...snapshot('create', '/vm/d.raw', 'one'));
    for (const name of ['a/b', '.hidden', 'a@b', '', 'x'.repeat(129)])
      await refused(1, /is no name of a snapshot/, ...snapshot('create', '/vm/d.raw', name));
    await refused(3, /\/vm\/none\.raw: no such/, ...snapshot('create', '/vm/none.raw', 'x'));
    const gone = snapshot('delete', '/vm/d.raw', 'none', '--yes');
    await refused(3, /\/vm\/d\.raw has no snapshot none/, ...gone);
    await refused(3, /has no snapshot none/, ...snapshot('rollback', '/vm/d.raw', 'none', '--yes'));
    await refused(2, /is not deleted without --yes/, ...snapshot('delete', '/vm/d.raw', 'one'));
    await refused(1, /\/vm\/d\.raw exists already/, 'vdisk', 'clone', '/vm/d.raw', '/vm/d.raw');
    await refused(3, /has no snapshot x/, 'vdisk', 'clone', '/vm/d.raw@x', '/vm/x.raw');
    await refused(3, /\/no: no such/, 'vdisk', 'clone', '/vm/d.raw', '/no/x.raw');
    await assert.rejects(fs.stat(at(0, 'vm/x.raw')), { code: 'ENOENT' });
  });

  test('is not removed with its snapshots unawares, by whatever way', async () => {
    await fs.writeFile(at(0, 'other.raw'), 'x');
    await assert.rejects(fs.unlink(at(1, 'vm/d.raw')), { code: 'EBUSY' });
    await assert.rejects(fs.rename(at(1, 'other.raw'), at(1, 'vm/d.raw')), { code: 'EBUSY' });
    await refused(
      1,
      /has snapshots, which have to go first/,
      'vdisk',
      'delete',
      '/vm/d.raw',
      '--yes',
    );
    await holds(1, 'vm/d.raw', 1);
    await fs.rename(at(0, 'vm/d.raw'), at(0, 'vm/e.raw'));
    assert.equal((await snapshotsOf('/vm/e.raw')).length > 3, true);
    await fs.rename(at(0, 'vm/e.raw'), at(0, 'vm/d.raw'));
  });

  test('is cloned at once, to be used on any host, and lives on when its source goes', async () => {
    await write(0, 'source.raw', 3);
    await done(0, 'vdisk', 'clone', '/source.raw', '/first.raw');
    await done(0, 'vdisk', 'snapshot', 'create', '/source.raw', 's');
    await write(1, 'source.raw', 4);
    await done(1, 'vdisk', 'clone', '/source.raw@s', '/second.raw');
    await holds(1, 'first.raw', 3);
    await holds(0, 'second.raw', 3);
    await write(1, 'first.raw', 5);
    await done(1, 'vdisk', 'clone', '/first.raw', '/third.raw');
    const shown = await done(0, 'vdisk', 'show', '/second.raw');
    assert.deepEqual([shown.sharedBytes, shown.uniqueBytes], [sizeBytes, 0]);
    const words = ['vdisk', 'snapshot', 'delete', '/source.raw', 's', '--yes'];
    await refused(1, /snapshot s has clones/, ...words);
    await done(0, 'vdisk', 'flatten', '/second.raw');
    await done(0, ...words);
    await fs.unlink(at(0, 'source.raw'));
    await fs.unlink(at(0, 'first.raw'));
    await holds(0, 'third.raw', 5);
    await holds(1, 'second.raw', 3);
    await fs.unlink(at(1, 'third.raw'));
    // Nothing is left of those that no clone needs.
    const volumes = async () =>
      (await fs.readdir(playground.store)).filter((name) => /^wharf-demo-[0-9a-f]{32}$/.test(name));
    for (let attempt = 0; (await volumes()).length > 3; attempt += 1) {
      assert.ok(attempt < 200, `${(await volumes()).length} buckets are left`);
      await sleep(50);
    }
  });

  test('that is a template is neither written nor lost, and has a hundred clones', async () => {
    await write(0, 'golden.raw', 6);
    await done(0, 'template', 'create', '/golden.raw');
    await assert.rejects(write(1, 'golden.raw', 7), { code: 'EROFS' });
    await assert.rejects(fs.truncate(at(1, 'golden.raw'), 0), { code: 'EROFS' });
    await assert.rejects(fs.unlink(at(0, 'golden.raw')), { code: 'EBUSY' });
    const numbers = Array.from({ length: 100 }, (_, number) => number);
    const clone = async (number: number) => {
      const query = new URLSearchParams({ path: '/golden.raw', to: `/clone${number}.raw` });
      const url = `${admin(number % 2)}/v1/vdisk/clone?${query.toString()}`;
      const response = await fetch(url, { method: 'POST' });
      assert.equal(response.status, 200, await response.text());
    };
    await Promise.all(numbers.map(clone));
    for (const number of [0, 1, 50, 99]) await holds((number + 1) % 2, `clone${number}.raw`, 6);
    const { templates } = await done<{ templates: { clones: number }[] }>(1, 'template', 'list');
    assert.deepEqual(
      templates.map(({ clones }) => clones),
      [100],
    );
    const gone = ['template', 'delete', '/golden.raw', '--yes'];
    await refused(1, /\/golden\.raw has 100 clones/, ...gone);
    await holds(1, 'golden.raw', 6);
    await Promise.all(numbers.map((number) => fs.unlink(at(0, `clone${number}.raw`))));
    for (let attempt = 0; ; attempt += 1) {
      const { code } = await wharf(...gone, '--admin', admin(0));
      if (code === 0) break;
      assert.ok(attempt < 100, 'its clones are gone, and it is not deleted');
    }
    await assert.rejects(fs.stat(at(1, 'golden.raw')), { code: 'ENOENT' });
  });

  test('is compacted when asked, and says what that would do', async () => {
    type Report = { segments: number; liveBytes: number; victims: number };
    const plan = await done<Report>(1, 'vdisk', 'compact', '/vm/d.raw', '--dry-run');
    assert.ok(plan.segments > 0 && plan.liveBytes >= sizeBytes);
    const ran = await done<Report>(0, 'vdisk', 'compact', '/vm/d.raw');
    assert.equal(ran.victims, 0);
    await holds(1, 'vm/d.raw', 1);
  });
});
