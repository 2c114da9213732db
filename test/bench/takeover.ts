/**
 * How long a guest's writes wait when the owner of its disk is killed, in times of the lease: the
 * host of the guest has the copy, and goes on.
 */

import { nowMs } from '../support/mount-user.ts';
import { GiB } from '../../src/core/units.ts';
import type { Effort } from './effort.ts';
import { diskName, Pair, stayPut } from './pair.ts';
import type { Report } from './report.ts';
import { Writer } from './writer.ts';

const leases = [
  { timeMs: 2000, marginMs: 500 },
  { timeMs: 6000, marginMs: 1500 },
] as const;
const roundsOf = { brief: 1, thorough: 6 } as const;
/** So long, at most, answers of the dead one are on their way. */
const underWayMs = 100;
/** What may come on top of the lease. */
const extraMsMax = 1000;

export async function takeover(report: Report, { how }: Effort): Promise<void> {
  const rounds = roundsOf[how];
  for (const { timeMs, marginMs } of leases) {
    const lease = { time: `${timeMs}ms`, margin: `${marginMs}ms` };
    await using pair = await Pair.start({ ...stayPut, lease });
    await pair.makeDisk(GiB);
    await using writer = await Writer.start(pair.b.at(diskName), GiB);
    const waitedMs: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      await pair.ask('POST', 'vdisk/move', { to: 'a' });
      await pair.b.until('there is a copy', async () => {
        const { replica } = await pair.ask<{ replica?: string }>('GET', 'vdisk');
        return replica === 'b';
      });
      const killedMs = nowMs();
      await pair.a.end('SIGKILL');
      waitedMs.push((await writer.doneAfter(nowMs() + underWayMs)) - killedMs);
      await pair.a.start();
    }
    const most = (timeMs + extraMsMax) / timeMs;
    report.title(`lease of ${timeMs} ms, ${rounds} kills`);
    report.line('first write after the kill, ms', waitedMs);
    report.line(
      'in times of the lease',
      waitedMs.map((ms) => ms / timeMs),
      { is: 'at most', value: most, of: 'p99' },
    );
  }
}
