/** Counts what lives in a volume's segments by its map, page by page. */

import type { Head } from '../format/head.ts';
import { placeWords } from '../format/place.ts';
import type { ScrubReader } from './scrub-reader.ts';
import { SegmentUsage } from './segment-usage.ts';
import { walkTree } from './tree-walk.ts';

/** As the table of live bytes of this head should be. Throws `corrupt` where a page can't be read. */
export async function countLive(head: Head, reader: ScrubReader): Promise<SegmentUsage> {
  const counted = new SegmentUsage();
  const add = (places: Uint32Array, at: number) => counted.add(places, at);
  await walkTree(head, {
    read: (places, at) => reader.chunk(places, at),
    enter: (places, at) => {
      add(places, at);
      return true;
    },
    block: (places, at) => {
      add(places, at);
      return undefined;
    },
    lost: (_block, _count, error) => {
      if (error) throw error;
    },
  });
  for (let at = 0; at < head.usage.length; at += placeWords) add(head.usage, at);
  return counted;
}
