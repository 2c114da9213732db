/**
 * The Volume Driver: one bucket and one journal folder for each volume, and what all volumes of a
 * host share: the SSD cache, the memory for pages of block maps, the bytes on their way out.
 */

import { isStorageError, StorageError } from '../core/errors.ts';
import { invariant } from '../core/invariant.ts';
import { limits } from '../core/limits.ts';
import { Permits } from '../core/permits.ts';
import type { ObjectId } from '../core/units.ts';
import { MiB, objectId } from '../core/units.ts';
import { decodeHead, emptyHead, encodeHead } from '../format/head.ts';
import { Journal } from '../log/journal.ts';
import type { TailReader } from '../log/tail-reader.ts';
import { SegmentUploader } from '../log/segment-uploader.ts';
import type { ChangesSoFar, ObjectDriver } from '../ports/object-driver.ts';
import type { SegmentSource } from '../ports/segment-source.ts';
import type { Tenure } from '../ports/tenure.ts';
import type { CareAnswer, VolumeRequest } from '../ports/volume-care.ts';
import type { SnapshotRecord } from '../registry/snapshot-records.ts';
import type { Lineage } from './lineage.ts';
import { openLineage } from './lineage.ts';
import { openVolume } from './open-volume.ts';
import { PageBudget } from './page-budget.ts';
import type { Bucket } from './recovery.ts';
import { findHead } from './recovery.ts';
import { rollBack } from './rollback.ts';
import type { VolumeSettings } from './settings.ts';
import { SnapshotView } from './snapshot-view.ts';
import { TailTransfer } from './tail-transfer.ts';
import type { VolumeDriverDeps } from './volume-deps.ts';
import type { Volume, VolumeStatus } from './volume.ts';

/** What is left of a journal is sent while the volume's requests are held: that is hardly felt, */
const shortTailBytes = 1 * MiB;
/** or is as much as may be, where its writers are fast. */
const tailBytesMax = 16 * MiB;
const shortenRoundsMax = 16;

export class VolumeDriver implements ObjectDriver {
  readonly kind = 'volume';
  readonly #deps: VolumeDriverDeps;
  readonly #settings: VolumeSettings;
  readonly #shared: { readonly budget: PageBudget; readonly inFlight: Permits };
  readonly #open = new Map<ObjectId, Volume>();
  readonly #tails: TailTransfer;

  constructor(deps: VolumeDriverDeps, settings: VolumeSettings) {
    this.#deps = deps;
    this.#settings = settings;
    this.#tails = new TailTransfer(deps, settings.journal.fileBytes);
    this.#shared = {
      budget: new PageBudget(settings.mapBytesMax),
      inFlight: new Permits(settings.uploadBytesMax),
    };
  }

  /** The volume where it is open. */
  opened(id: ObjectId): Volume | undefined {
    return this.#open.get(id);
  }

  /** Tails of journals, for volumes that change hands. */
  get tails(): TailTransfer {
    return this.#tails;
  }

  /**
   * Brings most of an open volume to the backend while it serves, so that little is left to be sent
   * when it changes hands. `busy` where its writers are ahead of that.
   */
  async shorten(id: ObjectId): Promise<void> {
    const volume = this.#open.get(id);
    let before = Number.POSITIVE_INFINITY;
    for (let round = 0; volume; round += 1) {
      const bytes = volume.status().notDestagedBytes;
      const isShort = bytes <= shortTailBytes || (bytes <= tailBytesMax && bytes > before / 2);
      if (isShort) return;
      if (round === shortenRoundsMax)
        throw new StorageError('busy', 'the volume is written faster than it is destaged');
      before = bytes;
      await volume.sync();
    }
  }

  /** What the journal of an open volume has, also when the volume is let go. `unavailable`. */
  follow(id: ObjectId): TailReader {
    return this.#opened(id).tail();
  }

  /** Of all volumes that are open here. */
  statuses(): (VolumeStatus & { readonly id: ObjectId })[] {
    return Array.from(this.#open, ([id, volume]) => ({ id, ...volume.status() }));
  }

  /** Pages of block maps in memory, over all volumes. */
  get mapPages(): number {
    return this.#shared.budget.pageCount;
  }

  async create(tenure: Tenure, before?: ChangesSoFar): Promise<void> {
    const { backend, bucketOf, heads, checksum, disk } = this.#deps;
    const { objectId: id, epoch, signal } = tenure;
    // Left over from an attempt that came to nothing: it was never part of the volume.
    await Journal.destroy(disk, this.#folder(id));
    await backend.createBucket(bucketOf(id), { signal });
    const { last: journalSequence = 0, starts = [] } = before ?? {};
    const head = { ...emptyHead, epoch, journalSequence, starts };
    await heads.commitHead(id, epoch, encodeHead(head, checksum));
  }

  /**
   * The bucket of a volume that is not named yet, and in it the head that it begins with: with the
   * registry gone, the buckets are enough.
   */
  async prepare(id: ObjectId, head: Uint8Array): Promise<void> {
    const { backend, bucketOf } = this.#deps;
    await backend.createBucket(bucketOf(id));
    await backend.bucket(bucketOf(id)).put('head/00000000/00000000', head);
  }

  /** What is kept by a snapshot of volume `id`, for reading. */
  view(id: ObjectId, snapshot: SnapshotRecord): Promise<SnapshotView> {
    return SnapshotView.open({ ...this.#deps, ...this.#shared }, id, snapshot.head);
  }

  /** Keeps the volume as it is now. `unavailable` where it is not open. */
  mark(id: ObjectId, name: string, createdNs: bigint): void {
    this.#opened(id).care.mark(name, createdNs);
  }

  /** Why writers of a volume wait, if they do. */
  waiting(id: ObjectId): string | undefined {
    return this.#open.get(id)?.status().waiting;
  }

  /** `unavailable` where the volume is not open. */
  async act(id: ObjectId, request: VolumeRequest): Promise<CareAnswer> {
    return this.#opened(id).care.act(request);
  }

  /**
   * Makes a volume what a snapshot is, or nothing, and a snapshot `before` of what it was. It is not open, all
   * of it is on the backend, and the tenure is used up by this.
   */
  async rollBack(
    tenure: Tenure,
    to: SnapshotRecord | 'nothing',
    before: Pick<SnapshotRecord, 'name' | 'createdNs'> | undefined,
  ): Promise<void> {
    const { heads, snapshots, checksum, log } = this.#deps;
    const { objectId: id, signal } = tenure;
    invariant(!this.#open.has(id), 'a volume that is rolled back is closed');
    await this.#tails.discard(id);
    const head = (await findHead(heads, id, checksum)) ?? emptyHead;
    const kept = to === 'nothing' ? emptyHead : decodeHead(to.head, checksum);
    const lineage = openLineage(this.#deps, [id, ...head.ancestors], signal);
    const keptLineage = openLineage(this.#deps, [id, ...kept.ancestors], signal);
    const uploader = this.#uploader(lineage, signal);
    const { segmentBytes } = this.#settings;
    const deps = { tenure, heads, checksum, log, uploader, segmentBytes, lineage, keptLineage };
    const usedBytes = head.dataBlocks * limits.blockBytes;
    await rollBack(
      deps,
      head,
      kept,
      (at, encoded) =>
        before ? snapshots.writes(id, { ...before, at, usedBytes, head: encoded }) : [],
      async () => (to === 'nothing' ? [] : [await snapshots.still(id, to)]),
    );
  }

  async open(tenure: Tenure): Promise<Volume> {
    const { heads, checksum } = this.#deps;
    const { objectId: id, tail } = tenure;
    if (this.#open.has(id)) throw new StorageError('busy', 'the volume is open already');
    const known = await this.#tails.adopt(id, tail);
    let head = await findHead(heads, id, checksum);
    if (!head) await this.create(tenure);
    head ??= { ...emptyHead, epoch: tenure.epoch };
    const stop = new AbortController();
    const signal = AbortSignal.any([tenure.signal, stop.signal]);
    const lineage = openLineage(this.#deps, [id, ...head.ancestors], signal);
    const uploader = this.#uploader(lineage, signal);
    const folder = this.#folder(id);
    const context = { tenure, head, stop, signal, ...lineage, uploader, folder, known };
    const volume = await openVolume(
      { ...this.#deps, budget: this.#shared.budget },
      context,
      this.#settings,
      () => this.#open.delete(id),
    );
    this.#open.set(id, volume);
    return volume;
  }

  async delete(id: ObjectId): Promise<void> {
    const { backend, bucketOf, disk, sources } = this.#deps;
    if (this.#open.has(id)) throw new StorageError('busy', 'the volume is open');
    await Journal.destroy(disk, this.#folder(id));
    await backend.deleteBucket(bucketOf(id));
    sources.forget(id);
  }

  /**
   * Volumes with a journal on this disk: what is in it is not on the backend yet. What was being
   * fetched when the host went down is removed.
   */
  unfinished(): Promise<ObjectId[]> {
    const names = this.#deps.disk.list(this.#deps.journalFolder);
    return Promise.resolve(names.flatMap((name) => asObjectId(name) ?? []));
  }

  #opened(id: ObjectId): Volume {
    const volume = this.#open.get(id);
    if (!volume) throw new StorageError('unavailable', `volume ${id} is not open here`);
    return volume;
  }

  #uploader({ buckets, sources }: Lineage, signal: AbortSignal): SegmentUploader {
    const { store } = buckets[0] as Bucket;
    const source = sources[0] as SegmentSource;
    return new SegmentUploader({ store, source, inFlight: this.#shared.inFlight, signal });
  }

  #folder(id: ObjectId): string {
    return `${this.#deps.journalFolder}/${id}`;
  }
}

function asObjectId(name: string): ObjectId | undefined {
  try {
    return objectId(name);
  } catch (error) {
    if (isStorageError(error, 'invalid')) return undefined;
    throw error;
  }
}
