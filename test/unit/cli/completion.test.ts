import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { wharf } from '../../support/command.ts';

/** What bash offers behind the words, of which the last one is being typed. */
function offered(script: string, ...words: string[]): string[] {
  const test = `${script}
    COMP_WORDS=(wharf "$@"); COMP_CWORD=$#; _wharf; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const output = execFileSync('bash', ['-c', test, 'bash', ...words], { encoding: 'utf8' });
  return output.split('\n').filter((line) => line !== '');
}

describe('completion in bash', () => {
  test('offers the commands and flags that the program has', async () => {
    const { stdout: script, code } = await wharf('completion', 'bash');
    assert.equal(code, 0);
    const all = offered(script, '');
    assert.ok(
      ['up', 'vdisk', 'completion', 'status'].every((name) => all.includes(name)),
      all.join(' '),
    );
    assert.deepEqual(offered(script, 'vd'), ['vdisk']);
    assert.deepEqual(offered(script, 'vdisk', 're'), ['resize', 'rename']);
    assert.deepEqual(offered(script, 'vdisk', 'resize', '--'), [
      ...['--admin', '--json', '--size', '--force', '--help'],
    ]);
    assert.deepEqual(offered(script, 'vdisk', 'resize', '/disk.raw', '--fo'), ['--force']);
    assert.deepEqual(offered(script, 'status', '--j'), ['--json']);
    // Files are bash's own business.
    assert.deepEqual(offered(script, 'vdisk', 'show', ''), []);
    assert.deepEqual(offered(script, 'vdisk', 'show', 'vdi'), []);
    assert.deepEqual(offered(script, 'nonsense', 'vd'), ['vdisk']);
  });

  test('is set up for the command by its name', async () => {
    const { stdout: script } = await wharf('completion', 'bash');
    const set = execFileSync('bash', ['-c', `${script}\ncomplete -p wharf`], { encoding: 'utf8' });
    assert.match(set, /-F _wharf wharf/);
  });

  test('is there for shells that are known', async () => {
    assert.equal((await wharf('completion', 'tcsh')).code, 2);
  });
});
