/** The command `wharf`, as a user gives it. */

import { execFile } from 'node:child_process';
import { join } from 'node:path';

export const wharfFile = join(import.meta.dirname, '../../src/cli/main.ts');

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export function wharf(...argv: readonly string[]): Promise<Ended> {
  return new Promise((resolve) =>
    execFile(process.execPath, [wharfFile, ...argv], (error, stdout, stderr) =>
      resolve({ code: Number(error?.code ?? 0), stdout, stderr }),
    ),
  );
}
