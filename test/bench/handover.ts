/**
 * How long a guest's writes pause while its disk changes hands, with little or much in the journal
 * that is not on the object store yet, and with little or much to map. The guest is at `b` all the
 * while. Baseline: the longest pause in as long a time without a move, or in two seconds.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { GiB, TiB } from '../../src/core/units.ts';
import { nowMs } from '../support/mount-user.ts';
import type { Effort } from './effort.ts';
import { fill } from './fio.ts';
import { diskName, Pair, stayPut } from './pair.ts';
import type { Report } from './report.ts';
import { Writer } from './writer.ts';

const pauseMsMax = 100;
/** Between two moves: what a new owner does in the background is a part of what is measured. */
const betweenMs = 300;
const quietMsMax = 2000;
const cases = [
  { name: '1 GiB disk, little to destage', diskBytes: GiB, backlogBytes: 0 },
  { name: '1 TiB disk, little to destage', diskBytes: TiB, backlogBytes: 0 },
  { name: '1 GiB disk, 1 GiB to destage', diskBytes: GiB, backlogBytes: GiB },
  { name: '1 TiB disk, 1 GiB to destage', diskBytes: TiB, backlogBytes: GiB },
] as const;
/** Of a disk with little to destage, and with much. */
const movesOf = { brief: [6, 1], thorough: [40, 6] } as const;

/** Nothing is destaged until a move asks for it. */
const longJournal = {
  volumes: { journalMax: '3GiB', cut: '3GiB', destageDelay: '1h' },
} as const;

export async function handover(report: Report, { how }: Effort): Promise<void> {
  for (const { name, diskBytes, backlogBytes } of cases) {
    const isLong = backlogBytes > 0;
    const moves = movesOf[how][isLong ? 1 : 0];
    await using pair = await Pair.start({ ...stayPut, ...(isLong && longJournal) });
    await pair.makeDisk(diskBytes);
    await using writer = await Writer.start(pair.b.at(diskName), diskBytes);
    const undisturbed: number[] = [];
    const moved: number[] = [];
    const tookMs: number[] = [];
    for (let move = 0; move < moves; move += 1) {
      const [owner, to] = move % 2 === 0 ? [pair.a, 'b'] : [pair.b, 'a'];
      if (isLong) await fill({ file: owner.at(diskName) }, backlogBytes);
      await sleep(betweenMs);
      const beganMs = nowMs();
      await pair.ask('POST', 'vdisk/move', { to });
      const endMs = nowMs() + betweenMs;
      moved.push(await writer.longestPauseMs(beganMs, endMs));
      tookMs.push(endMs - betweenMs - beganMs);
      const quietMs = nowMs();
      await sleep(Math.min(endMs - beganMs, quietMsMax));
      undisturbed.push(await writer.longestPauseMs(quietMs, nowMs()));
    }
    report.title(`${name}, ${moves} moves`);
    report.line('a move, ms', tookMs);
    report.line('longest pause without a move, ms', undisturbed);
    report.line('longest pause with a move, ms', moved, {
      is: 'at most',
      value: pauseMsMax,
      of: 'p99',
    });
    report.ratio('with / without', moved, undisturbed, { is: 'at most' });
  }
}
