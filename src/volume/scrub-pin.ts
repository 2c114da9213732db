/** What keeps a committed head as it is, without its owner: a snapshot of it that only a scrub sees. */

import { isStorageError } from '../core/errors.ts';
import type { Head } from '../format/head.ts';
import { decodeHead } from '../format/head.ts';
import { isHole, placeOrigin, placeWord, placeWords } from '../format/place.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { SegmentName } from './segment-usage.ts';
import { isLater } from './segment-usage.ts';

const none: SegmentName = { epoch: 0, sequence: 0 };

/**
 * The name that was handed out last of all that the head reaches. Whatever of it dies, dies at a name
 * that is handed out after the head's commit, so a snapshot of this time reaches it.
 */
export function timeOfHead(encoded: Uint8Array, checksum: Checksum): SegmentName {
  let head: Head;
  try {
    head = decodeHead(encoded, checksum);
  } catch (error) {
    if (!isStorageError(error, 'corrupt')) throw error;
    return none;
  }
  // A checkpoint writes the table after the tree; what was named since stands in the tail.
  const names = [head.root, head.usage].flatMap(namesIn);
  for (const { epoch, last, origin } of head.tail)
    if (origin === 0) names.push({ epoch, sequence: last });
  return names.reduce((latest, name) => (isLater(name, latest) ? name : latest), none);
}

function namesIn(places: Uint32Array): SegmentName[] {
  const names: SegmentName[] = [];
  for (let at = 0; at < places.length; at += placeWords)
    if (!isHole(places, at) && placeOrigin(places, at) === 0)
      names.push({
        epoch: places[at] as number,
        sequence: places[at + placeWord.sequence] as number,
      });
  return names;
}
