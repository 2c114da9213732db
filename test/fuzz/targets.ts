/** All that decodes what others have written or sent. */

import type { Target } from './target.ts';
import { head, mapPage, registryCopy, segment, segmentUsage } from './targets/blobs.ts';
import { fuse } from './targets/fuse.ts';
import { increment } from './targets/increment.ts';
import { peers } from './targets/peers.ts';
import { records } from './targets/records.ts';
import { cacheIndex, journalFile, journalRecords } from './targets/ssd.ts';
import { texts } from './targets/texts.ts';

export const targets: readonly Target[] = [
  ...[journalFile, journalRecords, cacheIndex],
  ...[head, segment, mapPage, segmentUsage, registryCopy, increment],
  ...records,
  ...peers,
  ...fuse,
  ...texts,
];
