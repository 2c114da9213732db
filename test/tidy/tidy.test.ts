/** Style as a test. Each gate shows that it can fail, and that it has seen something. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { findBreaches, readSources } from './floor-plan.ts';

const root = join(import.meta.dirname, '../..');

function run(command: string, ...argv: string[]): { status: number | null; output: string } {
  const bin = join(root, 'node_modules/.bin', command);
  const { status, stdout, stderr } = spawnSync(bin, argv, { cwd: root, encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

/** A bad file beside the good ones, for as long as `check` runs. */
function withBadFile(text: string, check: (folder: string) => void): void {
  const folder = mkdtempSync(join(root, 'test/tidy/bad-'));
  try {
    writeFileSync(join(folder, 'bad.ts'), text);
    check(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe('the source', () => {
  test('keeps to the floors of the house', () => {
    const sources = readSources(root);
    assert.ok(sources.length > 50);
    assert.deepEqual(findBreaches(sources), []);
  });

  test('is seen when it breaks the house', () => {
    const breach = (path: string, text: string) => findBreaches([{ path, text }]).length;
    assert.equal(breach('core/a.ts', "import { x } from '../ports/x.ts';"), 1);
    assert.equal(breach('volume/a.ts', "import { x } from '../file/x.ts';"), 1);
    assert.equal(breach('volume/a.ts', "import { x } from '../log/x.ts';"), 0);
    assert.equal(breach('attic/a.ts', ''), 1);
    assert.equal(breach('volume/a.ts', "import { z } from 'zod';"), 1);
    assert.equal(breach('volume/a.ts', "import * as fs from 'node:fs';"), 1);
    assert.equal(breach('volume/a.ts', 'const now = Date.now();'), 1);
  });

  test('has the format of the house', () => {
    const { status, output } = run('biome', 'format', '.');
    assert.equal(status, 0, output);
    assert.match(output, /Checked \d\d+ files/);
  });

  test('passes the type checker, which sees a planted mistake', () => {
    const good = run('tsc', '--noEmit');
    assert.equal(good.status, 0, good.output);
    withBadFile("export const wrong: number = 'text';\n", () => {
      assert.notEqual(run('tsc', '--noEmit').status, 0);
    });
  });

  test('passes the linter, which sees a planted mistake', () => {
    const good = run('oxlint', '--type-aware');
    assert.equal(good.status, 0, good.output);
    withBadFile('export async function f() {}\nexport default f;\n', (folder) => {
      assert.notEqual(run('oxlint', '--type-aware', folder).status, 0);
    });
  });

  test('has no dead files, exports or dependencies', () => {
    const { status, output } = run('knip');
    assert.equal(status, 0, output);
  });

  test('says of each dependency what it is for', () => {
    const { dependencies, devDependencies, optionalDependencies } = JSON.parse(
      readFileSync(join(root, 'package.json'), 'utf8'),
    ) as Record<string, object>;
    const page = readFileSync(join(root, 'docs/dependencies.md'), 'utf8');
    const named = [...page.matchAll(/^\| `([^`]+)` \|/gm)].map(([, name = '']) => name).sort();
    const used = [dependencies, devDependencies, optionalDependencies]
      .flatMap((list = {}) => Object.keys(list))
      .sort();
    assert.deepEqual(named, used);
  });
});
