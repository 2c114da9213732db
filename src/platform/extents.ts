/** Where a file holds data (SEEK_DATA, SEEK_HOLE); all of it where that can't be told. */

import type { Native } from './native.ts';

const enxio = 6;

export interface Extent {
  readonly offset: number;
  readonly end: number;
}

export function* dataExtents(
  native: Pick<Native, 'seek'> | undefined,
  fd: number,
  sizeBytes: number,
): Generator<Extent> {
  for (let at = 0; at < sizeBytes; ) {
    const data = native ? native.seek(fd, at, false) : at;
    if (data === -enxio || data >= sizeBytes) return;
    const offset = data < 0 ? at : data;
    const hole = native && data >= 0 ? native.seek(fd, offset, true) : sizeBytes;
    const end = hole < 0 ? sizeBytes : Math.min(hole, sizeBytes);
    yield { offset, end };
    at = end;
  }
}
