/** What became of a bug that was planted. */

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

export interface MutantReport {
  readonly name: string;
  /** So many were run; the last one broke the promise. */
  readonly seeds: number;
  readonly seconds: number;
  /** The promise that broke; undefined: nobody noticed. */
  readonly broken?: string | undefined;
}

const run = promisify(execFile);

/** Runs seeds from 1 on with the bug planted. Rejects where it can't be planted any more. */
export async function hunt(name: string, seedsMax: number): Promise<MutantReport> {
  const script = join(import.meta.dirname, 'mutant-process.ts');
  const args = ['--disable-warning=ExperimentalWarning', script, name, String(seedsMax)];
  const { stdout } = await run(process.execPath, args);
  return JSON.parse(stdout) as MutantReport;
}
