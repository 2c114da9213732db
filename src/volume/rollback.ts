/**
 * Makes a volume what it was when a snapshot was taken: one commit of a head that is the snapshot's.
 * The volume is closed, all of it is on the backend, and the tenure is for this alone: names of
 * segments are handed out from the first on.
 */

import { withStart } from '../core/changes.ts';
import type { Head } from '../format/head.ts';
import { encodeHead } from '../format/head.ts';
import { placeWords } from '../format/place.ts';
import type { SegmentUploader } from '../log/segment-uploader.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Log } from '../ports/log.ts';
import type { Compare, Write } from '../ports/registry.ts';
import type { Tenure } from '../ports/tenure.ts';
import type { Heads } from '../registry/object-records.ts';
import { loadUsage } from './checkpointer.ts';
import { copyHead } from './head-copy.ts';
import type { Lineage } from './lineage.ts';
import { MapSegmentWriter } from './map-segment-writer.ts';
import type { Bucket } from './recovery.ts';
import { SegmentSequencer } from './segment-sequencer.ts';
import type { SegmentName, SegmentUsage } from './segment-usage.ts';

export interface RollbackDeps {
  readonly tenure: Tenure;
  readonly heads: Heads;
  readonly checksum: Checksum;
  readonly log: Log;
  readonly uploader: SegmentUploader;
  readonly segmentBytes: number;
  /** Of the volume as it is now, and as it was. */
  readonly lineage: Lineage;
  readonly keptLineage: Lineage;
}

/**
 * `keeping`: what writes a snapshot of the head that was, together with the new one. `standing`: that the
 * snapshot is still there; what it alone reached is deleted once it is not.
 */
export async function rollBack(
  deps: RollbackDeps,
  head: Head,
  kept: Head,
  keeping: (at: SegmentName, head: Uint8Array) => readonly Write[],
  standing: () => Promise<readonly Compare[]>,
): Promise<void> {
  const { tenure, heads, checksum, log, uploader, lineage, keptLineage } = deps;
  const { objectId, epoch, signal } = tenure;
  const sequencer = new SegmentSequencer(objectId, epoch, { epoch: 0, sequence: 0 });
  const usage = await loadUsage(lineage.sources, head.usage, log);
  count(usage, head.usage, 'add');
  // What died with the last checkpoint is not what the snapshot of the head reaches.
  usage.noteDeaths({ epoch, sequence: 0 });
  for (const { epoch: made, first, last, origin } of head.tail)
    for (let sequence = first; origin === 0 && sequence <= last; sequence += 1)
      usage.register({ epoch: made, sequence });
  const before = await loadUsage(keptLineage.sources, kept.usage, log);
  count(before, kept.usage, 'add');
  usage.rollBack(before, { epoch, sequence: sequencer.next() });
  count(usage, kept.usage, 'remove');
  const { journalSequence } = head;
  const facts = { journalSequence, volumeBytes: kept.volumeBytes };
  using writer = new MapSegmentWriter({ sequencer, uploader, checksum }, deps.segmentBytes, facts);
  const places: number[] = [];
  for (const piece of usage.encode()) places.push(...(await writer.addUsage(piece)));
  await writer.finish();
  const starts = withStart(head.starts, { epoch, after: journalSequence });
  const next = { ...kept, epoch, journalSequence, starts, usage: Uint32Array.from(places) };
  const also = keeping({ epoch, sequence: 0 }, encodeHead(head, checksum));
  await heads.commitHead(objectId, epoch, encodeHead(next, checksum), also, standing);
  const { store } = lineage.buckets[0] as Bucket;
  await copyHead(store, next, sequencer, { checksum, signal });
}

function count(usage: SegmentUsage, places: Uint32Array, how: 'add' | 'remove'): void {
  for (let at = 0; at < places.length; at += placeWords) usage[how](places, at);
}
