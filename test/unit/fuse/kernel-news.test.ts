import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Ino } from '../../../src/core/units.ts';
import { fileName, ino as toIno } from '../../../src/core/units.ts';
import { KernelNews } from '../../../src/frontend/fuse/kernel-news.ts';
import type { ForeignChange } from '../../../src/registry/cached-registry.ts';
import type { Inode } from '../../../src/registry/namespace.ts';
import { keys, putInode } from '../../../src/registry/namespace.ts';
import { encodeRecord } from '../../../src/registry/record.ts';
import { quietLog } from '../../support/quiet-log.ts';

const settle = () => new Promise((resolve) => setImmediate(resolve));
const file: Inode = {
  ...{ ino: toIno(7), type: 'file', mode: 0o644, linkCount: 1, uid: 0, gid: 0, rdev: 0 },
  ...{ sizeBytes: 1, allocatedBytes: 1, accessedNs: 1n, modifiedNs: 1n, changedNs: 1n },
};
const recordOf = (inode: Inode) => (putInode(inode) as { put: Uint8Array }).put;
const inodeChange = (before: Partial<Inode> | undefined, now: Partial<Inode> | undefined) => ({
  key: keys.inode(file.ino),
  before: before && recordOf({ ...file, ...before }),
  value: now && recordOf({ ...file, ...now }),
});
const entryChange = (before: string | undefined, now: string | undefined) => {
  const record = (name: string) => encodeRecord({ name: fileName(name), ino: 7, type: 'file' });
  const key = keys.entry(toIno(1), 512n);
  return {
    key,
    before: before?.length ? record(before) : undefined,
    value: now ? record(now) : undefined,
  };
};

/** A kernel that writes down what it is told, and may be slow to take it. */
function world() {
  const told: string[] = [];
  const log = quietLog();
  let tell: (change: ForeignChange) => void = () => {};
  const state = { isLive: true, gate: Promise.resolve() };
  const names = {
    isLive: () => state.isLive,
    onForeignChange: (listener: (change: ForeignChange) => void) => (tell = listener),
  };
  const news = new KernelNews({ names, log, timeoutMs: 10_000 });
  const mount = {
    invalidateInode: async (ino: Ino, what: string) => {
      told.push(`inode ${ino} ${what}`);
      await state.gate;
    },
    invalidateEntry: async (parent: Ino, name: string) => {
      told.push(`entry ${parent}/${name}`);
      await state.gate;
    },
  };
  news.serve(mount);
  return { news, told, log, state, tell: (change: ForeignChange) => tell(change) };
}

describe('the news for a kernel', () => {
  test('name what it has to forget', async () => {
    const { told, tell, news } = world();
    const cases: [ForeignChange, string[]][] = [
      [inodeChange({}, { mode: 0o600 }), ['inode 7 attributes']],
      [inodeChange({}, { sizeBytes: 2 }), ['inode 7 all']],
      [inodeChange({}, { modifiedNs: 2n }), ['inode 7 all']],
      [inodeChange(undefined, {}), ['inode 7 all']],
      [inodeChange({}, undefined), ['inode 7 attributes']],
      [
        inodeChange({ type: 'directory' }, { type: 'directory', modifiedNs: 2n }),
        ['inode 7 attributes'],
      ],
      [entryChange(undefined, 'new'), ['entry 1/new']],
      [entryChange('old', undefined), ['entry 1/old']],
      [entryChange('old', 'new'), ['entry 1/old', 'entry 1/new']],
      [entryChange(undefined, undefined), []],
    ];
    for (const [change, expected] of cases) {
      const before = news.changeCount();
      told.length = 0;
      tell(change);
      await settle();
      assert.deepEqual(told, expected);
      assert.equal(news.changeCount() - before, 1);
    }
  });

  test('come one at a time, are merged while they wait, and bounded', async () => {
    const { told, tell, state, log } = world();
    const { promise, resolve } = Promise.withResolvers<void>();
    state.gate = promise;
    tell(entryChange(undefined, 'first'));
    for (let round = 0; round < 3; round += 1) tell(inodeChange({}, { mode: round }));
    tell(inodeChange({}, { sizeBytes: 2 }));
    tell(inodeChange({}, { mode: 0 }));
    for (let index = 0; index < 12_000; index += 1) tell(entryChange(undefined, `n${index}`));
    await settle();
    assert.deepEqual(told, ['entry 1/first']);
    resolve();
    await settle();
    assert.deepEqual(told.slice(0, 3), ['entry 1/first', 'inode 7 all', 'entry 1/n0']);
    assert.equal(told.length, 1 + 10_000);
    assert.equal(log.lines.length, 1);
    tell(entryChange(undefined, 'again'));
    await settle();
    assert.equal(told.at(-1), 'entry 1/again');
  });

  test('let the kernel believe for longer while they come', () => {
    const { news, state } = world();
    assert.equal(news.timeoutMs(), 10_000);
    state.isLive = false;
    assert.equal(news.timeoutMs(), 1000);
  });
});
