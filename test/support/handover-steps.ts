/**
 * The steps of a handover (see src/router/handover.ts), which the host that fetches the disk logs as
 * they begin, so that a test can act at each.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Daemon } from './daemon.ts';
import type { Hosts } from './hosts.ts';

export const handoverSteps = ['prepare', 'park', 'tail', 'give', 'claim'] as const;
export type HandoverStep = (typeof handoverSteps)[number];

export type Party = 'owner' | 'fetcher';

/** Moves the disk to the host that has not got it; resolves when that has come to the step. */
export async function reachStep(
  hosts: Hosts,
  step: HandoverStep,
): Promise<Readonly<Record<Party, Daemon>>> {
  const ownerId = await hosts.ownerBy(hosts.a);
  const [owner, fetcher] = ownerId === 'a' ? [hosts.a, hosts.b] : [hosts.b, hosts.a];
  const query = new URLSearchParams({ path: '/disk.raw', to: ownerId === 'a' ? 'b' : 'a' });
  const reached = Promise.withResolvers<void>();
  let isReached = false;
  fetcher.onLog = (text) => {
    if (!text.includes(`"step":"${step}"`)) return;
    isReached = true;
    reached.resolve();
  };
  const move = async () => {
    // An owner whose disk is changing hands already refuses.
    while (!isReached) {
      await fetch(`${fetcher.admin}/v1/vdisk/move?${query.toString()}`, { method: 'POST' });
      await sleep(50);
    }
  };
  move().catch((error: unknown) => {
    if (!isReached) reached.reject(error as Error);
  });
  await reached.promise;
  fetcher.onLog = () => {};
  return { owner, fetcher };
}
