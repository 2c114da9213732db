/** Settings of a daemon in a YAML file. */

import { readFileSync } from 'node:fs';
import { parse as parseYaml } from 'yaml';
import { StorageError } from '../core/errors.ts';
import type { Settings } from './settings.ts';
import { parseSettings } from './settings.ts';

const toldCharactersMax = 200;

/** Throws `invalid`, and what reading the file throws. */
export function readSettingsFile(path: string): Settings {
  return parseSettingsText(readFileSync(path, 'utf8'));
}

/** Throws `invalid` with one line for people. */
export function parseSettingsText(text: string): Settings {
  return parseSettings(parse(text));
}

function parse(text: string): unknown {
  try {
    return parseYaml(text, { logLevel: 'error' });
  } catch (error) {
    const [line = ''] = String((error as Error).message).split('\n');
    const told = line.slice(0, toldCharactersMax).replace(/:$/, '');
    throw new StorageError('invalid', `settings are not YAML: ${told}`);
  }
}
