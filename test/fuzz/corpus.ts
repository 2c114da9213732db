/**
 * Inputs that are kept: `corpus/<decoder>/<what it is>.bin`. Those of the encoders are golden: a
 * format that changes without notice is seen. Others have found a mistake once, and say which.
 */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Target } from './target.ts';

const root = join(import.meta.dirname, 'corpus');

export function readCorpus({ name }: Target): ReadonlyMap<string, Uint8Array> {
  const folder = join(root, name);
  const files = readdirSync(folder).filter((file) => file.endsWith('.bin'));
  return new Map(
    files
      .sort()
      .map((file) => [file.slice(0, -4), new Uint8Array(readFileSync(join(folder, file)))]),
  );
}

/** Writes what the encoders make by now. */
export function writeSamples({ name, samples }: Target): void {
  const folder = join(root, name);
  mkdirSync(folder, { recursive: true });
  for (const [what, bytes] of Object.entries(samples))
    writeFileSync(join(folder, `${what}.bin`), bytes);
}
