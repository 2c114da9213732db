/** Recovers a volume and puts its parts together. */

import { withStart } from '../core/changes.ts';
import type { Head } from '../format/head.ts';
import { placeLength, placeOrigin, placeWord, placeWords } from '../format/place.ts';
import { Journal } from '../log/journal.ts';
import type { JournalRecord } from '../log/journal.ts';
import type { FoundFile } from '../log/journal-recovery.ts';
import { Replicator } from '../log/replicator.ts';
import type { SegmentUploader } from '../log/segment-uploader.ts';
import { TailReader } from '../log/tail-reader.ts';
import type { Tenure } from '../ports/tenure.ts';
import { limits } from '../core/limits.ts';
import { BlockMap } from './block-map.ts';
import { BlockReader } from './block-reader.ts';
import { BlockWriter } from './block-writer.ts';
import { Checkpointer } from './checkpointer.ts';
import { Destager } from './destager.ts';
import { HeadCommitter } from './head-committer.ts';
import { JournalRoom } from './journal-room.ts';
import type { PageBudget } from './page-budget.ts';
import type { SourcesByOrigin } from './page-tree.ts';
import { PageTree } from './page-tree.ts';
import { ReadAhead } from './read-ahead.ts';
import type { Bucket } from './recovery.ts';
import { applyTail, lastDataSegment } from './recovery.ts';
import { SegmentSequencer } from './segment-sequencer.ts';
import type { SegmentName } from './segment-usage.ts';
import type { VolumeSettings } from './settings.ts';
import { Volume } from './volume.ts';
import type { VolumeDriverDeps } from './volume-deps.ts';

const { blockBytes } = limits;

export interface OpenContext {
  readonly tenure: Tenure;
  readonly stop: AbortController;
  /** Of the tenure and of `stop`. */
  readonly signal: AbortSignal;
  /** As it is committed. */
  readonly head: Head;
  readonly buckets: readonly Bucket[];
  readonly sources: SourcesByOrigin;
  readonly uploader: SegmentUploader;
  readonly folder: string;
  /** What the journal holds, where that is known. */
  readonly known: readonly FoundFile[] | undefined;
}

type Deps = VolumeDriverDeps & { readonly budget: PageBudget };

export async function openVolume(
  deps: Deps,
  context: OpenContext,
  settings: VolumeSettings,
  onClosed: () => void,
): Promise<Volume> {
  const { tenure, head, sources, signal } = context;
  const log = deps.log.child({ object: tenure.objectId, epoch: tenure.epoch });
  const tree = new PageTree(sources, deps.budget, { place: head.root, level: head.rootLevel });
  const map = new BlockMap(tree, head.dataBlocks);
  const tailDeps = { buckets: context.buckets, checksum: deps.checksum, signal };
  await applyTail(tailDeps, head.tail, map);
  const { journal, ...found } = await openJournal(deps, context, settings, { head, map });
  const start = { epoch: tenure.epoch, after: journal.lastSequence };
  return assemble({ ...deps, log }, context, settings, {
    head: { ...head, starts: withStart(found.starts, start) },
    map,
    journal,
    volumeBytes: found.volumeBytes,
    onClosed,
  });
}

async function openJournal(
  deps: Deps,
  { tenure, folder, known }: OpenContext,
  settings: VolumeSettings,
  { head, map }: { readonly head: Head; readonly map: BlockMap },
): Promise<{ journal: Journal } & Pick<Head, 'volumeBytes' | 'starts'>> {
  const { disk, checksum, log } = deps;
  let { volumeBytes, starts } = head;
  const options = {
    folder,
    epoch: tenure.epoch,
    tag: checksum.crc32c(Buffer.from(tenure.objectId)),
    afterSequence: head.journalSequence,
    settings: settings.journal,
    known,
  };
  const journal = await Journal.open(disk, checksum, log, options, (record) => {
    replay(record, map, volumeBytes);
    volumeBytes = record.volumeBytes;
    // Of tenures that ended before they committed anything, their records alone tell.
    starts = withStart(starts, { epoch: record.epoch, after: record.sequence - 1 });
  });
  return { journal, volumeBytes, starts };
}

function replay(record: JournalRecord, map: BlockMap, before: number): void {
  if (record.kind === 'write') {
    for (let index = 0; index < record.count; index += 1)
      map.write(
        record.block + index,
        record.file,
        record.offset + index * blockBytes,
        blockBytes,
        record.checksums[index] as number,
      );
  } else if (record.kind === 'trim') {
    map.trim(record.block, record.block + record.count);
  } else {
    if (record.volumeBytes < before)
      map.trim(Math.ceil(record.volumeBytes / blockBytes), limits.volumeBytesMax / blockBytes);
    const { tail } = record;
    if (tail) map.write(tail.block, tail.file, tail.offset, blockBytes, tail.checksum);
  }
}

interface Recovered {
  /** As it is committed, with the start of this tenure. */
  readonly head: Head;
  readonly map: BlockMap;
  readonly journal: Journal;
  readonly volumeBytes: number;
  readonly onClosed: () => void;
}

function assemble(
  deps: Deps,
  context: OpenContext,
  settings: VolumeSettings,
  { head, map, journal, volumeBytes, onClosed }: Recovered,
): Volume {
  const { checksum, clock, log, heads } = deps;
  const { tenure, stop, signal, sources, uploader, buckets } = context;
  const { store } = buckets[0] as Bucket;
  const yieldTurn = () => clock.sleep(0);
  const committer = new HeadCommitter(heads, checksum, tenure, head);
  const sequencer = new SegmentSequencer(tenure.objectId, tenure.epoch, lastDataSegment(head));
  const reader = new BlockReader({ map, journal, sources, checksum });
  const onFailure = (error: unknown) => volume.fail(error);
  const replicator = openReplicator(deps, context, { committer, journal, onFailure });
  const shared = {
    ...{ clock, log, map, committer, sequencer, uploader, checksum },
    signal,
    onFailure,
  };
  const readsSettled = () => reader.settled();
  const snapshotTimes = async () => {
    const times: SegmentName[] = [];
    for await (const { at } of deps.snapshots.list(tenure.objectId)) times.push(at);
    return times;
  };
  const checkpointer = new Checkpointer(
    { ...shared, store, buckets, sources, readsSettled, snapshotTimes },
    settings,
  );
  const destager: Destager = new Destager(
    {
      ...shared,
      journal,
      checkpointer,
      volumeBytes: () => writer.volumeBytes,
      onTrimmed: () => {
        room.wake();
        replicator.trimmed();
      },
    },
    settings,
  );
  const room = new JournalRoom(journal, clock, log, {
    signal,
    hurry: () => destager.hurry(),
    makeSpace: () => deps.sources.giveWay(settings.journal.fileBytes),
  });
  const writer: BlockWriter = new BlockWriter(
    {
      ...{ map, journal, reader, checksum, room },
      assertWritable: () => volume.assertWritable(),
      onChange: (bytes) => destager.noteChange(bytes),
    },
    volumeBytes,
  );
  const readAhead = new ReadAhead(settings.readAheadBytes, (offset, bytes) =>
    prefetch(map, sources, offset, Math.min(bytes, writer.volumeBytes - offset)),
  );
  const volume: Volume = new Volume({
    ...{ tenure, log, journal, map, reader, writer, readAhead, room, destager, checkpointer },
    ...{ committer, sequencer, uploader, replicator, clock, yieldTurn, stop, onClosed },
    ...{ snapshots: deps.snapshots, sources },
    discardJournal: () => Journal.destroy(deps.disk, context.folder),
    readTail: () =>
      new TailReader({
        ...{ disk: deps.disk, folder: context.folder, journal, yieldTurn },
        committedSequence: () => committer.head.journalSequence,
      }),
  });
  if (!map.active.isEmpty || volumeBytes !== head.volumeBytes)
    destager.noteChange(map.active.rowCount * blockBytes);
  checkpointer.checkpointIfDue();
  return volume;
}

function openReplicator(
  { replication, clock, log }: Deps,
  { tenure, signal }: OpenContext,
  parts: {
    readonly committer: HeadCommitter;
    readonly journal: Journal;
    readonly onFailure: (error: unknown) => void;
  },
): Replicator {
  const { mode, hosts, records } = replication;
  const { committer, journal, onFailure } = parts;
  const replicator = new Replicator({
    ...{ tenure, mode, hosts, journal, clock, log, signal, onFailure },
    record: (tail) => records.setTail(tenure.objectId, tenure.epoch, tail),
    committedSequence: () => committer.head.journalSequence,
  });
  // What was recovered shall have a copy as well.
  if (tenure.tail !== 'backend') replicator.start();
  return replicator;
}

/** Asks for what lies in segments, a contiguous run at a time, as far as the map is in memory. */
function prefetch(map: BlockMap, sources: SourcesByOrigin, offset: number, bytes: number): void {
  const place = new Uint32Array(placeWords);
  const end = Math.ceil((offset + bytes) / blockBytes);
  let run:
    | { origin: number; epoch: number; sequence: number; from: number; to: number }
    | undefined;
  const ask = () => {
    if (run) sources[run.origin]?.prefetch(run.epoch, run.sequence, run.from, run.to - run.from);
    run = undefined;
  };
  for (let block = Math.floor(offset / blockBytes); block < end; block += 1) {
    const kind = map.find(block, place);
    if (kind instanceof Promise) break;
    const epoch = place[placeWord.epoch] as number;
    if (kind === 'hole' || epoch === 0) continue;
    const sequence = place[placeWord.sequence] as number;
    const from = place[placeWord.offset] as number;
    const to = from + placeLength(place, 0);
    const origin = placeOrigin(place, 0);
    const isSame = run && run.origin === origin && run.epoch === epoch && run.sequence === sequence;
    if (run && isSame && run.to === from) run.to = to;
    else {
      ask();
      run = { origin, epoch, sequence, from, to };
    }
  }
  ask();
}
