/** `wharf host drain`: orders it, and shows how it goes until it has ended. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { DrainProgress } from '../router/moves/drain.ts';
import { call, findAdminOfHost } from './client.ts';
import { CliError, exitCode } from './exit-code.ts';
import type { GlobalOptions } from './reports.ts';
import { print } from './reports.ts';

const pollMs = 100;

export async function drainHost(
  host: string,
  options: GlobalOptions & { readonly off?: boolean },
): Promise<void> {
  const admin = await findAdminOfHost(options.admin, host);
  const query = { host, off: options.off === true ? '1' : '0' };
  let progress = await call<DrainProgress>(admin, 'POST', '/v1/host/drain', query);
  const isShown = options.json !== true && process.stderr.isTTY;
  while (progress.state === 'draining') {
    if (isShown) process.stderr.write(`\r\u001b[K${describe(host, progress)}`);
    await sleep(pollMs);
    progress = await call<DrainProgress>(admin, 'GET', '/v1/host/drain');
  }
  if (isShown) process.stderr.write('\r\u001b[K');
  print(options, { host, ...progress }, () => `${describe(host, progress)}\n`);
  if (progress.state === 'failed') {
    const whys = progress.failed.map(({ id, why }) => `${id}: ${why}`);
    throw new CliError([`host ${host} is not drained`, ...whys].join('; '), exitCode.failed);
  }
}

function describe(host: string, { state, moved, total }: DrainProgress): string {
  if (state === 'off') return `host ${host}: takes part`;
  return `host ${host}: ${state}, ${moved} of ${total} objects are handed over`;
}
