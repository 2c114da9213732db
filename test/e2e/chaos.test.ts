/** A short chaos run, always the same: the long ones are `npm run chaos`. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { leaksIn } from '../leaks.ts';
import { etcdMissing } from '../support/etcd.ts';
import { networksMissing } from '../support/networks.ts';
import { cannotMount } from '../support/playground.ts';
import type { Outcome } from '../chaos/outcome.ts';

const program = join(import.meta.dirname, '../chaos/run.ts');

describe('a chaos run', { skip: cannotMount || etcdMissing || networksMissing }, () => {
  /** In a folder of its own, of which a test may say that nothing was left in it. */
  function start(...flags: readonly string[]) {
    const folder = mkdtempSync(join(tmpdir(), 'wharf-chaos-test-'));
    const child = spawn(process.execPath, [program, '--json', ...flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: folder },
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (text: Buffer) => (stdout += text.toString()));
    child.stderr.on('data', (text: Buffer) => (stderr += text.toString()));
    const ended = once(child, 'close').then(([code]) => {
      assert.equal(code, 0, `${stdout}\n${stderr}`);
      assert.deepEqual(leaksIn(folder), []);
      rmSync(folder, { recursive: true });
      return JSON.parse(stdout) as Outcome;
    });
    return { child, ended, said: () => stderr };
  }

  test('breaks no promise', async (t) => {
    const outcome = await start('--minutes', '0.3', '--seed', '3589').ended;
    t.diagnostic(JSON.stringify(outcome));
    assert.ok(outcome.isWhole);
    assert.ok(outcome.writesFlushed > 0);
    for (const what of ['kill', 'cut-all', 'store-kill', 'snapshot', 'bytes verified'] as const)
      assert.ok(
        Object.keys(outcome.counts).some((name) => name.startsWith(what)),
        what,
      );
  });

  test('takes everything away when it is interrupted amid faults', async () => {
    const { child, ended, said } = start('--minutes', '10', '--seed', '3589');
    while (!said().includes('round 1')) await once(child.stderr, 'data');
    child.kill('SIGINT');
    assert.ok(!(await ended).isWhole);
  });
});
