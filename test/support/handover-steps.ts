/**
 * The steps of a handover (see src/router/handover.ts), which the host that fetches the disk logs as
 * they begin, so that a test can act at each.
 */

import type { Daemon } from './daemon.ts';
import { diskPath, type Hosts } from './hosts.ts';

const attemptsMax = 20;

export const handoverSteps = ['prepare', 'copy', 'park', 'tail', 'give', 'claim'] as const;
export type HandoverStep = (typeof handoverSteps)[number];

export type Party = 'owner' | 'fetcher';

/** Moves the disk to the host that has not got it; resolves when that has come to the step. */
export async function reachStep(
  hosts: Hosts,
  step: HandoverStep,
): Promise<Readonly<Record<Party, Daemon>>> {
  const ownerId = await hosts.ownerBy(hosts.a);
  const [owner, fetcher] = ownerId === 'a' ? [hosts.a, hosts.b] : [hosts.b, hosts.a];
  const reached = new Promise<void>((resolve) => {
    fetcher.onLog = (text) => {
      if (text.includes(`"step":"${step}"`)) resolve();
    };
  });
  let isReached = false;
  const move = async () => {
    // An owner whose disk is changing hands already refuses.
    for (let attempt = 0; !isReached; attempt += 1) {
      await fetcher.wharf('vdisk', 'move', diskPath, '--to', fetcher.host).catch(() => {});
      if (attempt === attemptsMax) throw new Error(`the step ${step} is never reached`);
    }
  };
  await Promise.race([reached, move()]);
  isReached = true;
  fetcher.onLog = () => {};
  return { owner, fetcher };
}
