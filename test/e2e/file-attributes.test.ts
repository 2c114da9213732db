/** Owners, modes, times and sizes through a real mount: what a POSIX user expects of them. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { Daemon } from '../support/daemon.ts';
import { cannotMount } from '../support/playground.ts';
import { run } from '../support/servers.ts';

const nobody = 65_534;
const games = 60;
const setGroupId = 0o2000;
const setUserId = 0o4000;

/** A shell command as a user without rights. */
function asNobody(command: string, groups: { readonly gid: number } = { gid: nobody }) {
  return run('sh', ['-c', command], { uid: nobody, ...groups });
}

describe('through a mount', { skip: cannotMount }, () => {
  let daemon: Daemon;
  const at = (...parts: string[]) => daemon.at(...parts);
  const mode = async (path: string) => (await fs.stat(path)).mode & 0o7777;
  before(async () => {
    // The kernel asks again each time.
    daemon = new Daemon({ fuse: { timeout: '0ms' } });
    await daemon.start();
    await fs.chmod(daemon.folder, 0o755);
  });
  after(() => daemon[Symbol.asyncDispose]());

  test('times have nanoseconds, before 1970 and after 2106, over a restart', async () => {
    const given = [
      ['2001-02-03T04:05:06.123456789Z', '981173106.123456789'],
      ['1969-12-31T23:59:58.999999999Z', '-1.000000001'],
      ['2200-01-01T00:00:00.000000001Z', '7258118400.000000001'],
    ] as const;
    for (const [index, [text]] of given.entries()) {
      await fs.writeFile(at(`time-${index}`), '');
      await run('touch', ['-m', '-d', text, at(`time-${index}`)]);
      await run('touch', ['-a', '-d', '2002-02-02T02:02:02.2Z', at(`time-${index}`)]);
    }
    assert.equal(await daemon.end('SIGTERM'), 0);
    await daemon.start();
    for (const [index, [, seconds]] of given.entries()) {
      const { stdout } = await run('stat', ['-c', '%.9Y %.9X', at(`time-${index}`)]);
      assert.equal(stdout.trim(), `${seconds} 1012615322.200000000`);
    }
  });

  test('times move with what is done: data, attributes, names', async () => {
    const times = async (path: string) => {
      const { mtimeNs, ctimeNs } = await fs.stat(path, { bigint: true });
      return { mtimeNs, ctimeNs };
    };
    await fs.mkdir(at('moves'));
    await fs.writeFile(at('moves', 'a'), 'a');
    const old = await times(at('moves', 'a'));
    await fs.chmod(at('moves', 'a'), 0o600);
    const changed = await times(at('moves', 'a'));
    assert.equal(changed.mtimeNs, old.mtimeNs);
    assert.ok(changed.ctimeNs > old.ctimeNs);
    await fs.appendFile(at('moves', 'a'), 'b');
    const written = await times(at('moves', 'a'));
    assert.ok(written.mtimeNs > changed.mtimeNs && written.ctimeNs > changed.ctimeNs);
    const before = await times(at('moves'));
    await fs.rename(at('moves', 'a'), at('moves', 'b'));
    const renamed = await times(at('moves'));
    assert.ok(renamed.mtimeNs > before.mtimeNs && renamed.ctimeNs > before.ctimeNs);
  });

  test('a folder keeps the time it is given, though names came just before', async () => {
    const path = at('given');
    await fs.mkdir(path);
    await fs.writeFile(at('given', 'a'), '');
    const { ctimeNs: before } = await fs.stat(path, { bigint: true });
    await fs.chmod(path, 0o700);
    const { ctimeNs: after } = await fs.stat(path, { bigint: true });
    assert.ok(after >= before);
    await fs.writeFile(at('given', 'b'), '');
    await fs.utimes(path, 1000, 2000);
    const folder = await fs.open(path);
    await folder.sync();
    await folder.close();
    assert.equal((await fs.stat(path)).mtimeMs, 2_000_000);
    await fs.writeFile(at('given', 'c'), '');
    assert.ok((await fs.stat(path)).mtimeMs > 2_000_000);
  });

  test('a folder with set-group-id gives its group on, and the bit to folders', async () => {
    await fs.mkdir(at('shared'));
    await fs.chown(at('shared'), 0, games);
    await fs.chmod(at('shared'), 0o777 | setGroupId);
    await asNobody(`umask 027; mkdir ${at('shared/folder')}; echo > ${at('shared/folder/file')}`);
    const folder = await fs.stat(at('shared', 'folder'));
    assert.deepEqual(
      [folder.uid, folder.gid, folder.mode & 0o7777],
      [nobody, games, 0o750 | setGroupId],
    );
    const file = await fs.stat(at('shared', 'folder', 'file'));
    assert.deepEqual([file.uid, file.gid, file.mode & 0o7777], [nobody, games, 0o640]);
  });

  test('a user may do what modes and owners allow, and nothing else', async () => {
    await fs.writeFile(at('secret'), 'secret', { mode: 0o600 });
    await fs.mkdir(at('tmp'));
    await fs.chmod(at('tmp'), 0o1777);
    await fs.writeFile(at('tmp', 'of-root'), '', { mode: 0o666 });
    await asNobody(`echo own > ${at('tmp/own')}`);
    for (const [command, reason] of [
      [`cat ${at('secret')}`, /Permission denied/],
      [`chmod 666 ${at('secret')}`, /Operation not permitted/],
      [`chown ${nobody} ${at('secret')}`, /Operation not permitted/],
      [`chown 0 ${at('tmp/own')}`, /Operation not permitted/],
      [`chgrp ${games} ${at('tmp/own')}`, /Operation not permitted/],
      [`rm -f ${at('tmp/of-root')}`, /Operation not permitted/],
      [`mv ${at('tmp/of-root')} ${at('tmp/mine')}`, /Operation not permitted/],
      [`echo > ${at('new')}`, /Permission denied/],
    ] as const)
      await assert.rejects(asNobody(command), reason);
    await asNobody(`chmod 600 ${at('tmp/own')}; mv ${at('tmp/own')} ${at('tmp/mine')}`);
    assert.equal(await mode(at('tmp', 'mine')), 0o600);
    assert.equal(await fs.readFile(at('secret'), 'utf8'), 'secret');
  });

  for (const name of ['program', 'program.raw'])
    test(`${name} loses its set-id bits when somebody else changes it`, async () => {
      const restore = async () => {
        await fs.writeFile(at(name), '#!');
        await fs.chmod(at(name), 0o777 | setUserId | setGroupId);
        assert.equal(await mode(at(name)), 0o777 | setUserId | setGroupId);
      };
      for (const command of [
        `echo x >> ${at(name)}`,
        `truncate -s 1 ${at(name)}`,
        `: > ${at(name)}`,
      ]) {
        await restore();
        await asNobody(command);
        assert.equal(await mode(at(name)), 0o777, command);
      }
      await restore();
      await fs.chown(at(name), nobody, nobody);
      assert.equal(await mode(at(name)), 0o777);
    });

  test('df shows the space of the store', async () => {
    const numbers = async (path: string) => {
      const { bsize, blocks, bavail } = await fs.statfs(path);
      return { total: bsize * blocks, free: bsize * bavail };
    };
    const [shown, real] = await Promise.all([numbers(daemon.mount), numbers(daemon.store)]);
    assert.equal(shown.total, real.total);
    assert.ok(Math.abs(shown.free - real.free) < 0.05 * real.total, JSON.stringify([shown, real]));
    assert.ok(shown.free > 0);
  });
});
