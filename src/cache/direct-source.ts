/** Segments straight from their bucket: a host without an SSD cache. */

import type { SegmentSource } from '../ports/segment-source.ts';
import type { SegmentFetcher } from './segment-fetcher.ts';

export function directSource(fetcher: SegmentFetcher): SegmentSource {
  return {
    read: (run, into) => fetcher.run(run, into),
    prefetch() {},
    insert() {},
  };
}
