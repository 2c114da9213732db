/** That bugs can be planted, and are noticed; all of them by `npm run sim:mutants`. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { planted } from './mutants/mutant.ts';
import { hunt } from './mutants/mutant-report.ts';
import { missed, mutants } from './mutants/table.ts';

const source = (file: string) => readFileSync(join(import.meta.dirname, '../../src', file), 'utf8');

test('every mutant has its place in the source', () => {
  const names = new Set(mutants.map(({ name }) => name));
  assert.equal(names.size, mutants.length);
  assert.deepEqual(
    [...missed].filter((name) => !names.has(name)),
    [],
  );
  for (const { name, changes } of mutants) {
    const texts = new Map<string, string>();
    for (const change of changes) {
      const text = texts.get(change.file) ?? source(change.file);
      const changed = planted(text, change, `${name}: ${change.file}`);
      assert.notEqual(changed, text, `${name} changes nothing`);
      texts.set(change.file, changed);
    }
  }
});

test('a mutant whose text is not there once can not be planted', () => {
  const change = { file: 'x.ts', find: 'await', put: '' };
  assert.throws(() => planted('no such word', change, 'x.ts'), /0 times/);
  assert.throws(() => planted('await, await', change, 'x.ts'), /2 times/);
  assert.equal(planted('await it', change, 'x.ts'), ' it');
});

test('the simulator notices a bug that is planted', async () => {
  const { broken, seeds } = await hunt('trim-keeps-rows', 5);
  assert.match(broken ?? 'nothing', /disk/);
  assert.ok(seeds <= 5);
});
