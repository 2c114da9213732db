/**
 * Packs a cut into data segments, sorted by block, and puts them in parallel. The checksums are
 * those that the blocks got when they were accepted: they are verified, never made anew, so damage
 * in the journal stays visible to whoever reads the block later.
 */

import { limits } from '../core/limits.ts';
import { TaskGroup } from '../core/task-group.ts';
import { placeWord, placeWords, setPlace } from '../format/place.ts';
import type { Trim } from '../format/segment.ts';
import { segmentHeadBytes } from '../format/segment.ts';
import type { Journal } from '../log/journal.ts';
import { SegmentBuilder } from '../log/segment-builder.ts';
import type { SegmentUploader } from '../log/segment-uploader.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Cut } from './block-map.ts';
import type { SegmentSequencer } from './segment-sequencer.ts';
import { inTurns, Turns } from './turns.ts';

const { blockBytes } = limits;
/** Blocks that are read from the journal at once. */
const blocksPerRead = 64;

export interface CutWriterDeps {
  readonly journal: Journal;
  readonly sequencer: SegmentSequencer;
  readonly uploader: SegmentUploader;
  readonly checksum: Checksum;
  readonly log: Log;
  readonly clock: Clock;
}

export interface WrittenCut {
  /** Rows of the cut's overlay that hold data, by block. */
  readonly rows: Uint32Array;
  /** Where they lie now, six words each. */
  readonly places: Uint32Array;
  /** Sequences of its segments. */
  readonly sequences: readonly number[];
  /** Resolves when all segments are on the backend. */
  readonly stored: Promise<void>;
}

export async function writeCut(
  deps: CutWriterDeps,
  cut: Cut,
  { segmentBytes, followsSequence }: { segmentBytes: number; followsSequence: number },
): Promise<WrittenCut> {
  const { sequencer, uploader, checksum } = deps;
  const turns = new Turns(deps.clock);
  const rows = await inTurns(cut.overlay.sortedDataRows(), turns);
  const places = new Uint32Array(rows.length * placeWords);
  const blocksPerSegment = segmentBytes / blockBytes;
  const segmentCount = Math.max(1, Math.ceil(rows.length / blocksPerSegment));
  // All at once: a cut is a run of segments, whatever else is on its way.
  const names = Array.from({ length: segmentCount }, () => sequencer.nextData());
  const sequences = names.map(({ sequence }) => sequence);
  let failure: { readonly error: unknown } | undefined;
  const puts = new TaskGroup((error) => {
    failure ??= { error };
  });
  for (const [index, { sequence, previous }] of names.entries()) {
    const from = index * blocksPerSegment;
    const to = Math.min(rows.length, from + blocksPerSegment);
    const trims = index === 0 ? trimsOf(cut) : [];
    const shape = { payloadBytesMax: (to - from) * blockBytes, chunksMax: to - from, trims };
    const reserved = shape.payloadBytesMax + segmentHeadBytes(trims.length, shape.chunksMax);
    await uploader.reserve(reserved);
    const builder = new SegmentBuilder(sequencer.epoch, sequence, shape);
    try {
      await fillSegment(deps, builder, cut, { rows, from, to, places, turns });
    } catch (error) {
      uploader.release(reserved);
      failure ??= { error };
      break;
    }
    const identity = {
      kind: 'data',
      objectId: sequencer.objectId,
      groupFirst: sequences[0] as number,
      lastOfCut: index === segmentCount - 1,
      journalSequence: cut.journalSequence,
      volumeBytes: cut.volumeBytes,
      followsSequence,
      previous,
    } as const;
    const body = builder.seal(identity, checksum);
    puts.run(() => uploader.put(sequencer.epoch, sequence, body, reserved));
    if (failure) break;
  }
  const stored = puts.drained().then(() => {
    if (failure) throw failure.error;
  });
  stored.catch(() => {});
  return { rows, places, sequences, stored };
}

function trimsOf(cut: Cut): Trim[] {
  return Array.from(cut.overlay.trims, ([from, to]) => ({ block: from, count: to - from }));
}

/** Copies the blocks of rows `from` to `to` out of the journal, a contiguous run at a time. */
async function fillSegment(
  deps: CutWriterDeps,
  builder: SegmentBuilder,
  cut: Cut,
  part: { rows: Uint32Array; from: number; to: number; places: Uint32Array; turns: Turns },
): Promise<void> {
  const { journal } = deps;
  const { words } = cut.overlay;
  const { rows, from, to, places, turns } = part;
  for (let index = from; index < to; ) {
    const first = (rows[index] as number) * placeWords;
    const file = words[first + placeWord.sequence] as number;
    const offset = words[first + placeWord.offset] as number;
    let count = 0;
    let areas: Uint8Array | undefined;
    for (; index + count < to && count < blocksPerRead; count += 1) {
      const row = rows[index + count] as number;
      const at = row * placeWords;
      const isNext =
        words[at + placeWord.sequence] === file &&
        words[at + placeWord.offset] === offset + count * blockBytes;
      if (!isNext) break;
      const crc = words[at + placeWord.checksum] as number;
      const placeAt = (index + count) * placeWords;
      setPlace(
        places,
        placeAt,
        builder.epoch,
        builder.sequence,
        builder.nextOffset,
        blockBytes,
        crc,
      );
      const block = cut.overlay.blockOfRow(row);
      const area = builder.reserve({ kind: 'block', level: 0, block, checksum: crc }, blockBytes);
      areas = areas === undefined ? area : joined(areas, area);
    }
    const run = areas as Uint8Array;
    await journal.read(file, offset, run);
    verifyRun(deps, run, places, index);
    index += count;
    const turn = turns.step();
    if (turn) await turn;
  }
}

/** Areas are handed out one behind another in one buffer. */
function joined(areas: Uint8Array, next: Uint8Array): Uint8Array {
  return new Uint8Array(areas.buffer, areas.byteOffset, areas.length + next.length);
}

function verifyRun(deps: CutWriterDeps, run: Uint8Array, places: Uint32Array, index: number): void {
  const count = run.length / blockBytes;
  const found = new Uint32Array(count);
  deps.checksum.crc32cBlocks(run, blockBytes, found, 0);
  for (let block = 0; block < count; block += 1) {
    const expected = places[(index + block) * placeWords + placeWord.checksum] as number;
    if (found[block] !== expected)
      deps.log.error({ expected, found: found[block] }, 'block is damaged in the journal');
  }
}
