/** Which run of the kernel this is. */

import { readFileSync } from 'node:fs';

export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
