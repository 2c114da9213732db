/**
 * The state of a volume from its bucket alone: the newest copy of its head that can be read, and the
 * cuts behind it. Which cuts count:
 *
 * - A cut counts whole: all of its run of segments, up to the one that says that it is the last.
 * - It continues the state that ends with the journal record before it, and names that record. The
 *   journal's numbers go on over tenures, so with the head's number a chain needs neither segments
 *   that a checkpoint has made superfluous, nor the links between segments. (Segments that don't name
 *   it follow the segment that they link back to.)
 * - A tenure commits its cuts in their order, and the next one begins with what is committed. So where
 *   a later epoch has a cut that continues record J, whole or not, cuts of earlier epochs that end
 *   behind J were never committed: they are garbage, however late their owner has put them, and the
 *   records in them may have been written again, or given up.
 * - Of an epoch without such a successor every whole cut in the chain counts, committed or not: what
 *   is in it was acknowledged, so the state is the volume after a prefix of its changes (invariant 4).
 *   Where cuts of two epochs continue the same record, that leaves one, so the chain never goes back
 *   to an earlier epoch.
 */

import { isStorageError } from '../core/errors.ts';
import type { Head } from '../format/head.ts';
import { decodeHead, emptyHead } from '../format/head.ts';
import { placeWord } from '../format/place.ts';
import type { SegmentHeader } from '../format/segment.ts';
import { segmentKey } from '../format/segment-key.ts';
import type { Bucket, TailDeps } from './recovery.ts';
import { readIndex } from './recovery.ts';
import type { SegmentName } from './segment-usage.ts';

const readsAtOnce = 16;

export interface Rebuilt {
  readonly head: Head;
  /** Largest epoch of whatever is in the bucket. */
  readonly epoch: number;
  /** Nothing was ever brought to the bucket. */
  readonly isEmpty: boolean;
  /** What can't be read and may be missing from the state, a line each. */
  readonly faults: readonly string[];
}

interface Cut {
  readonly epoch: number;
  /** None where it is not whole. */
  readonly segments: readonly SegmentHeader[];
  readonly follows: number;
  readonly journalSequence: number;
  readonly volumeBytes: number;
}

interface Listing {
  /** Oldest first. */
  readonly heads: readonly SegmentName[];
  /** By epoch, ascending; ascending in each. */
  readonly segments: ReadonlyMap<number, readonly number[]>;
  readonly strangers: readonly string[];
  readonly epoch: number;
}

/** Of the volume whose bucket is the first. */
export async function rebuildHead(deps: TailDeps): Promise<Rebuilt> {
  const listing = await list(deps);
  const faults = listing.strangers.map((key) => `${key}: no part of a volume`);
  const base = await newestHead(deps, listing.heads, faults);
  const found: SegmentHeader[] = [];
  for (const [epoch, sequences] of listing.segments)
    if (epoch >= base.epoch)
      found.push(...(await readBehind(deps, base, { epoch, sequences }, faults)));
  const { cuts, isCutShort } = chain(base, cutsOf(found));
  const last = cuts.at(-1);
  const ranges = cuts.flatMap(({ segments }) =>
    segments.map(({ epoch, sequence }) => ({ epoch, first: sequence, last: sequence, origin: 0 })),
  );
  const head = {
    ...base,
    volumeBytes: last?.volumeBytes ?? base.volumeBytes,
    journalSequence: last?.journalSequence ?? base.journalSequence,
    tail: [...base.tail, ...ranges],
  };
  if (isCutShort)
    faults.push(
      `segments behind record ${head.journalSequence}: not all that they continue is there`,
    );
  const isEmpty = base === emptyHead && found.length === 0 && faults.length === 0;
  return { head, epoch: listing.epoch, isEmpty, faults };
}

const namePattern = /^(head|segment)\/([0-9a-f]{8})\/([0-9a-f]{8})$/;

async function list({ buckets, signal }: TailDeps): Promise<Listing> {
  const { store } = buckets[0] as Bucket;
  const heads: SegmentName[] = [];
  const segments = new Map<number, number[]>();
  const strangers: string[] = [];
  let largest = 0;
  for (let after: string | undefined; ; ) {
    const page = await store.list({ prefix: '', signal, ...(after !== undefined && { after }) });
    for (const { key } of page.blobs) {
      const [, kind, ...digits] = namePattern.exec(key) ?? [];
      const [epoch = 0, sequence = 0] = digits.map((text) => Number.parseInt(text, 16));
      largest = Math.max(largest, epoch);
      if (kind === 'head') heads.push({ epoch, sequence });
      else if (kind === undefined) strangers.push(key);
      else if (segments.has(epoch)) segments.get(epoch)?.push(sequence);
      else segments.set(epoch, [sequence]);
    }
    after = page.next;
    if (after === undefined) return { heads, segments, strangers, epoch: largest };
  }
}

/**
 * The empty head where no copy was left yet. One whose root can't be read serves where there is no
 * better one: what is lost reads as an error, as every place has a checksum.
 */
async function newestHead(
  deps: TailDeps,
  names: readonly SegmentName[],
  faults: string[],
): Promise<Head> {
  const { store } = deps.buckets[0] as Bucket;
  let poor: Head | undefined;
  for (const name of names.toReversed()) {
    const key = segmentKey(name.epoch, name.sequence).replace('segment/', 'head/');
    try {
      const head = decodeHead(await store.get(key, { signal: deps.signal }), deps.checksum);
      if (head.epoch !== name.epoch) {
        faults.push(`${key}: stands under a wrong name`);
        continue;
      }
      poor ??= head;
      await readRoot(deps, head);
      return head;
    } catch (error) {
      if (!isStorageError(error, 'corrupt')) throw error;
      faults.push(`${key}: ${error.message}`);
    }
  }
  return poor ?? emptyHead;
}

/** A head names no volume, but the segment of its root does: unless that is an ancestor's. */
async function readRoot(deps: TailDeps, { root }: Head): Promise<void> {
  const [epoch = 0, sequence = 0] = [root[placeWord.epoch], root[placeWord.sequence]];
  if (epoch !== 0 && root[placeWord.origin] === 0) await readIndex(deps, { epoch, sequence });
}

/** Segments of one epoch from the newest back to what the head holds already. */
async function readBehind(
  deps: TailDeps,
  base: Head,
  { epoch, sequences }: { readonly epoch: number; readonly sequences: readonly number[] },
  faults: string[],
): Promise<readonly SegmentHeader[]> {
  const found: SegmentHeader[] = [];
  for (let end = sequences.length; end > 0; end -= readsAtOnce) {
    const batch = sequences.slice(Math.max(0, end - readsAtOnce), end);
    const headers = await Promise.all(
      batch.map(async (sequence) => {
        try {
          return await readIndex(deps, { epoch, sequence });
        } catch (error) {
          if (!isStorageError(error, 'corrupt')) throw error;
          faults.push(`${segmentKey(epoch, sequence)}: damaged, or another volume's`);
          return undefined;
        }
      }),
    );
    const read = headers.filter((header) => header !== undefined);
    found.push(...read);
    const isCovered = ({ kind, journalSequence }: SegmentHeader) =>
      kind === 'data' && journalSequence <= base.journalSequence;
    if (read.some(isCovered)) break;
  }
  return found;
}

const nameOf = ({ epoch, sequence }: SegmentName) => `${epoch}/${sequence}`;

function cutsOf(found: readonly SegmentHeader[]): readonly Cut[] {
  const all = new Map(found.map((header) => [nameOf(header), header]));
  const groups = Map.groupBy(
    found.filter(({ kind }) => kind === 'data'),
    ({ epoch, groupFirst }) => nameOf({ epoch, sequence: groupFirst }),
  );
  return [...groups.values()].flatMap((members): Cut[] => {
    const sorted = members.toSorted((a, b) => a.sequence - b.sequence);
    const [any] = sorted as [SegmentHeader];
    const { epoch, groupFirst: first, journalSequence, volumeBytes } = any;
    const follows = any.followsSequence ?? all.get(nameOf(any.previous))?.journalSequence;
    if (follows === undefined) return [];
    const last = sorted.find(({ lastOfCut }) => lastOfCut)?.sequence ?? 0;
    let isWhole = last >= first;
    // Older segments of two cuts may lie among each other: one that is missing may be of either.
    for (let sequence = first; sequence <= last; sequence += 1)
      isWhole &&= all.has(nameOf({ epoch, sequence }));
    const segments = isWhole ? sorted : [];
    return [{ epoch, segments, follows, journalSequence, volumeBytes }];
  });
}

function chain(
  base: Head,
  all: readonly Cut[],
): { readonly cuts: readonly Cut[]; readonly isCutShort: boolean } {
  const isOvertaken = (cut: Cut) =>
    all.some(({ epoch, follows }) => epoch > cut.epoch && follows < cut.journalSequence);
  const usable = all.filter((cut) => cut.segments.length > 0 && !isOvertaken(cut));
  const cuts: Cut[] = [];
  let reached = base.journalSequence;
  for (;;) {
    const next = usable.find(
      ({ follows, journalSequence }) => follows === reached && journalSequence > reached,
    );
    if (!next) break;
    cuts.push(next);
    reached = next.journalSequence;
  }
  return { cuts, isCutShort: usable.some(({ journalSequence }) => journalSequence > reached) };
}
