/** Asks before something is lost. */

import { createInterface } from 'node:readline/promises';
import { CliError, exitCode } from './exit-code.ts';

/** `what` shall not be `done` (as `deleted`) unless the user says so, here or by --yes. */
export async function confirm(
  options: { readonly yes?: boolean },
  verb: string,
  what: string,
  done: string,
): Promise<void> {
  if (options.yes === true) return;
  if (!process.stdin.isTTY || !process.stderr.isTTY)
    throw new CliError(`${what} is not ${done} without --yes`, exitCode.usage);
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question(`${verb} ${what}? [y/N] `);
    if (!/^y(es)?$/i.test(answer.trim()))
      throw new CliError(`${what} is not ${done}`, exitCode.failed);
  } finally {
    terminal.close();
  }
}
