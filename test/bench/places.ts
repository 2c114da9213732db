/** Where disks are measured. */

import { existsSync, statfsSync } from 'node:fs';
import { GiB } from '../../src/core/units.ts';
import type { Report } from './report.ts';

/** A file system in memory. */
export const memoryFolder = '/dev/shm';

export function hasRoom(folder: string, bytes: number, report: Report): boolean {
  if (existsSync(folder)) {
    const { bsize, bavail } = statfsSync(folder);
    if (bsize * bavail >= bytes) return true;
  }
  report.note(`nothing is measured: no ${bytes / GiB} GiB free in ${folder}`);
  return false;
}
