/** What a copy on another host costs the owner's writers: the same writes with and without. */

import { KiB, MiB } from '../../src/core/units.ts';
import type { Effort } from './effort.ts';
import type { FioResult } from './fio.ts';
import { fill, fio } from './fio.ts';
import { interleave } from './interleave.ts';
import { diskName, Pair, stayPut } from './pair.ts';
import type { Report } from './report.ts';

const diskBytes = 64 * MiB;
/** Of the owner's rate without a copy, many writes at once. */
const shareMin = 0.6;

export async function replication(report: Report, { rounds, seconds }: Effort): Promise<void> {
  await using none = await pairWith('none');
  await using sync = await pairWith('sync');
  await sync.a.until('there is a copy', async () => {
    await fill({ file: sync.a.at(diskName) }, MiB);
    return (await sync.ask<{ replica?: string }>('GET', 'vdisk')).replica === 'b';
  });
  for (const depth of [1, 32]) {
    const alone: FioResult[] = [];
    const copied: FioResult[] = [];
    const parts = [
      { pair: none, results: alone },
      { pair: sync, results: copied },
    ];
    await interleave(parts, rounds, async ({ pair, results }) => {
      const disk = { file: pair.a.at(diskName) };
      results.push(await fio(disk, { what: 'randwrite', blockBytes: 4 * KiB, depth }, seconds));
      await pair.a.sync(`/${diskName}`);
    });
    tell(report, depth, alone, copied);
  }
}

async function pairWith(mode: 'none' | 'sync'): Promise<Pair> {
  const pair = await Pair.start({ ...stayPut, replica: { mode } });
  await pair.makeDisk(diskBytes);
  await fill({ file: pair.a.at(diskName) }, diskBytes);
  return pair;
}

function tell(report: Report, depth: number, alone: FioResult[], copied: FioResult[]): void {
  const rate = (results: FioResult[]) => results.map(({ perSecond }) => perSecond);
  const latency = (results: FioResult[]) => results.map(({ latencyUs }) => latencyUs.median);
  report.title(`randwrite 4 KiB at the owner's mount, ${depth} at once`);
  report.line('replica none, us', latency(alone));
  report.line('replica sync, us', latency(copied));
  report.line('replica none, 1/s', rate(alone));
  report.line('replica sync, 1/s', rate(copied));
  report.ratio('rate, sync / none', rate(copied), rate(alone), {
    ...{ is: 'at least', ...(depth > 1 && { value: shareMin }) },
  });
}
