/** Settings of a daemon in a YAML file. */

import { readFileSync } from 'node:fs';
import { parse as parseYaml } from 'yaml';
import type { Settings } from './settings.ts';
import { parseSettings } from './settings.ts';

/** Throws `invalid`, and what reading the file throws. */
export function readSettingsFile(path: string): Settings {
  return parseSettings(parseYaml(readFileSync(path, 'utf8')));
}
