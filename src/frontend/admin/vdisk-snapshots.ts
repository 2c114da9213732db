/** Snapshots, clones and templates of vDisks as an administrator handles them, by path. */

import { StorageError } from '../../core/errors.ts';
import type { HostId, ObjectId } from '../../core/units.ts';
import { objectId } from '../../core/units.ts';
import { cloneHead, decodeHead, encodeHead } from '../../format/head.ts';
import type { Checksum } from '../../ports/checksum.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Attributes } from '../../ports/file-system.ts';
import type { Random } from '../../ports/random.ts';
import type { CareAnswer, CareRequest } from '../../ports/volume-care.ts';
import { isAbsent, keys } from '../../registry/namespace.ts';
import { putObject } from '../../registry/object-records.ts';
import type { SnapshotRecord, SnapshotRecords } from '../../registry/snapshot-records.ts';
import {
  checkSnapshotName,
  isForClone,
  isInternal,
  nameForClone,
  ofTemplate,
} from '../../registry/snapshot-records.ts';
import type { SnapshotMaker } from '../snapshot-maker.ts';
import type { Removal, SnapshotTree } from '../snapshot-tree.ts';
import type { NamePlace, VdiskChanges } from './vdisk-changes.ts';

const newVolume = { kind: 'volume', epoch: 0, tail: 'backend', isPinned: false } as const;
/** Clones of clones: each adds 16 bytes to the head. */
const ancestorsMax = 1000;

export interface VdiskSnapshotsDeps {
  readonly changes: VdiskChanges;
  /** The object of a vDisk, made where that has not happened yet. */
  readonly objectOf: (disk: Attributes) => Promise<ObjectId>;
  readonly snapshots: SnapshotRecords;
  readonly tree: SnapshotTree;
  readonly maker: SnapshotMaker;
  /** Whether somebody has the file open that shows it, on whichever host. */
  readonly isRead: (id: ObjectId, snapshot: string) => Promise<boolean>;
  /** The volume reads nothing of what it was a clone of any more. */
  readonly detach: (id: ObjectId) => Promise<void>;
  readonly care: { ask(id: ObjectId, request: CareRequest): Promise<CareAnswer> };
  /** A new volume's bucket, with its first head. */
  readonly prepare: (id: ObjectId, head: Uint8Array) => Promise<void>;
  /** Which owns the clones that it makes. */
  readonly host: HostId;
  readonly collect: (id: ObjectId) => void;
  readonly checksum: Checksum;
  readonly clock: Clock;
  readonly random: Random;
  /** ISO 8601, UTC, of nanoseconds since 1970. */
  readonly writeMoment: (wallNs: bigint) => string;
}

export interface SnapshotReport {
  readonly name: string;
  /** ISO 8601, UTC. */
  readonly createdAt: string;
  readonly sizeBytes: number;
  readonly usedBytes: number;
  readonly clones: number;
}

interface Source {
  readonly disk: Attributes;
  readonly id: ObjectId;
  readonly place: NamePlace;
}

export class VdiskSnapshots {
  readonly #deps: VdiskSnapshotsDeps;

  constructor(deps: VdiskSnapshotsDeps) {
    this.#deps = deps;
  }

  /** `name`: the time where none is given. `exists`, `invalid`, `not_found`. */
  async create(path: string, name = this.#timeName()): Promise<SnapshotReport> {
    checkSnapshotName(name);
    const source = await this.#find(path);
    const { id, place } = source;
    const { care, snapshots, tree } = this.#deps;
    if (await snapshots.find(id, name))
      throw new StorageError('exists', `snapshot ${name} exists already`);
    if (await tree.find(place.parent, name, place.name))
      throw new StorageError('exists', `snapshot ${name} has ${path} already, of another disk`);
    await this.#show(source, name, [id], (createdNs) =>
      care.ask(id, { do: 'snapshot', name, createdNs }),
    );
    return this.#report(await snapshots.get(id, name), 0);
  }

  async list(path: string): Promise<readonly SnapshotReport[]> {
    const { snapshots } = this.#deps;
    const { id } = await this.#find(path);
    const clones = await snapshots.cloneCounts(id);
    const reports: SnapshotReport[] = [];
    for await (const record of snapshots.list(id))
      if (!isInternal(record.name))
        reports.push(this.#report(record, clones.get(record.name) ?? 0));
    return reports.sort((left, right) => (left.createdAt < right.createdAt ? -1 : 1));
  }

  /** `not_found`. */
  async show(path: string, name: string): Promise<SnapshotReport & { readonly file: string }> {
    checkSnapshotName(name);
    const { snapshots, tree } = this.#deps;
    const { id } = await this.#find(path);
    const record = (await snapshots.find(id, name)) ?? refuseName(path, name);
    const file = await tree.pathOf(id, name);
    if (file === undefined)
      throw new StorageError('not_found', `${path}@${name} is shown in no folder`);
    const clones = await snapshots.clones(id, name);
    return { ...this.#report(record, clones.length), file };
  }

  /** `not_found`; `busy` where there are clones of it, or somebody has it open. */
  async delete(path: string, name: string): Promise<void> {
    checkSnapshotName(name);
    const { changes, collect, isRead, snapshots, tree } = this.#deps;
    const { id } = await this.#find(path);
    if (await isRead(id, name))
      throw new StorageError('busy', `${path}@${name} is open: somebody reads it`);
    let told: Removal['changes'] = [];
    const isGone = await snapshots.delete(id, name, async () => {
      const removal = await tree.removing(id, name);
      told = removal.changes;
      return removal;
    });
    if (!isGone) refuseName(path, name);
    await changes.tell(told);
    collect(id);
  }

  /**
   * Makes the vDisk what it was, online; gives the snapshot of what it is now. `busy` where somebody
   * has it open, unless that is forced: a guest does not expect its disk to change under it.
   */
  async rollBack(
    path: string,
    name: string,
    { force }: { readonly force: boolean },
  ): Promise<string> {
    checkSnapshotName(name);
    const { care, changes, snapshots } = this.#deps;
    const source = await this.#find(path);
    const { disk, id } = source;
    if (!(await snapshots.find(id, name))) refuseName(path, name);
    if (!force && (await changes.isInUse(disk)))
      throw new StorageError(
        'busy',
        `${path} is open: stop its guest first; --force changes the disk under it`,
      );
    const before = `before-rollback-${this.#timeName()}`;
    // Once it is done, what was before stays, whatever fails.
    await this.#show(source, before, [], (createdNs) =>
      care.ask(id, { do: 'rollBack', name, before, createdNs }),
    );
    await changes.noteReplaced(disk);
    return before;
  }

  /**
   * A new vDisk that begins as the source is now, or as a snapshot of it: it takes no space, and what
   * it does not write it reads from the source's segments. `exists`, `not_found`.
   */
  async clone(path: string, snapshot: string | undefined, newPath: string): Promise<Attributes> {
    const { changes, snapshots, random, checksum, prepare, host } = this.#deps;
    const { disk, id: parent } = await this.#find(path);
    await changes.refuseStanding(newPath);
    const clone = objectId(Buffer.from(random.bytes(16)).toString('hex'));
    const name = snapshot ?? (await this.#templateOf(parent)) ?? nameForClone(clone);
    if (isForClone(name)) await this.#keep(parent, name);
    try {
      const record = (await snapshots.find(parent, name)) ?? refuseName(path, name);
      const kept = decodeHead(record.head, checksum);
      if (kept.ancestors.length >= ancestorsMax)
        throw new StorageError('too_large', `${path} has ${ancestorsMax} ancestors: flatten it`);
      const head = encodeHead(cloneHead(kept, parent), checksum);
      await prepare(clone, head);
      const { compares, writes } = snapshots.cloning(clone, { parent, snapshot: name });
      // Another one may have got its name: the clone would read what goes with the first.
      const isStill = await snapshots.still(parent, record);
      return await changes.place(newPath, {
        ...{ type: 'file', mode: disk.mode, isVolume: true },
        begun: {
          object: clone,
          sizeBytes: kept.volumeBytes,
          allocatedBytes: record.usedBytes,
          compares: [
            ...compares,
            isStill,
            ...[parent, clone].map((id) => isAbsent(keys.garbage(id))),
          ],
          writes: [...writes, ...putObject(clone, { ...newVolume, owner: host }, head)],
        },
      });
    } catch (error) {
      if (isForClone(name) && !(await snapshots.descentOf(clone)))
        await snapshots.delete(parent, name);
      throw error;
    }
  }

  /** Copies a part of what a clone reads from its source; says how far it is. */
  async flatten(path: string): Promise<NonNullable<CareAnswer['flattened']>> {
    const { care, snapshots, detach } = this.#deps;
    const { id } = await this.#find(path);
    const hasSnapshots = (await snapshots.none(id)) === undefined;
    if (await snapshots.descentOf(id)) {
      if (hasSnapshots || (await snapshots.clones(id)).length > 0)
        throw new StorageError(
          'busy',
          `${path} has snapshots or clones, which read from what it is a clone of: they go first`,
        );
    }
    const { flattened } = await care.ask(id, { do: 'flatten' });
    if (flattened === undefined) throw new StorageError('failed', 'the owner gave no answer');
    if (flattened.isDone) await detach(id);
    return flattened;
  }

  /** From now on the vDisk is not written, nor removed while there are clones of it. */
  async makeTemplate(path: string): Promise<void> {
    const { care, changes, clock } = this.#deps;
    const { disk, id } = await this.#find(path);
    if (await this.#templateOf(id)) return;
    if (await changes.isInUse(disk))
      throw new StorageError('busy', `${path} is open: a template is not written any more`);
    await care.ask(id, { do: 'freeze', createdNs: String(clock.wallNs()) });
  }

  /** Whether the vDisk is a template, and how many clones read from it. */
  async template(disk: Attributes): Promise<{ readonly clones: number } | undefined> {
    const id = await this.#deps.objectOf(disk);
    if (!(await this.#templateOf(id))) return undefined;
    return { clones: (await this.#deps.snapshots.clones(id)).length };
  }

  /** `busy` while there are clones of it. */
  async deleteTemplate(path: string): Promise<void> {
    const { changes, snapshots } = this.#deps;
    const { id } = await this.#find(path);
    if (!(await this.#templateOf(id)))
      throw new StorageError('invalid', `${path} is not a template`);
    const clones = await snapshots.clones(id);
    if (clones.length > 0)
      throw new StorageError(
        'busy',
        `${path} has ${clones.length} clones: delete or flatten them first`,
      );
    await snapshots.delete(id, ofTemplate);
    await changes.remove(path);
  }

  async #keep(id: ObjectId, name: string): Promise<void> {
    const createdNs = String(this.#deps.clock.wallNs());
    await this.#deps.care.ask(id, { do: 'snapshot', name, createdNs });
  }

  /** Has a snapshot of the disk made, and shows it in the disk's folder. */
  async #show(
    { disk, id, place }: Source,
    name: string,
    volumes: readonly ObjectId[],
    make: (createdNs: string) => Promise<unknown>,
  ): Promise<void> {
    const { changes, clock, maker, snapshots } = this.#deps;
    const createdNs = clock.wallNs();
    const shown = await maker.make(
      place.parent,
      name,
      { createdNs, volumes, files: [] },
      async () => {
        await make(String(createdNs));
        const record = await snapshots.get(id, name);
        const sizes = { sizeBytes: this.#sizeOf(record), allocatedBytes: record.usedBytes };
        const kept = { object: id, snapshot: name };
        return [{ name: place.name, attributes: { ...disk, ...sizes }, kept }];
      },
    );
    await changes.tell(shown);
  }

  async #templateOf(id: ObjectId): Promise<string | undefined> {
    return (await this.#deps.snapshots.find(id, ofTemplate))?.name;
  }

  async #find(path: string): Promise<Source> {
    const disk = await this.#deps.changes.find(path);
    const { changes, objectOf } = this.#deps;
    const id = await objectOf(disk);
    return { disk, id, place: await changes.placeOf(path) };
  }

  #report(record: SnapshotRecord, clones: number): SnapshotReport {
    const { name, usedBytes } = record;
    const createdAt = this.#deps.writeMoment(record.createdNs);
    return { name, createdAt, sizeBytes: this.#sizeOf(record), usedBytes, clones };
  }

  #sizeOf({ head }: SnapshotRecord): number {
    return decodeHead(head, this.#deps.checksum).volumeBytes;
  }

  /** As `2026-11-21T10-15-30.123Z`: sorted by time, and fit for a path. */
  #timeName(): string {
    const { clock, writeMoment } = this.#deps;
    return writeMoment(clock.wallNs()).replaceAll(':', '-');
  }
}

function refuseName(path: string, name: string): never {
  throw new StorageError('not_found', `${path} has no snapshot ${name}`);
}
