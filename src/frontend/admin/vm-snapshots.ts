/** Snapshots of a whole VM as an administrator handles them: all that its folder holds, at one moment. */

import { StorageError } from '../../core/errors.ts';
import type { Ino, ObjectId } from '../../core/units.ts';
import { objectId } from '../../core/units.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Attributes, FileSystem } from '../../ports/file-system.ts';
import type { Random } from '../../ports/random.ts';
import type { CareAnswer, CareRequest } from '../../ports/volume-care.ts';
import { deleteKey, keys } from '../../registry/namespace.ts';
import type { NamespaceChange } from '../../registry/namespace-changes.ts';
import { encodeRecord } from '../../registry/record.ts';
import type { SnapshotRecords } from '../../registry/snapshot-records.ts';
import { asText, checkSnapshotName } from '../../registry/snapshot-records.ts';
import type { Moments } from '../../router/moments/moments.ts';
import type { SnapshotMaker } from '../snapshot-maker.ts';
import type { Member, Shown, SnapshotTree } from '../snapshot-tree.ts';
import type { VdiskChanges } from './vdisk-changes.ts';
import { findPath } from './vdisks.ts';
import type { VmMember } from './vm-members.ts';
import { vmMembers } from './vm-members.ts';
import { restoreTree } from './vm-restore.ts';

export interface VmSnapshotsDeps {
  readonly fileSystem: FileSystem & { discard(ino: Ino, object: ObjectId): void };
  readonly changes: VdiskChanges;
  readonly tree: SnapshotTree;
  readonly maker: SnapshotMaker;
  readonly moments: Pick<Moments, 'keep'>;
  readonly snapshots: SnapshotRecords;
  readonly care: { ask(id: ObjectId, request: CareRequest): Promise<CareAnswer> };
  readonly collect: (id: ObjectId) => void;
  /** The object of a file, made where that has not happened yet. */
  readonly objectOf: (file: Attributes) => Promise<ObjectId>;
  /** Whether somebody has the kept file open that shows this, on whichever host. */
  readonly isRead: (object: ObjectId, snapshot?: string) => Promise<boolean>;
  /** ISO 8601, UTC. */
  readonly writeMoment: (ns: bigint) => string;
  readonly clock: Clock;
  readonly random: Random;
}

export interface VmSnapshotReport {
  readonly name: string;
  readonly createdAt: string;
  readonly vdisks: number;
  /** Those that are no vDisks. */
  readonly files: number;
  readonly sizeBytes: number;
  /** Of one that was made just now: how long the front ends' requests waited, ms. */
  readonly heldMs?: number;
}

export class VmSnapshots {
  readonly #deps: VmSnapshotsDeps;

  constructor(deps: VmSnapshotsDeps) {
    this.#deps = deps;
  }

  /** `name`: the time where none is given. `exists`, `invalid`, `not_found`, `busy`, `failed`. */
  async create(path: string, name = this.#timeName()): Promise<VmSnapshotReport> {
    checkSnapshotName(name);
    const { changes, clock, fileSystem, maker, objectOf, random, tree } = this.#deps;
    const { ino } = await this.#folder(path);
    if (await tree.find(ino, name))
      throw new StorageError('exists', `${path} has a snapshot ${name} already`);
    const members = (await vmMembers(fileSystem, objectOf, path, ino)).map((member) => {
      const as = objectId(Buffer.from(random.bytes(16)).toString('hex'));
      const isFile = member.object !== undefined && !member.attributes.isVolume;
      return isFile ? { ...member, as } : member;
    });
    const createdNs = clock.wallNs();
    const what = {
      createdNs,
      volumes: members.flatMap(({ object, attributes }) =>
        object !== undefined && attributes.isVolume ? [object] : [],
      ),
      files: members.flatMap((member) => ('as' in member ? member.as : [])),
    };
    let heldMs = 0;
    const shown = await maker.make(ino, name, what, async () => {
      const kept = await this.#keep(members, name, createdNs);
      heldMs = kept.heldMs;
      return kept.members;
    });
    await changes.tell(shown);
    const set = await tree.find(ino, name);
    if (set === undefined) throw gone(path, name);
    return { ...(await this.#report(name, createdNs, set)), heldMs: Math.round(heldMs) };
  }

  async list(path: string): Promise<readonly VmSnapshotReport[]> {
    const { tree } = this.#deps;
    const reports: VmSnapshotReport[] = [];
    const list = await tree.find((await this.#folder(path)).ino);
    if (list !== undefined)
      for await (const { path: names, inode } of tree.list(list))
        reports.push(await this.#report(asText(names.join('/')), inode.modifiedNs, inode.ino));
    return reports.sort((left, right) => (left.createdAt < right.createdAt ? -1 : 1));
  }

  /** `not_found`; `busy`, with nothing changed, where there are clones of it or somebody reads it. */
  async delete(path: string, name: string): Promise<void> {
    const { changes, isRead, snapshots } = this.#deps;
    const all = await this.#all(path, name);
    for (const { path: inside, inode } of all) {
      const { object, snapshot } = inode.kept ?? {};
      if (object === undefined) continue;
      const what = `${asText(inside.join('/'))} of ${path}@${name}`;
      if (await isRead(object, snapshot))
        throw new StorageError('busy', `${what} is open: somebody reads it`);
      if (snapshot !== undefined && (await snapshots.clones(object, snapshot)).length > 0)
        throw new StorageError('busy', `${what} has clones, which read from it`);
    }
    // Folders go with what was in them; those that were empty come after all they might hold.
    for (const shown of all.reverse()) await changes.tell(await this.#remove(shown));
  }

  /**
   * Makes the vDisks, and files and folders that there were, what they were; what came later stays.
   * Gives the snapshot of what was before. `busy` where a vDisk is open, unless that is forced.
   */
  async rollBack(
    path: string,
    name: string,
    { force }: { readonly force: boolean },
  ): Promise<{ readonly before: string }> {
    const { care, changes, clock, fileSystem, tree } = this.#deps;
    const { ino } = await this.#folder(path);
    const all = await this.#all(path, name);
    const disks: { readonly id: ObjectId; readonly ino: Ino }[] = [];
    for (const { inode, path: inside } of all) {
      const { object, snapshot } = inode.kept ?? {};
      if (object === undefined || snapshot === undefined) continue;
      const disk = await tree.fileOf(object);
      if (disk === undefined) throw new StorageError('not_found', `a vDisk of ${path} is gone`);
      disks.push({ id: object, ino: disk });
      if (!force && (await changes.isInUse(await fileSystem.attributes(disk))))
        throw new StorageError(
          'busy',
          `${asText(inside.join('/'))} of ${path} is open: stop its guest first; --force changes its disks under it`,
        );
    }
    const before = `before-rollback-${this.#timeName()}`;
    await this.create(path, before);
    const createdNs = String(clock.wallNs());
    for (const { id, ino: disk } of disks) {
      await care.ask(id, { do: 'rollBack', name, createdNs });
      await changes.noteReplaced(await fileSystem.attributes(disk));
    }
    await restoreTree({ fileSystem, changes }, ino, all);
    return { before };
  }

  /** Has all kept at one moment; gives how the folder shows that. */
  async #keep(
    members: readonly (VmMember & { readonly as?: ObjectId })[],
    name: string,
    createdNs: bigint,
  ): Promise<{ members: Member[]; heldMs: number }> {
    const held = members.flatMap(({ object, as }) =>
      object === undefined ? [] : { id: object, ...(as !== undefined && { as }) },
    );
    const { contents, heldMs } = await this.#deps.moments.keep(held, name, createdNs);
    const contentOf = new Map(held.map(({ id }, index) => [id, contents[index]]));
    const shown = members.map(({ object, as, attributes, ...member }) => {
      const content = object === undefined ? undefined : contentOf.get(object);
      const kept = as === undefined ? { object, snapshot: name } : { object: as };
      return {
        ...member,
        attributes: { ...attributes, ...content },
        kept: object === undefined ? {} : (kept as Member['kept']),
      };
    });
    return { members: shown, heldMs };
  }

  async #remove({ inode, place }: Shown): Promise<readonly NamespaceChange[]> {
    const { collect, fileSystem, snapshots, tree } = this.#deps;
    const { object, snapshot } = inode.kept ?? {};
    if (object === undefined) return tree.take(place);
    if (snapshot === undefined) {
      const garbage = { key: keys.garbage(object), put: encodeRecord({}) };
      const changes = await tree.take(place, [deleteKey(keys.backReference(object)), garbage]);
      fileSystem.discard(inode.ino, object);
      return changes;
    }
    let told: readonly NamespaceChange[] = [];
    await snapshots.delete(object, snapshot, async () => {
      const removal = await tree.removing(object, snapshot);
      told = removal.changes;
      return removal;
    });
    collect(object);
    return told;
  }

  /** All that the snapshot shows: a folder before what it holds. `not_found`. */
  async #all(path: string, name: string): Promise<Shown[]> {
    checkSnapshotName(name);
    const { tree } = this.#deps;
    const set = await tree.find((await this.#folder(path)).ino, name);
    if (set === undefined) throw gone(path, name);
    return Array.fromAsync(tree.walk(set));
  }

  async #report(name: string, createdNs: bigint, set: Ino): Promise<VmSnapshotReport> {
    const { tree, writeMoment } = this.#deps;
    const counts = { vdisks: 0, files: 0, sizeBytes: 0 };
    for await (const { inode } of tree.walk(set)) {
      if (inode.type !== 'file') continue;
      counts[inode.kept?.snapshot === undefined ? 'files' : 'vdisks'] += 1;
      counts.sizeBytes += inode.sizeBytes;
    }
    return { name, createdAt: writeMoment(createdNs), ...counts };
  }

  async #folder(path: string): Promise<Attributes> {
    const found = await findPath(this.#deps.fileSystem, path);
    if (found.type === 'directory') return found;
    throw new StorageError('not_directory', `${path} is not a folder`);
  }

  /** As `2026-11-21T10-15-30.123Z`: sorted by time, and fit for a path. */
  #timeName(): string {
    const { clock, writeMoment } = this.#deps;
    return writeMoment(clock.wallNs()).replaceAll(':', '-');
  }
}

function gone(path: string, name: string): StorageError {
  return new StorageError('not_found', `${path} has no snapshot ${name}`);
}
