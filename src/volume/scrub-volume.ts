/**
 * Looks through a volume on the backend: its committed head and those that snapshots keep, every page
 * of their maps, every segment that they reach, the table of live bytes, and what else lies in the
 * bucket. It needs neither a tenure nor the owner: heads that are kept don't change, and nothing that
 * they reach is deleted.
 *
 *   reach     pages are read, what they reach is marked, live bytes are counted
 *   compare   the table of live bytes with the count; whole segments with the marks
 *   locate    only where a segment is bad: the maps once more, for the blocks that it means
 *   list      the bucket: what was not marked, is not in the table and is of a tenure that has ended
 *             can't be named by anybody any more, because names come from heads or are new
 *
 * In memory are a few bits for each block, and some bytes for each segment.
 */

import { isStorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ObjectId } from '../core/units.ts';
import type { Head } from '../format/head.ts';
import { decodeHead } from '../format/head.ts';
import { placeWords, setPlace } from '../format/place.ts';
import { segmentKey } from '../format/segment-key.ts';
import type { BlobInfo, BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { ByteRange, Finding } from '../ports/scrub.ts';
import { addRange, rangesMax } from '../ports/scrub.ts';
import { ScrubMarks } from './scrub-marks.ts';
import { ScrubReader } from './scrub-reader.ts';
import type { BadSegment } from './scrub-segments.ts';
import { badSegments, headerOf } from './scrub-segments.ts';
import type { SegmentName } from './segment-usage.ts';
import { isLater, keyOf, SegmentUsage } from './segment-usage.ts';
import type { TreeVisitor } from './tree-walk.ts';
import { walkTree } from './tree-walk.ts';

const { blockBytes } = limits;
/** Names of foreign blobs that are told. */
const examplesMax = 5;

export interface VolumeScrubDeps {
  readonly store: BlobStore;
  readonly checksum: Checksum;
  readonly signal: AbortSignal;
}

export interface KeptHead {
  /** Of the snapshot. */
  readonly name: string;
  readonly at: SegmentName;
  readonly head: Uint8Array;
}

export interface VolumeUnderScrub {
  readonly id: ObjectId;
  /** Every earlier tenure had ended before the head was kept. */
  readonly epoch: number;
  /** Undefined: the registry has none. */
  readonly head: Uint8Array | undefined;
  readonly snapshots: readonly KeptHead[];
}

export interface VolumeReport {
  readonly findings: readonly Finding[];
  /** Blobs that nobody names. */
  readonly orphans: readonly BlobInfo[];
  /** The owner has to count live bytes anew. */
  readonly isTableWrong: boolean;
  /** The owner has dead segments to delete, or copies of older heads: a checkpoint takes them along. */
  readonly isLeft: boolean;
}

/** The volume as it is (`name` undefined), or a snapshot of it. */
interface View {
  readonly name: string | undefined;
  readonly head: Head;
}

export class VolumeScrub {
  readonly #deps: VolumeScrubDeps;
  readonly #volume: VolumeUnderScrub;
  readonly #reader: ScrubReader;
  readonly #marks = new ScrubMarks();
  readonly #counted = new SegmentUsage();
  readonly #table = new SegmentUsage();
  readonly #findings: Finding[] = [];
  #views: readonly View[] = [];
  /** Something that may reach more could not be read: nothing counts as an orphan then. */
  #isReachKnown = true;
  #isTableWrong = false;

  constructor(deps: VolumeScrubDeps, volume: VolumeUnderScrub) {
    this.#deps = deps;
    this.#volume = volume;
    this.#reader = new ScrubReader(deps.store, deps.checksum, deps.signal);
  }

  async run(): Promise<VolumeReport> {
    const { head, snapshots } = this.#volume;
    const kept = [{ name: undefined, head }, ...snapshots];
    this.#views = kept.flatMap((view) => this.#decode(view.name, view.head));
    for (const view of this.#views) await this.#reach(view);
    const times = snapshots.map(({ at }) => at);
    this.#compareTable(times);
    await this.#checkSegments();
    const { orphans, copies } = await this.#listBucket();
    const hasDead = this.#table.collectable(times).length > 0;
    const isLeft = hasDead || (copies > 1 && this.#isReachKnown);
    return { findings: this.#findings, orphans, isTableWrong: this.#isTableWrong, isLeft };
  }

  #find(finding: Omit<Finding, 'object'>): void {
    this.#findings.push({ ...finding, object: this.#volume.id });
  }

  #decode(name: string | undefined, head: Uint8Array | undefined): View[] {
    if (head === undefined) return [];
    try {
      return [{ name, head: decodeHead(head, this.#deps.checksum) }];
    } catch (error) {
      if (!isStorageError(error, 'corrupt')) throw error;
      this.#isReachKnown = false;
      this.#find({
        kind: 'damage',
        what: `head is damaged in the registry: ${error.message}`,
        ...(name !== undefined && { snapshot: name }),
        advice:
          name === undefined
            ? 'recover the volume from its bucket'
            : 'the snapshot can not be read any more: delete it',
      });
      return [];
    }
  }

  async #reach(view: View): Promise<void> {
    const { head, name } = view;
    const marks = this.#marks;
    const isHead = name === undefined;
    const lost = new Lost(head);
    const visitor: TreeVisitor = {
      read: (places, at) => this.#reader.chunk(places, at),
      enter: (places, at) => {
        if (isHead) this.#counted.add(places, at);
        return marks.addPage(places, at);
      },
      block: (places, at) => {
        if (isHead) this.#counted.add(places, at);
        marks.addBlock(places, at);
        return undefined;
      },
      lost: (block, count, error) => {
        if (error) this.#isReachKnown = false;
        lost.add(block, count, error?.message ?? 'they were lost some time ago');
      },
    };
    await walkTree(head, visitor);
    for (const segment of ownTail(head)) await this.#reachTail(view, segment);
    await this.#readTable(view);
    if (lost.bytes === 0) return;
    this.#find({
      kind: 'damage',
      what: `pages of the block map can't be read: ${lost.why}`,
      ...this.#where(name, lost),
    });
  }

  async #reachTail({ name: snapshot }: View, name: SegmentName): Promise<void> {
    const { id } = this.#volume;
    const header = await headerOf({ ...this.#deps, id, reader: this.#reader }, name);
    this.#marks.addSegment(name, header?.chunks ?? []);
    if (!header)
      this.#find({
        kind: 'damage',
        what: `index of ${segmentKey(name.epoch, name.sequence)} can't be read: it is newer than the map`,
        ...(snapshot !== undefined && { snapshot }),
        advice:
          'the volume can not be opened; while it is open, `wharf vdisk sync` heals it. ' +
          'Otherwise roll it back to a snapshot',
      });
  }

  /** The table of the head; what a snapshot keeps of its own is only reached. */
  async #readTable({ name, head: { usage } }: View): Promise<void> {
    for (let at = 0; at < usage.length; at += placeWords) {
      this.#marks.addPage(usage, at);
      if (name !== undefined) continue;
      try {
        this.#table.decode(await this.#reader.chunk(usage, at));
      } catch (error) {
        if (!isStorageError(error, 'corrupt')) throw error;
        this.#table.markIncomplete();
      }
      this.#table.add(usage, at);
      this.#counted.add(usage, at);
    }
  }

  #compareTable(times: readonly SegmentName[]): void {
    // A damaged page hides what lives below it.
    if (!this.#isReachKnown) return;
    const wrong = (kind: Finding['kind'], what: string) => {
      this.#isTableWrong = true;
      this.#find({ kind, what: `table of live bytes ${what}`, advice: '--repair counts anew' });
    };
    if (!this.#table.isComplete) {
      wrong('damage', 'is not complete: nothing is deleted, and space not won back');
      return;
    }
    const { tooFew, tooMany } = this.#table.compare(this.#counted);
    if (tooFew > 0) wrong('damage', `counts ${tooFew} bytes too few: what lives may be deleted`);
    if (tooMany > 0) wrong('waste', `counts ${tooMany} bytes too many: they are not won back`);
    const reached = this.#table.collectable(times).filter((name) => this.#marks.has(name));
    const names = reached.map(({ epoch, sequence }) => segmentKey(epoch, sequence));
    if (names.length > 0) wrong('damage', `takes for dead what is reached: ${names.join(' ')}`);
  }

  async #checkSegments(): Promise<void> {
    const { id } = this.#volume;
    const bad = new Map<number, BadSegment>();
    const deps = { ...this.#deps, id, reader: this.#reader };
    for await (const segment of badSegments(deps, this.#marks))
      bad.set(keyOf(segment.name), segment);
    if (bad.size === 0) return;
    const told = new Set<number>();
    for (const view of this.#views.filter(({ name }) => this.#mayReach(name, bad)))
      for (const [key, lost] of await this.#locate(view, bad)) {
        told.add(key);
        const { name, what } = bad.get(key) as BadSegment;
        this.#find({
          kind: 'damage',
          what: say(name, what),
          ...this.#where(view.name, lost, name),
        });
      }
    for (const [key, { name, what }] of bad)
      if (!told.has(key))
        this.#find({
          kind: 'damage',
          what: `${say(name, what)}; all that is needed of it can still be read`,
          advice: 'write over what lies in it, or copy the disk',
        });
  }

  /** A snapshot reaches nothing that was named after it. */
  #mayReach(snapshot: string | undefined, bad: ReadonlyMap<number, BadSegment>): boolean {
    const kept = this.#volume.snapshots.find(({ name }) => name === snapshot);
    return !kept || [...bad.values()].some(({ name }) => !isLater(name, kept.at));
  }

  /** What the view can't read because of bad segments. */
  async #locate(
    { head }: View,
    bad: ReadonlyMap<number, BadSegment>,
  ): Promise<ReadonlyMap<number, Lost>> {
    const found = new Map<number, Lost>();
    const seen = new ScrubMarks();
    const block = async (places: Uint32Array, at: number, number: number) => {
      const key = keyOf({ epoch: places[at] as number, sequence: places[at + 1] as number });
      const segment = bad.get(key);
      if (!segment || (segment.what !== 'is missing' && (await this.#isReadable(places, at))))
        return;
      let lost = found.get(key);
      if (!lost) found.set(key, (lost = new Lost(head)));
      lost.add(number, 1, segment.what);
    };
    await walkTree(head, {
      read: (places, at) => this.#reader.chunk(places, at),
      enter: (places, at) => seen.addPage(places, at),
      block: (places, at, number) =>
        bad.has(keyAt(places, at)) ? block(places, at, number) : undefined,
      lost: () => {},
    });
    const { id } = this.#volume;
    for (const name of ownTail(head)) {
      if (!bad.has(keyOf(name))) continue;
      const header = await headerOf({ ...this.#deps, id, reader: this.#reader }, name);
      const place = new Uint32Array(placeWords);
      for (const chunk of header?.chunks ?? []) {
        setPlace(place, 0, name.epoch, name.sequence, chunk.offset, chunk.bytes, chunk.checksum);
        await block(place, 0, chunk.block);
      }
    }
    return found;
  }

  async #isReadable(places: Uint32Array, at: number): Promise<boolean> {
    try {
      await this.#reader.chunk(places, at);
      return true;
    } catch (error) {
      if (!isStorageError(error, 'corrupt')) throw error;
      return false;
    }
  }

  /** Whose bytes they are, and what can be done. */
  #where(snapshot: string | undefined, lost: Lost, segment?: SegmentName) {
    const { snapshots } = this.#volume;
    const older = segment && snapshots.filter(({ at }) => isLater(segment, at)).at(-1);
    const before = older && `; as it was before, it is in snapshot ${older.name}`;
    return {
      ranges: lost.ranges.slice(0, rangesMax),
      bytes: lost.bytes,
      ...(snapshot !== undefined && { snapshot }),
      advice:
        snapshot === undefined
          ? `writing over it heals it, from a backup or by the guest${before ?? ''}`
          : 'delete the snapshot where it is not needed',
    };
  }

  /**
   * An older copy of a head is no orphan, and nothing to be told: it is there while its successor's writer
   * has not deleted it yet, and where a tenure has ended just then. The next copy takes it along.
   */
  async #listBucket(): Promise<{ readonly orphans: readonly BlobInfo[]; readonly copies: number }> {
    const { store, signal } = this.#deps;
    const orphans: BlobInfo[] = [];
    const foreign: string[] = [];
    let [copies, segments, foreignCount] = [0, 0, 0];
    for (let after: string | undefined, isLast = false; !isLast; ) {
      const page = await store.list({ prefix: '', signal, ...(after !== undefined && { after }) });
      for (const blob of page.blobs) {
        const [, folder, epoch = '', sequence = ''] =
          /^(segment|head)\/([0-9a-f]{8})\/([0-9a-f]{8})$/.exec(blob.key) ?? [];
        const name = { epoch: Number.parseInt(epoch, 16), sequence: Number.parseInt(sequence, 16) };
        if (folder === undefined) {
          foreignCount += 1;
          if (foreign.length < examplesMax) foreign.push(blob.key);
        } else if (folder === 'segment') {
          segments += 1;
          if (this.#isOrphan(name)) orphans.push(blob);
        } else copies += 1;
      }
      after = page.next;
      isLast = after === undefined;
    }
    if (foreignCount > 0)
      this.#find({
        kind: 'foreign',
        what: `${foreignCount} blobs of unknown names: ${foreign.join(' ')}`,
      });
    if (this.#volume.head === undefined && segments > 0)
      this.#find({
        kind: 'damage',
        what: 'the registry has no head for it, and its bucket has segments',
        advice: 'recover the volume from its bucket',
      });
    return { orphans, copies };
  }

  #isOrphan(name: SegmentName): boolean {
    const { epoch, head } = this.#volume;
    if (name.epoch >= epoch || !this.#isReachKnown || head === undefined) return false;
    return !this.#marks.has(name) && !this.#table.has(name);
  }
}

/** Blocks of a view that can't be read. */
class Lost {
  readonly ranges: ByteRange[] = [];
  bytes = 0;
  why = '';
  readonly #end: number;

  constructor({ volumeBytes }: Head) {
    this.#end = volumeBytes;
  }

  add(block: number, count: number, why: string): void {
    const offset = block * blockBytes;
    const bytes = Math.min(count * blockBytes, Math.max(blockBytes, this.#end - offset));
    this.why ||= why;
    this.bytes += bytes;
    addRange(this.ranges, offset, bytes);
  }
}

/** The volume's own segments that were committed after the map's checkpoint. */
function ownTail({ tail }: Head): SegmentName[] {
  return tail.flatMap(({ epoch, first, last, origin }) =>
    origin === 0
      ? Array.from({ length: last - first + 1 }, (_, index) => ({ epoch, sequence: first + index }))
      : [],
  );
}

function keyAt(places: Uint32Array, at: number): number {
  return keyOf({ epoch: places[at] as number, sequence: places[at + 1] as number });
}

function say({ epoch, sequence }: SegmentName, what: string): string {
  return `${segmentKey(epoch, sequence)} ${what}`;
}
