import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { leaksIn } from '../leaks.ts';

test('what tests leave behind is seen', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'wharf-leaks-'));
  assert.deepEqual(leaksIn(folder), []);
  writeFileSync(join(folder, 'file'), '');
  const child = spawn('sleep', ['60'], { cwd: folder });
  const leaks = leaksIn(folder).map((leak) => leak.split(' ')[0]);
  child.kill();
  await new Promise((resolve) => child.once('close', resolve));
  assert.deepEqual(leaks, ['process', 'folder']);
  rmSync(folder, { recursive: true });
});
