/**
 * Two hosts whose kernels believe names and attributes for an hour: what one changes, the other sees
 * because it is told.
 */

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import type { Daemon } from '../support/daemon.ts';
import { DaemonPair } from '../support/daemon-pair.ts';
import { cannotMount } from '../support/playground.ts';

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException).code;

async function lookups({ status }: { status: Daemon['status'] }): Promise<number> {
  const { requests } = await status<{ requests: Record<string, number> }>();
  return (requests['lookup'] ?? 0) + (requests['getattr'] ?? 0);
}

describe('two hosts with names in memory', { skip: cannotMount }, () => {
  let pair: DaemonPair;
  let a: Daemon;
  let b: Daemon;
  before(async () => {
    pair = new DaemonPair({ fuse: { timeout: '1h' } });
    await pair.start();
    ({ a, b } = pair);
  });
  after(() => pair[Symbol.asyncDispose]());

  /** What stat at b gives: the mode, or the error. */
  const seen = (name: string) =>
    fs.stat(b.at(name)).then(({ mode }) => (mode & 0o777).toString(8), codeOf);
  /** b's kernel has it so by itself. */
  const believed = (name: string, what: string) =>
    b.until(`b believes that ${name} is ${what}`, async () => {
      assert.equal(await seen(name), what);
      const asked = await lookups({ status: () => b.status() });
      await seen(name);
      return (await lookups({ status: () => b.status() })) === asked;
    });
  const becomes = (name: string, what: string) =>
    b.until(`${name} is ${what} at b`, async () => (await seen(name)) === what);

  test('see what is made and removed, where they had seen that there was none', async () => {
    await believed('made', 'ENOENT');
    await fs.writeFile(a.at('made'), '', { mode: 0o640 });
    await becomes('made', '640');
    await believed('made', '640');
    await fs.unlink(a.at('made'));
    await becomes('made', 'ENOENT');
    await believed('folder', 'ENOENT');
    await fs.mkdir(a.at('folder'), { mode: 0o700 });
    await becomes('folder', '700');
    await fs.rmdir(a.at('folder'));
    await becomes('folder', 'ENOENT');
  });

  test('see what is renamed, exchanged and changed', async () => {
    await fs.mkdir(a.at('from'));
    await fs.writeFile(a.at('from/x'), 'x', { mode: 0o600 });
    await fs.writeFile(a.at('y'), 'y', { mode: 0o644 });
    await becomes('from/x', '600');
    await believed('from/x', '600');
    await believed('x', 'ENOENT');
    await fs.rename(a.at('from/x'), a.at('x'));
    await becomes('from/x', 'ENOENT');
    await becomes('x', '600');
    await believed('x', '600');
    await believed('y', '644');
    await fs.rename(a.at('y'), a.at('x'));
    await becomes('x', '644');
    await becomes('y', 'ENOENT');
    assert.equal(await fs.readFile(b.at('x'), 'utf8'), 'y');
    await believed('x', '644');
    await fs.chmod(a.at('x'), 0o604);
    await becomes('x', '604');
    await fs.rename(a.at('from'), a.at('to'));
    await becomes('to', '755');
    await becomes('from', 'ENOENT');
  });

  test('do not undo or refuse anything by what they believe', async () => {
    await believed('dir', 'ENOENT');
    await fs.mkdir(a.at('dir'));
    await assert.rejects(fs.mkdir(b.at('dir')), { code: 'EEXIST' });
    await fs.writeFile(a.at('dir/f'), 'f');
    await assert.rejects(fs.rmdir(b.at('dir')), { code: 'ENOTEMPTY' });
    await fs.unlink(a.at('dir/f'));
    await fs.rmdir(b.at('dir'));
    await assert.rejects(fs.writeFile(a.at('dir/g'), 'g'), { code: 'ENOENT' });
    const rounds = Array.from({ length: 40 }, (_, index) => index);
    await fs.mkdir(a.at('many'));
    await becomes('many', '755');
    await Promise.all(
      rounds.map(async (index) => {
        await fs.writeFile(a.at('many', `a${index}`), 'a');
        await fs.rename(a.at('many', `a${index}`), a.at('many', `moved${index}`));
        await fs.writeFile(b.at('many', `b${index}`), 'b');
        await fs.link(b.at('many', `b${index}`), b.at('many', `linked${index}`));
        await fs.unlink(b.at('many', `b${index}`));
      }),
    );
    const expected = rounds.flatMap((index) => [`linked${index}`, `moved${index}`]).sort();
    assert.deepEqual((await fs.readdir(a.at('many'))).sort(), expected);
    assert.deepEqual((await fs.readdir(b.at('many'))).sort(), expected);
  });
});
