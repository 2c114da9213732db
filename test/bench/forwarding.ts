/**
 * What it costs to use a disk at a host that does not own it. Its blocks are in the owner's cache,
 * so that what is compared is the way, not the object store.
 */

import { KiB, MiB } from '../../src/core/units.ts';
import type { Effort } from './effort.ts';
import type { FioJob, FioResult } from './fio.ts';
import { fill, fio } from './fio.ts';
import { interleave } from './interleave.ts';
import { diskName, Pair } from './pair.ts';
import type { Report } from './report.ts';
import { bareRoundTripUs } from './round-trip.ts';

const diskBytes = 64 * MiB;
const jobs = (['randread', 'randwrite'] as const).flatMap((what) =>
  [1, 32].map((depth): FioJob => ({ what, depth, blockBytes: 4 * KiB })),
);
/** Of the owner's latency, beside a bare round trip. */
const localSharesMax = 1.5;
const throughputShareMin = 0.5;

interface Compared {
  readonly bareUs: number[];
  readonly local: FioResult[];
  readonly forwarded: FioResult[];
}

export async function forwarding(report: Report, effort: Effort): Promise<void> {
  await using pair = await Pair.start({ replica: { mode: 'none' } });
  await pair.makeDisk(diskBytes);
  await fill({ file: pair.a.at(diskName) }, diskBytes);
  await pair.a.sync(`/${diskName}`);
  await pair.ask('POST', 'vdisk/pin', { to: 'a' });
  for (const job of jobs) {
    const compared = await compare(pair, job, effort);
    tell(report, job, compared);
  }
}

async function compare(pair: Pair, job: FioJob, { rounds, seconds }: Effort): Promise<Compared> {
  const compared: Compared = { bareUs: [], local: [], forwarded: [] };
  await interleave(['bare', 'local', 'forwarded'] as const, rounds, async (part) => {
    if (part !== 'bare') {
      const host = part === 'local' ? pair.a : pair.b;
      compared[part].push(await fio({ file: host.at(diskName) }, job, seconds));
    } else if (job.depth === 1) compared.bareUs.push(await bareRoundTripUs(seconds));
  });
  return compared;
}

function tell(report: Report, { what, depth }: FioJob, compared: Compared): void {
  const { bareUs, local, forwarded } = compared;
  report.title(`${what} 4 KiB, ${depth} at once`);
  if (depth === 1) {
    const localUs = local.map(({ latencyUs }) => latencyUs.median);
    const forwardedUs = forwarded.map(({ latencyUs }) => latencyUs.median);
    const allowedUs = bareUs.map((us, index) => us + localSharesMax * (localUs[index] ?? 0));
    report.line('bare TCP round trip, us', bareUs);
    report.line("at the owner's mount, us", localUs);
    report.line('forwarded, us', forwardedUs);
    report.ratio(`forwarded / (bare + ${localSharesMax} local)`, forwardedUs, allowedUs, {
      ...{ is: 'at most', value: 1 },
    });
    return;
  }
  const localRate = local.map(({ perSecond }) => perSecond);
  const forwardedRate = forwarded.map(({ perSecond }) => perSecond);
  report.line("at the owner's mount, 1/s", localRate);
  report.line('forwarded, 1/s', forwardedRate);
  report.ratio('forwarded / local', forwardedRate, localRate, {
    ...{ is: 'at least', value: throughputShareMin },
  });
}
