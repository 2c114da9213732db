/**
 * What a reader notices of the work in the background: the slowest of a thousand reads while the
 * same disk is overwritten, destaged and compacted, and while nothing of it goes on.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { KiB, MiB } from '../../src/core/units.ts';
import type { CompactionReport } from '../../src/ports/volume-care.ts';
import { Field, subject } from './compare.ts';
import { Wharf } from './contenders/wharf.ts';
import type { Effort } from './effort.ts';
import { fio } from './fio.ts';
import { interleave } from './interleave.ts';
import type { Report } from './report.ts';

const diskBytes = 64 * MiB;
/** Small ones, so that there is always something to destage and to compact. */
const volumes = { segment: '512KiB', cut: '4MiB' } as const;
const writesPerSecond = 4000;
/** A thousandth of the reads has to be a few. */
const secondsMin = 1.5;
const settledMs = 300;
const slowerMax = 5;

export async function busy(report: Report, { rounds, seconds }: Effort): Promise<void> {
  const start = (place: { folder: string; diskBytes: number }) => Wharf.start(place, { volumes });
  await using field = await Field.start([{ name: subject, start }], { diskBytes }, report);
  const wharf = field.get(subject) as Wharf;
  const sampleSeconds = Math.max(seconds, secondsMin);
  const us = { idle: [] as number[], busy: [] as number[] };
  const moved: number[] = [];
  await interleave(['idle', 'busy'] as const, rounds, async (how) => {
    const read = () =>
      fio(wharf.disk, { what: 'randread', blockBytes: 4 * KiB, depth: 1 }, sampleSeconds);
    if (how === 'idle') us.idle.push((await read()).latencyUs.p999);
    else us.busy.push(await whileBusy(wharf, sampleSeconds, read, moved));
    await wharf.settle();
  });
  report.title('4 KiB random read, cached, QD1: slowest of a thousand');
  report.line('nothing else goes on, us', us.idle);
  report.line(`${writesPerSecond} overwrites/s, destaged and compacted, us`, us.busy);
  report.line('of it moved by compaction, MiB', moved);
  report.ratio('busy / idle', us.busy, us.idle, { is: 'at most', value: slowerMax });
}

async function whileBusy(
  wharf: Wharf,
  seconds: number,
  read: () => ReturnType<typeof fio>,
  moved: number[],
): Promise<number> {
  let isOver = false;
  const compacting = async () => {
    for (;;) {
      const { rewrittenBytes } = await wharf.ask<CompactionReport>('POST', 'vdisk/compact');
      if (isOver) return rewrittenBytes;
    }
  };
  const job = {
    what: 'randwrite',
    blockBytes: 4 * KiB,
    depth: 4,
    writesPerSecondMax: writesPerSecond,
  } as const;
  // Longer than the reader, who starts behind it and ends before it.
  const writing = fio(wharf.disk, job, seconds * 2 + 1);
  const before = (await wharf.ask<CompactionReport>('POST', 'vdisk/compact')).rewrittenBytes;
  await sleep(settledMs);
  const work = compacting();
  const { latencyUs } = await read();
  isOver = true;
  await writing;
  moved.push(((await work) - before) / MiB);
  return latencyUs.p999;
}
