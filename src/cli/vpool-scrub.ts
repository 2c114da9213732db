/** `wharf vpool scrub`: begins a scrub, shows how it goes, and tells what it finds. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { ScrubFindings, ScrubStatus } from '../daemon/scrub.ts';
import { formatSize, formatTime, parseSize } from '../daemon/units.ts';
import type { Finding } from '../ports/scrub.ts';
import { call, findAdmin } from './client.ts';
import { CliError, exitCode } from './exit-code.ts';
import { Progress } from './progress.ts';
import type { GlobalOptions } from './reports.ts';
import { print } from './reports.ts';

const pollMs = 200;
/** Ranges of a finding that are printed. */
const rangesShown = 5;

export interface ScrubFlags extends GlobalOptions {
  readonly repair?: boolean;
  readonly rate: string;
}

export async function scrubVpool(name: string, options: ScrubFlags): Promise<void> {
  const rate = parseSize(options.rate);
  if (rate === undefined)
    throw new CliError(
      `--rate: found ${options.rate}; allowed is a size, as 64MiB`,
      exitCode.usage,
    );
  const admin = findAdmin(options.admin);
  const begin = { name, repair: options.repair === true ? '1' : '0', rate: String(rate) };
  await call<ScrubFindings>(admin, 'POST', '/v1/vpool/scrub', begin);
  const findings: Finding[] = [];
  const status = await untilStopped((stop) => follow(admin, name, findings, stop));
  const { state, damage, why } = status;
  const isDone = state === 'done';
  print(options, { name, ...status, findings }, () =>
    [...findings.map(describe), ...(isDone ? [summary(name, status)] : [])].join(''),
  );
  if (!isDone) throw new CliError(`the scrub has ${state}: ${why ?? ''}`, exitCode.failed);
  if (damage > 0)
    throw new CliError(
      `${name} is damaged: ${damage} finding${damage === 1 ? '' : 's'} to look at`,
      exitCode.damaged,
    );
}

/** A signal ends the scrub as well: nobody watches it any more. */
async function untilStopped<T>(work: (stop: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, onSignal);
  try {
    return await work(stop.signal);
  } finally {
    for (const signal of signals) process.off(signal, onSignal);
  }
}

async function follow(
  admin: string,
  name: string,
  findings: Finding[],
  stop: AbortSignal,
): Promise<ScrubStatus> {
  let progress: Progress | undefined;
  let readBytes = 0;
  for (;;) {
    const query = { name, behind: String(findings.length) };
    const [method, path] = stop.aborted
      ? (['POST', '/v1/vpool/scrub/stop'] as const)
      : (['GET', '/v1/vpool/scrub'] as const);
    const { findings: more, ...status } = await call<ScrubFindings>(admin, method, path, query);
    findings.push(...more);
    progress ??= status.totalBytes === undefined ? undefined : new Progress(status.totalBytes);
    const doneBytes = Math.min(status.readBytes, status.totalBytes ?? 0);
    progress?.note(doneBytes, status.readBytes - readBytes);
    readBytes = status.readBytes;
    if (status.state !== 'running') {
      progress?.end();
      return status;
    }
    await sleep(pollMs, undefined, { signal: stop }).catch(() => {});
  }
}

function describe(finding: Finding): string {
  const { kind, what, object, path, snapshot, ranges = [], bytes, advice, isRepaired } = finding;
  const place = path ?? (object === undefined ? '' : `object ${object}`);
  const of = snapshot === undefined ? place : `${place}@${snapshot}`;
  const shown = ranges
    .slice(0, rangesShown)
    .map(({ offset, bytes: length }) => `${offset}+${length}`)
    .concat(ranges.length > rangesShown ? ['...'] : []);
  const lines = [
    `${isRepaired === true ? 'repaired' : kind}: ${of === '' ? '' : `${of}: `}${what}`,
    ...(shown.length > 0 ? [`  bytes ${shown.join(' ')}`] : []),
    ...(bytes === undefined ? [] : [`  ${formatSize(bytes)} in all`]),
    ...(advice === undefined || isRepaired === true ? [] : [`  ${advice}`]),
  ];
  return `${lines.join('\n')}\n`;
}

function summary(name: string, status: ScrubStatus): string {
  const { readBytes, tookMs, damage, waste, repaired, isRepair } = status;
  const read = `${formatSize(readBytes)} read in ${formatTime(tookMs)}`;
  const found = [
    damage === 0 ? 'no damage' : `${damage} damaged`,
    ...(waste === 0 ? [] : [`${waste} that nobody needs`]),
    ...(repaired === 0 ? [] : [`${repaired} repaired`]),
  ].join(', ');
  const hint = waste > 0 && !isRepair ? ' (--repair deletes it)' : '';
  return `${name}: ${found}${hint}; ${read}\n`;
}
