/**
 * Files that two hosts use: who opens one sees what others had when they closed or synced it, though
 * kernels believe for an hour what they are not told; and no host undoes what another has written.
 */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { constants } from 'node:os';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, test } from 'node:test';
import type { Daemon } from '../support/daemon.ts';
import { DaemonPair } from '../support/daemon-pair.ts';
import { cannotMount } from '../support/playground.ts';

const text = (file: string) => fs.readFile(file, 'utf8');

describe('two hosts with files in memory', { skip: cannotMount }, () => {
  let pair: DaemonPair;
  let a: Daemon;
  let b: Daemon;
  before(async () => {
    pair = new DaemonPair({ fuse: { timeout: '1h' } });
    await pair.start();
    ({ a, b } = pair);
  });
  after(() => pair[Symbol.asyncDispose]());

  test('see at open what the other had at close: longer, shorter, and as long', async () => {
    const contents = ['one', 'four4', '4', 'x', 'y'.repeat(10_000), 'z'.repeat(10_000), ''];
    for (let round = 0; round < 6; round += 1)
      for (const content of contents) {
        const [writer, reader] = round % 2 === 0 ? [a, b] : [b, a];
        await fs.writeFile(writer.at('note'), content);
        assert.equal(await text(reader.at('note')), content);
        assert.equal(await text(writer.at('note')), content);
      }
  });

  test('see at open what the other has synced, while both have it open', async () => {
    const writer = await fs.open(a.at('log'), 'w');
    await writer.write('begin;');
    await writer.sync();
    const reader = await fs.open(b.at('log'), 'r');
    assert.equal(await reader.readFile('utf8'), 'begin;');
    for (let round = 0; round < 20; round += 1) {
      const before = await text(b.at('log'));
      await writer.write(`line ${round};`);
      await writer.sync();
      assert.equal(await text(b.at('log')), `${before}line ${round};`);
    }
    await writer.truncate(5);
    await writer.sync();
    assert.equal(await text(b.at('log')), 'begin');
    assert.equal((await fs.stat(b.at('log'))).size, 5);
    await writer.close();
    const again = await fs.open(b.at('log'), 'r');
    assert.equal((await again.stat()).size, 5);
    await again.close();
    await reader.close();
    assert.equal((await fs.stat(a.at('log'))).size, 5);
    await fs.writeFile(a.at('log'), 'new content');
    await b.until('b, which has it no longer open, sees it', async () => {
      return (await fs.stat(b.at('log'))).size === 11;
    });
  });

  test('both append, and every line is there once', async () => {
    const lines = 60;
    await fs.writeFile(a.at('lines'), '');
    const append = async (host: Daemon, writer: string) => {
      const file = await fs.open(host.at('lines'), 'a');
      for (let line = 0; line < lines; line += 1)
        await file.write(`${writer} ${line} ${writer.repeat(40 + line)}\n`);
      await file.close();
    };
    await Promise.all([append(a, 'a'), append(a, 'A'), append(b, 'b'), append(b, 'B')]);
    const found = await text(a.at('lines'));
    assert.equal(await text(b.at('lines')), found);
    const expected = ['a', 'A', 'b', 'B'].flatMap((writer) =>
      Array.from({ length: lines }, (_, line) => `${writer} ${line} ${writer.repeat(40 + line)}`),
    );
    assert.deepEqual(found.trimEnd().split('\n').sort(), expected.sort());
  });

  test('one truncates while the other appends: what is there is whole', async () => {
    const record = `${'r'.repeat(99)}\n`;
    await fs.writeFile(a.at('cut'), record.repeat(3));
    const file = await fs.open(b.at('cut'), 'a');
    for (let round = 0; round < 30; round += 1) {
      await file.write(record);
      assert.equal((await fs.stat(b.at('cut'))).size % 100, 0);
      await fs.truncate(a.at('cut'), 100 * (round % 3));
      await file.write(record);
      await file.sync();
      assert.equal(await text(a.at('cut')), record.repeat((round % 3) + 1));
      await fs.truncate(a.at('cut'), 300);
    }
    await file.close();
    assert.equal(await text(b.at('cut')), record.repeat(3));
  });

  test('one removes a file that the other has open, which uses it until it closes it', async () => {
    await fs.writeFile(a.at('open'), 'before');
    await fs.writeFile(a.at('other'), 'of a');
    const [first, second] = [await fs.open(b.at('open'), 'r+'), await fs.open(b.at('open'), 'r+')];
    await fs.rename(a.at('other'), a.at('open'));
    await b.until('b sees the new one', async () => (await text(b.at('open'))) === 'of a');
    await first.write('after', 0);
    await first.sync();
    await first.chmod(0o600);
    await first.truncate(5);
    assert.equal(await second.readFile('utf8'), 'after');
    await first.close();
    const { nlink, size, mode } = await second.stat();
    assert.deepEqual([nlink, size, mode & 0o777], [0, 5, 0o600]);
    await second.write('!', 5);
    const into = Buffer.alloc(10);
    assert.equal((await second.read(into, 0, 10, 0)).bytesRead, 6);
    await second.close();
    assert.equal(await text(a.at('open')), 'of a');
    const orphans = () => {
      using registry = new DatabaseSync(pair.registry, { readOnly: true });
      const isOrphan = "substr(key, 1, 1) = CAST('u' AS BLOB)";
      return registry.prepare(`SELECT key FROM entries WHERE ${isOrphan}`).all().length;
    };
    assert.equal(orphans(), 1);
    await a.until('nothing is left of it', () => orphans() === 0);
  });

  test('one replaces a file again and again, and the other reads one version or the next', async () => {
    await fs.writeFile(a.at('state'), 'version 0 '.repeat(500));
    let version = 0;
    const replacing = (async () => {
      for (; version < 60; version += 1) {
        await fs.writeFile(a.at('state.new'), `version ${version} `.repeat(500));
        await fs.rename(a.at('state.new'), a.at('state'));
      }
    })();
    let reads = 0;
    while (version < 60) {
      // A file that is removed while it is open elsewhere is gone there.
      const found = await text(b.at('state')).catch((error: NodeJS.ErrnoException) => {
        assert.equal(-(error.errno ?? 0), constants.errno.ESTALE);
      });
      if (found === undefined) continue;
      const [, seen = ''] = /^version (\d+) /.exec(found) ?? [];
      assert.equal(found, `version ${seen} `.repeat(500));
      reads += 1;
    }
    await replacing;
    assert.ok(reads > 0);
    assert.equal(await text(b.at('state')), 'version 59 '.repeat(500));
  });
});
