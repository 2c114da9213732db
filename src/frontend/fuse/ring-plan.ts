/**
 * Whether FUSE requests can go over io_uring here, and with how many slots. The kernel has a queue
 * for each processor that the machine may ever have, takes a request into the one of the processor
 * on which its process runs, and uses none before all have slots. Pure.
 */

import { errno } from './errno.ts';
import { errnoName } from '../../platform/errno.ts';

/** What the kernel says of itself, in its own words; undefined where it says nothing. */
export interface KernelWords {
  /** /sys/module/fuse/parameters/enable_uring */
  readonly enableUring: string | undefined;
  /** /sys/devices/system/cpu/possible */
  readonly processors: string | undefined;
}

export interface RingPlan {
  readonly queues: number;
  readonly slotsEach: number;
}

export const enableUringPath = '/sys/module/fuse/parameters/enable_uring';
/** More would be slots of 1 MiB by the ten thousand, of addresses if not of memory. */
const queuesMax = 256;
/** One program may use one processor: it gets so many, however the rest is shared out. */
const slotsEachMin = 32;

export const notOffered =
  'the kernel has none for FUSE: Linux 6.14 with CONFIG_FUSE_IO_URING is needed';

const switchedOff =
  'switched off in the kernel; ' +
  `\`echo Y > ${enableUringPath}\` as root, then start the daemon anew`;

/** The plan, or why there is none: for an administrator, with what he can do about it. */
export function planRing(
  { enableUring, processors }: KernelWords,
  requestsMax: number,
): RingPlan | string {
  if (enableUring === undefined) return notOffered;
  if (enableUring.trim() !== 'Y') return switchedOff;
  const queues = countProcessors(processors ?? '');
  if (queues === undefined || queues > queuesMax) {
    const found = processors?.trim() ?? 'unknown ones';
    return `it is for 1 to ${queuesMax} processors, and the kernel is made for ${found}`;
  }
  const slotsEach = Math.max(Math.ceil(requestsMax / queues), Math.min(slotsEachMin, requestsMax));
  return { queues, slotsEach };
}

/** Of a list such as `0-3,8-11`. */
function countProcessors(list: string): number | undefined {
  let count = 0;
  for (const part of list.trim().split(',')) {
    const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(part) ?? [];
    if (first === undefined || Number(last) < Number(first)) return undefined;
    count += Number(last) - Number(first) + 1;
  }
  return count;
}

/** Why a ring that the kernel offers is not to be had. */
export function whyRefused(code: number): string {
  const isForbidden = code === errno.EPERM || code === errno.EACCES || code === errno.ENOSYS;
  if (!isForbidden) return `the kernel refuses it with ${errnoName(code)}`;
  const allow = '`sysctl -w kernel.io_uring_disabled=0` as root, where it is not 0';
  return `this process may not use io_uring; ${allow}`;
}
