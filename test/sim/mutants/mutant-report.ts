/** What became of a bug that was planted. */

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

export interface MutantReport {
  readonly name: string;
  /** So many were run; the last one broke the promise. */
  seeds: number;
  /** Of a core. */
  seconds: number;
  /** The promise that broke; undefined: nobody noticed. */
  broken: string | undefined;
}

const run = promisify(execFile);

/** So many seeds to a process: what a simulated process that has died held is never quite free. */
const seedsAtOnce = 20;

/** Runs seeds from 1 on with the bug planted. Rejects where it can't be planted any more. */
export async function hunt(name: string, seedsMax: number): Promise<MutantReport> {
  const script = join(import.meta.dirname, 'mutant-process.ts');
  const report: MutantReport = { name, seeds: 0, seconds: 0, broken: undefined };
  for (let first = 1; first <= seedsMax && report.broken === undefined; first += seedsAtOnce) {
    const last = Math.min(first + seedsAtOnce - 1, seedsMax);
    const args = ['--disable-warning=ExperimentalWarning', script, name, `${first}..${last}`];
    const { seeds, seconds, broken } = JSON.parse((await run(process.execPath, args)).stdout);
    report.seeds += seeds;
    report.seconds += seconds;
    report.broken = broken;
  }
  return report;
}
