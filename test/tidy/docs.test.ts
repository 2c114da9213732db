/** What a user reads is what the program does: in both directions. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parse as parseYaml } from 'yaml';
import { parseSettings } from '../../src/daemon/settings.ts';

const root = join(import.meta.dirname, '../..');
const read = (file: string) => readFileSync(join(root, file), 'utf8');

const wharf = (...argv: string[]) =>
  execFileSync(process.execPath, [join(root, 'src/cli/main.ts'), ...argv], { encoding: 'utf8' });

/** The commands that do something, as `vdisk show`. */
function commandsOf(...parents: string[]): string[] {
  const [, listed = ''] = wharf(...parents, '--help').split('Commands:\n');
  const names = [...listed.matchAll(/^ {2}(\w+)/gm)].map(([, name]) => (name as string).trim());
  return names
    .filter((name) => name !== 'help')
    .flatMap((name) => {
      const inner = commandsOf(...parents, name);
      return inner.length > 0 ? inner : [[...parents, name].join(' ')];
    });
}

/** The same as a text lists them: `wharf vdisk show PATH   one of them`. */
const commandsIn = (text: string) =>
  [...text.matchAll(/^wharf ((?:[a-z]+ ?)+?)(?= {2}| [A-Z-])/gm)].map(([, name]) =>
    (name as string).trim(),
  );

function keysOf(value: object, before = ''): string[] {
  return Object.entries(value).flatMap(([key, inner]: [string, unknown]) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? keysOf(inner, `${before}${key}.`)
      : [`${before}${key}`],
  );
}

describe('the documents', () => {
  test('list the commands that there are', () => {
    const commands = commandsOf();
    assert.ok(commands.length > 5 && commands.includes('vdisk show'));
    assert.deepEqual(commandsIn(read('README.md')).sort(), commands.sort());
  });

  test('are seen to miss a command', () => {
    assert.deepEqual(commandsIn('wharf vdisk show PATH  one\nwharf up   start\n'), [
      'vdisk show',
      'up',
    ]);
  });

  test('hold every setting with its default', () => {
    const written = parseYaml(read('config/wharf.yaml')) as Record<string, unknown>;
    const { host, vpool, mount, data, registry, backend } = written;
    const given = parseSettings(written);
    const { kind, path } = backend as { kind: string; path: string };
    const required = { host, vpool, mount, data, registry, backend: { kind, path } };
    assert.deepEqual(given, parseSettings(required));
    assert.deepEqual(keysOf(written).sort(), keysOf(given).sort());
  });
});
