/** Zeroes for where a file system can neither reserve space nor punch holes. */

import { MiB } from '../core/units.ts';
import type { DiskFile } from '../ports/disk.ts';

const stepBytes = 1 * MiB;

export function writeZeroes(file: DiskFile, offset: number, length: number): void {
  if (length <= 0) return;
  const zeroes = new Uint8Array(Math.min(length, stepBytes));
  for (let done = 0; done < length; done += stepBytes)
    file.write(offset + done, [zeroes.subarray(0, Math.min(stepBytes, length - done))]);
}
