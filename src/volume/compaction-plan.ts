/**
 * Which segments are worth rewriting: the ones with the fewest live bytes, if all segments together
 * are much more than what lives in them. A segment counts as full when it was made, so small ones
 * are merged too.
 */

import type { SegmentName } from './segment-usage.ts';

/** Segments over their live bytes, beyond which space is won back. */
const spaceMax = 1.2;
/** Below so many there is little to win, and each checkpoint makes some. */
const segmentsMin = 8;
/** Live bytes that one checkpoint rewrites, in segments. */
const outputMax = 8;
/** What is rewritten has to be so much smaller, in segments. */
const outputShareMax = 0.85;

/** None where nothing is worth it. */
export function planCompaction(
  liveBytes: Iterable<readonly [SegmentName, number]>,
  segmentBytes: number,
): readonly SegmentName[] {
  const segments = [...liveBytes].filter(([, live]) => live > 0);
  const live = segments.reduce((sum, [, bytes]) => sum + bytes, 0);
  if (segments.length < segmentsMin || segments.length * segmentBytes <= spaceMax * live) return [];
  segments.sort(([, left], [, right]) => left - right);
  const victims: SegmentName[] = [];
  let bytes = 0;
  for (const [name, alive] of segments) {
    if (bytes + alive > outputMax * segmentBytes) break;
    bytes += alive;
    victims.push(name);
  }
  const output = Math.ceil(bytes / segmentBytes) + 1;
  return output <= outputShareMax * victims.length ? victims : [];
}
