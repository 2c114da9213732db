/** When all is calm a scrub finds no damage and, after one that repairs, no waste either. */

import { isStorageError } from '../../src/core/errors.ts';
import type { ScrubFindings } from '../../src/daemon/scrub.ts';
import { Violation } from './history.ts';
import type { Scheduler } from './scheduler.ts';
import type { Daemon } from './sim-host.ts';
import { vpoolName } from './sim-host.ts';
import { lateMsMax } from './sim-store.ts';

const pauseMs = 200;

/** `isRotten`: of an object whose journal was damaged. */
export async function scrubbed(
  scheduler: Scheduler,
  daemon: Daemon,
  isRotten: (object?: string) => boolean,
): Promise<void> {
  // What nobody waits for any more may still be stored.
  await scheduler.sleep(lateMsMax);
  for (const repair of ['1', '0']) {
    const { state, why, findings } = await scrub(scheduler, daemon, repair);
    if (state !== 'done') throw new Violation(`scrub has ${state}: ${why}`);
    for (const { kind, what, object } of findings.filter((found) => !isRotten(found.object)))
      if (kind === 'damage' || (kind === 'waste' && repair === '0'))
        throw new Violation(`scrub finds ${kind}: ${what} ${object ?? ''}`);
  }
}

async function scrub(
  scheduler: Scheduler,
  { endpoints }: Daemon,
  repair: string,
): Promise<ScrubFindings> {
  const query = new URLSearchParams({ name: vpoolName, repair });
  const ask = async (what: 'GET' | 'POST') =>
    (await endpoints[`${what} /v1/vpool/scrub`]?.(query)) as ScrubFindings;
  for (let isBegun = false; !isBegun; ) {
    isBegun = await ask('POST').then(
      () => true,
      (error: unknown) => {
        // The one before has told its end, and gives its lease back.
        if (!isStorageError(error, 'busy')) throw error;
        return false;
      },
    );
    await scheduler.sleep(pauseMs);
  }
  for (;;) {
    const report = await ask('GET');
    if (report.state !== 'running') return report;
    await scheduler.sleep(pauseMs);
  }
}
