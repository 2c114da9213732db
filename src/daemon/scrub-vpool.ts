/**
 * Looks through a vPool while it is in use: the registry, every volume and file, and all that lies in
 * its buckets. Nothing is believed to be wrong that may be on its way from one state to another:
 *
 *   a volume     is looked at as of one committed head, which is kept meanwhile (scrub-pin.ts)
 *   a piece      counts while the manifest of that moment names it
 *   all else     is a suspicion first, and a finding when it still looks so some seconds later
 *
 * A repair takes away what nobody can name any more, each time by what was proved before, and has the
 * owner of a volume count anew. It is done at the end, and breaking it off anywhere does no harm.
 */

import { describeError, isStorageError, StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { LeaseId, ObjectId } from '../core/units.ts';
import { objectId } from '../core/units.ts';
import { within } from '../core/within.ts';
import { withRate, type RateMeter } from '../backend/with-rate.ts';
import type { FileBucketDeps } from '../file/scrub-file.ts';
import { scrubFile, scrubFileBucket } from '../file/scrub-file.ts';
import type { Backend, BlobInfo, BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import type { Registry } from '../ports/registry.ts';
import type { Finding, Problem, Suspicion } from '../ports/scrub.ts';
import type { CareRequest } from '../ports/volume-care.ts';
import { deleteKey, isAbsent, isAt, keys } from '../registry/namespace.ts';
import type { ObjectRecords } from '../registry/object-records.ts';
import { pathOf, pathOfObject } from '../registry/path-of.ts';
import { encodeRecord } from '../registry/record.ts';
import { scan } from '../registry/scan.ts';
import { scrubNames } from '../registry/scrub-names.ts';
import { keysOf, objectsOf, recordOf, suspicionsOf } from '../registry/scrub-objects.ts';
import type { SnapshotRecords } from '../registry/snapshot-records.ts';
import { decodeSnapshot, isOfScrub } from '../registry/snapshot-records.ts';
import { timeOfHead } from '../volume/scrub-pin.ts';
import type { KeptHead, VolumeReport } from '../volume/scrub-volume.ts';
import { VolumeScrub } from '../volume/scrub-volume.ts';

/** What looks wrong is asked again as often as this, after a pause each time. */
const confirmations = 2;
const deletionsPerCall = limits.listEntriesMax;

export interface VpoolScrubDeps {
  readonly registry: Registry;
  readonly records: ObjectRecords;
  readonly snapshots: SnapshotRecords;
  readonly backend: Backend;
  /** What the bucket of a volume is called, before its id. */
  readonly volumeBuckets: string;
  readonly fileBucket: string;
  readonly checksum: Checksum;
  readonly clock: Clock;
  /** Of the volumes' owners. */
  readonly care: { ask(id: ObjectId, request: CareRequest): Promise<unknown> };
  /** The object and its data. */
  readonly deleteObject: (id: ObjectId) => Promise<void>;
  /** How long what looks wrong is given to become right. */
  readonly pauseMs: number;
  /** How long pieces of files stay that were replaced. */
  readonly keptMs: number;
  /** How long an owner is waited for. */
  readonly ownerMs: number;
}

export interface ScrubRun {
  readonly isRepair: boolean;
  readonly meter: RateMeter;
  /** What is kept is kept under it. */
  readonly lease: LeaseId;
  readonly signal: AbortSignal;
  readonly found: (finding: Finding) => void;
  readonly expects: (bytes: number) => void;
}

/** Blobs of a bucket that nobody names, to be looked at once more. */
interface Orphans {
  readonly what: string;
  readonly object?: ObjectId;
  readonly store: BlobStore;
  readonly blobs: readonly BlobInfo[];
  /** Until then somebody may be about to delete them. */
  readonly keptUntilMs?: number;
}

export class VpoolScrub {
  readonly #deps: VpoolScrubDeps;
  readonly #run: ScrubRun;
  readonly #suspicions: Suspicion[] = [];
  readonly #orphans: Orphans[] = [];
  /** Buckets without an object. */
  #buckets: readonly string[] = [];

  constructor(deps: VpoolScrubDeps, run: ScrubRun) {
    this.#deps = deps;
    this.#run = run;
  }

  async run(): Promise<void> {
    const { registry } = this.#deps;
    const { signal, expects } = this.#run;
    const { suspicions, allocatedBytes } = await scrubNames(registry);
    this.#suspicions.push(...suspicions);
    expects(allocatedBytes);
    this.#buckets = await this.#strayBuckets();
    for await (const object of objectsOf(registry)) {
      signal.throwIfAborted();
      this.#suspicions.push(...(await suspicionsOf(registry, object)));
      const kind = recordOf(object)?.kind;
      if (kind === 'volume') await this.#volume(object.id);
      if (kind === 'file') await this.#file(object.id);
    }
    await this.#pieces();
    await this.#settle();
  }

  async #tell(finding: Finding): Promise<void> {
    const { registry } = this.#deps;
    let path = finding.path;
    try {
      if (finding.object) path ??= await pathOfObject(registry, finding.object);
    } catch (error) {
      // A name that can't be read is told by itself.
      if (!isStorageError(error)) throw error;
    }
    this.#run.found({ ...finding, ...(path !== undefined && { path }) });
  }

  async #volume(id: ObjectId): Promise<void> {
    const { snapshots } = this.#deps;
    let report: VolumeReport | undefined;
    try {
      report = await this.#reportOf(id);
    } finally {
      await snapshots.unpin(id);
    }
    if (!report) return;
    const { orphans, isTableWrong, isLeft } = report;
    const isCounted = isTableWrong && (await this.#ask(id, { do: 'recount' }));
    if (!isTableWrong && isLeft) await this.#ask(id, { do: 'collect' });
    for (const finding of report.findings)
      await this.#tell({
        ...finding,
        ...(isCounted && isOfTable(finding) && { isRepaired: true }),
      });
    const what = 'blobs that no head and no snapshot reaches';
    const { backend } = this.#deps;
    if (orphans.length > 0)
      this.#orphans.push({
        what,
        object: id,
        store: backend.bucket(this.#bucketOf(id)),
        blobs: orphans,
      });
  }

  /** Of one that is being removed some pieces may be gone already. */
  async #file(id: ObjectId): Promise<void> {
    const findings = await scrubFile(this.#fileDeps(), id);
    if (findings.length === 0 || !(await this.#isThere(id))) return;
    for (const finding of findings) await this.#tell(finding);
  }

  /** Undefined where the volume is gone. */
  async #reportOf(id: ObjectId): Promise<VolumeReport | undefined> {
    const { records, snapshots, backend, checksum } = this.#deps;
    const { meter, signal } = this.#run;
    const record = await records.find(id);
    if (record?.kind !== 'volume') return undefined;
    const head = await this.#keepHead(id);
    const kept = await this.#keepSnapshots(id);
    const store = withRate(backend.bucket(this.#bucketOf(id)), meter);
    const volume = { id, epoch: record.epoch, head, snapshots: kept };
    let report: VolumeReport;
    try {
      report = await new VolumeScrub({ store, checksum, signal }, volume).run();
    } catch (error) {
      // The bucket goes before the record.
      if (isStorageError(error, 'not_found') && !(await this.#isThere(id))) return undefined;
      throw error;
    }
    if (report.findings.length === 0) return report;
    if (!(await this.#isThere(id))) return undefined;
    if (head === undefined || (await snapshots.isPinned(id))) return report;
    throw new StorageError('failed', 'what the scrub keeps has gone: its lease was lost');
  }

  /** The committed head, which stays whole from now on. */
  async #keepHead(id: ObjectId): Promise<Uint8Array | undefined> {
    const { records, snapshots, checksum } = this.#deps;
    const { lease, signal } = this.#run;
    for (;;) {
      signal.throwIfAborted();
      const found = await records.findHead(id, 'volume');
      if (!found) return undefined;
      const at = timeOfHead(found.head, checksum);
      if (await snapshots.pin(id, { name: '', at }, found.isSame, lease)) return found.head;
    }
  }

  async #isThere(id: ObjectId): Promise<boolean> {
    const { records, registry } = this.#deps;
    const isGoing = await registry.get(keys.garbage(id));
    return !isGoing && (await records.find(id)) !== undefined;
  }

  /** All snapshots; of one that can't be read, what is no head. */
  async #keepSnapshots(id: ObjectId): Promise<readonly KeptHead[]> {
    const { registry, snapshots } = this.#deps;
    const kept: KeptHead[] = [];
    for await (const { key, value, revision } of scan(registry, `s${id}`)) {
      let found: KeptHead = { name: key.slice(33), at: { epoch: 0, sequence: 0 }, head: value };
      try {
        found = decodeSnapshot(key, value);
      } catch (error) {
        if (!isStorageError(error, 'corrupt')) throw error;
      }
      if (isOfScrub(found.name)) continue;
      const pin = { name: `-${found.name}`, at: found.at };
      if (await snapshots.pin(id, pin, isAt(key, revision), this.#run.lease)) kept.push(found);
    }
    return kept;
  }

  async #pieces(): Promise<void> {
    const { backend, clock, fileBucket, keptMs } = this.#deps;
    const { orphans, foreign, mayBeKept } = await scrubFileBucket(this.#fileDeps());
    const store = backend.bucket(fileBucket);
    if (orphans.length > 0)
      this.#orphans.push({
        ...{ what: 'pieces that no file names', store, blobs: orphans },
        keptUntilMs: clock.monotonicMs() + (mayBeKept ? keptMs : 0),
      });
    const examples = foreign.slice(0, 5).join(' ');
    const what = `${foreign.length} blobs of unknown names beside the files: ${examples}`;
    if (foreign.length > 0) await this.#tell({ kind: 'foreign', what });
  }

  #fileDeps(): FileBucketDeps {
    const { backend, fileBucket, checksum, records, registry } = this.#deps;
    const { meter, signal } = this.#run;
    return {
      store: withRate(backend.bucket(fileBucket), meter),
      ...{ checksum, signal },
      loadHead: async (id) => (await records.findHead(id, 'file'))?.head,
      epochOf: async (id) => {
        const object = await keysOf(registry, id);
        const { o, b, g } = object.found;
        return o.length + b.length + g.length === 0 ? undefined : (recordOf(object)?.epoch ?? 0);
      },
    };
  }

  /** A volume that is being made has a bucket before it has a record. */
  async #strayBuckets(): Promise<readonly string[]> {
    const { backend, volumeBuckets, registry } = this.#deps;
    const { signal } = this.#run;
    const stray: string[] = [];
    for (const name of await backend.listBuckets({ prefix: volumeBuckets, signal })) {
      const id = name.slice(volumeBuckets.length);
      if (!/^[0-9a-f]{32}$/.test(id)) continue;
      const { found } = await keysOf(registry, objectId(id));
      if (found.o.length + found.b.length + found.g.length === 0) stray.push(name);
    }
    return stray;
  }

  async #settle(): Promise<void> {
    const { clock, pauseMs } = this.#deps;
    const { signal } = this.#run;
    let suspicions: readonly Suspicion[] = this.#suspicions;
    let problems: Problem[] = [];
    for (let round = 0; round < confirmations; round += 1) {
      if (suspicions.length + this.#orphans.length + this.#buckets.length === 0) return;
      await clock.sleep(pauseMs, { signal });
      const still: Suspicion[] = [];
      problems = [];
      for (const suspicion of suspicions) {
        const problem = await suspicion();
        if (!problem) continue;
        still.push(suspicion);
        problems.push(problem);
      }
      suspicions = still;
    }
    for (const problem of problems) await this.#tellProblem(problem);
    for (const orphans of this.#orphans)
      await this.#settleOrphans(orphans).catch((error: unknown) => {
        // The volume has been deleted meanwhile, and they went with its bucket.
        if (!isStorageError(error, 'not_found')) throw error;
      });
    const standing = new Set(await this.#strayBuckets());
    for (const name of this.#buckets) if (standing.has(name)) await this.#settleBucket(name);
  }

  async #tellProblem({ repair, then, ino, ...finding }: Problem): Promise<void> {
    const { registry } = this.#deps;
    let isRepaired = false;
    if (repair && this.#run.isRepair) {
      isRepaired = (await registry.transact(repair)).committed;
      if (isRepaired && then && finding.object) await this.#afterRepair(finding.object, then);
    }
    let path: string | undefined;
    if (ino !== undefined && !finding.object)
      path = await pathOf(registry, ino).catch(() => undefined);
    await this.#tell({
      ...finding,
      ...(path !== undefined && { path }),
      ...(isRepaired && { isRepaired }),
    });
  }

  async #afterRepair(id: ObjectId, then: NonNullable<Problem['then']>): Promise<void> {
    const { deleteObject, registry, snapshots } = this.#deps;
    if (then === 'collect') return void (await this.#ask(id, { do: 'collect' }));
    await deleteObject(id);
    await snapshots.forget(id);
    await registry.transact({ compares: [], writes: [deleteKey(keys.garbage(id))] });
  }

  async #settleOrphans({ what, object, store, blobs, keptUntilMs }: Orphans): Promise<void> {
    const { clock, pauseMs } = this.#deps;
    const { isRepair, signal } = this.#run;
    const keptMs = (keptUntilMs ?? 0) - clock.monotonicMs();
    if (keptMs > 0) await clock.sleep(keptMs + pauseMs, { signal });
    const still: BlobInfo[] = [];
    for (const { key } of blobs) {
      const { blobs: found } = await store.list({ prefix: key, limit: 1, signal });
      if (found[0]?.key === key) still.push(found[0]);
    }
    if (still.length === 0) return;
    for (let first = 0; isRepair && first < still.length; first += deletionsPerCall) {
      const names = still.slice(first, first + deletionsPerCall).map(({ key }) => key);
      await store.deleteMany(names, { signal });
    }
    await this.#tell({
      ...{ kind: 'waste', what: `${still.length} ${what}: ${still[0]?.key}` },
      ...(object && { object }),
      bytes: still.reduce((sum, { bytes }) => sum + bytes, 0),
      ...(isRepair && { isRepaired: true }),
    });
  }

  /** The note keeps away whoever is about to make a volume of it, and survives a crash. */
  async #settleBucket(name: string): Promise<void> {
    const { backend, volumeBuckets, registry } = this.#deps;
    const { isRepair, signal } = this.#run;
    const id = objectId(name.slice(volumeBuckets.length));
    let isRepaired = false;
    if (isRepair) {
      const note = keys.garbage(id);
      const { committed } = await registry.transact({
        compares: [`o${id}`, keys.backReference(id), note].map(isAbsent),
        writes: [{ key: note, put: encodeRecord({}) }],
      });
      if (!committed) return;
      await backend.deleteBucket(name, { signal });
      await registry.transact({ compares: [], writes: [deleteKey(note)] });
      isRepaired = true;
    }
    const what = `bucket ${name} is of no object`;
    await this.#tell({ kind: 'waste', what, object: id, ...(isRepaired && { isRepaired }) });
  }

  /** True where the volume's owner has done it; an owner that is gone is not waited for long. */
  async #ask(id: ObjectId, request: CareRequest): Promise<boolean> {
    const { care, clock, ownerMs } = this.#deps;
    if (!this.#run.isRepair) return false;
    try {
      return (await within(clock, ownerMs, care.ask(id, request))) === 'done';
    } catch (error) {
      if (!isStorageError(error)) throw error;
      const what = `its owner could not put it in order: ${describeError(error)}`;
      await this.#tell({ kind: 'damage', what, object: id });
      return false;
    }
  }

  #bucketOf(id: ObjectId): string {
    return `${this.#deps.volumeBuckets}${id}`;
  }
}

const isOfTable = ({ what }: Finding) => what.startsWith('table of live bytes');
