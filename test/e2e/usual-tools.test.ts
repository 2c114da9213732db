/** Programs that know nothing of Wharf and expect an ordinary file system: cp, tar, git, SQLite. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, test } from 'node:test';
import { Daemon } from '../support/daemon.ts';
import { cannotMount, sh } from '../support/playground.ts';

const incrementsEach = 25;

/** Adds to a counter, a transaction each; waits for others as SQLite does. */
const incrementing = (path: string) => `
  const { DatabaseSync } = require('node:sqlite');
  const database = new DatabaseSync(${JSON.stringify(path)});
  database.exec('PRAGMA busy_timeout = 30000; PRAGMA synchronous = FULL');
  for (let index = 0; index < ${incrementsEach}; index += 1)
    database.exec('BEGIN IMMEDIATE; UPDATE counter SET value = value + 1; COMMIT');
  database.close();`;

describe('usual tools', { skip: cannotMount }, () => {
  let daemon: Daemon;
  before(async () => {
    daemon = new Daemon();
    await daemon.start();
  });
  after(() => daemon[Symbol.asyncDispose]());

  /** A folder outside of the mount with files, folders, links, modes and times of many kinds. */
  async function makeTree(): Promise<string> {
    const tree = join(daemon.folder, 'tree');
    for (let index = 0; index < 300; index += 1) {
      const folder = join(tree, `folder ${index % 10}`, `inner${index % 3}`);
      await fs.mkdir(folder, { recursive: true });
      const file = join(folder, `file ${index}`);
      await fs.writeFile(file, `${index}\n`.repeat(index * 7));
      await fs.chmod(file, [0o644, 0o600, 0o755, 0o4711][index % 4] as number);
      await fs.chown(file, index % 5, index % 7);
      await fs.utimes(file, 1_000_000 + index / 7, 2_000_000 + index / 3);
      if (index % 10 === 0) await fs.link(file, join(tree, `link ${index}`));
      if (index % 15 === 0) await fs.symlink(`../${index}`, join(folder, `symlink ${index}`));
    }
    await sh('mkfifo', join(tree, 'pipe'));
    return tree;
  }

  /** What there is, with all that a copy has to keep. */
  const inventory = async (folder: string) =>
    (await sh('find', folder, '-printf', '%P %y %m %U %G %n %T@ %l\n')).split('\n').sort();

  test('copy a tree by cp and tar, with links, modes, owners and times', async () => {
    const tree = await makeTree();
    const copied = daemon.at('copied');
    await sh('cp', '-a', tree, copied);
    const archive = join(daemon.folder, 'tree.tar');
    await sh('tar', '-C', copied, '--sort=name', '-cf', archive, '.');
    await fs.mkdir(daemon.at('unpacked'));
    await sh('tar', '-C', daemon.at('unpacked'), '--same-owner', '-xpf', archive);
    assert.equal(await daemon.end('SIGTERM'), 0);
    await daemon.start();
    for (const folder of [copied, daemon.at('unpacked')]) {
      await sh('diff', '-r', '--no-dereference', '--exclude=pipe', tree, folder);
      await sh('test', '-p', join(folder, 'pipe'));
    }
    assert.deepEqual(await inventory(copied), await inventory(tree));
    await sh('tar', '-C', daemon.at('unpacked'), '--compare', '-f', archive);
  });

  test('hold a git repository', async () => {
    const repository = daemon.at('repository');
    const git = (...argv: string[]) =>
      sh('git', '-C', repository, '-c', 'user.name=a', '-c', 'user.email=a@b', ...argv);
    await sh('git', 'init', '-q', repository);
    for (let index = 0; index < 100; index += 1)
      await fs.writeFile(join(repository, `file${index}`), `${index}\n`.repeat(index));
    await git('add', '.');
    await git('commit', '-q', '-m', 'first');
    await git('gc', '-q', '--aggressive');
    await git('fsck', '--strict');
    assert.equal(await git('status', '--short'), '');
  });

  for (const journal of ['DELETE', 'WAL'])
    test(`share an SQLite database (${journal}), which a kill of the daemon leaves whole`, async () => {
      const path = daemon.at(`${journal}.sqlite`);
      const first = new DatabaseSync(path);
      first.exec(`PRAGMA journal_mode = ${journal}`);
      first.exec('CREATE TABLE counter (value INTEGER); INSERT INTO counter VALUES (0)');
      const increment = () => sh(process.execPath, '-e', incrementing(path));
      await Promise.all([increment(), increment()]);
      first.exec('CREATE TABLE big (data BLOB)');
      first.prepare('INSERT INTO big VALUES (?)').run(Buffer.alloc(3_000_000, 'wharf'));
      await daemon.end('SIGKILL');
      // Its files are of a mount that is gone: closing says so.
      assert.throws(() => {
        first.exec('SELECT * FROM big');
        first.close();
      });
      await daemon.start();
      const database = new DatabaseSync(path);
      assert.deepEqual(
        { ...database.prepare('PRAGMA integrity_check').get() },
        { integrity_check: 'ok' },
      );
      assert.deepEqual(
        { ...database.prepare('SELECT value FROM counter').get() },
        { value: 2 * incrementsEach },
      );
      const { data } = database.prepare('SELECT data FROM big').get() as { data: Uint8Array };
      assert.ok(Buffer.alloc(3_000_000, 'wharf').equals(data));
      database.close();
    });
});
