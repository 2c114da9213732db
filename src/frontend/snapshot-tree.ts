/**
 * Snapshots as folders show them: `FOLDER/.snapshots/NAME/...`, made of inodes and names like
 * everything else, each of which is kept (`Inode.kept`). A snapshot is seen as a whole or not at
 * all: its tree is written where nobody finds it, then gets its name in one transaction. With the
 * last file of a snapshot its folders go, in the transaction that takes the file.
 */

import { StorageError } from '../core/errors.ts';
import { invariant } from '../core/invariant.ts';
import type { FileName, HostId, Ino, ObjectId } from '../core/units.ts';
import { fileName, ino as toIno } from '../core/units.ts';
import type { Attributes } from '../ports/file-system.ts';
import { rootIno } from '../ports/file-system.ts';
import type { Compare, Write } from '../ports/registry.ts';
import type { Inode, Kept, Namespace } from '../registry/namespace.ts';
import { decodeEntry, deleteKey, isAbsent, isPresent, keys } from '../registry/namespace.ts';
import { putInode } from '../registry/namespace.ts';
import type { NamespaceChange } from '../registry/namespace-changes.ts';
import { encodeRecord } from '../registry/record.ts';
import { asLatin1, asText, snapshotIsThere } from '../registry/snapshot-records.ts';
import type { Place, Undertaking } from '../registry/snapshot-sets.ts';
import {
  encodePlace,
  encodeUndertaking,
  findPlace,
  listUndertakings,
  placeKey,
  undertakingKey,
} from '../registry/snapshot-sets.ts';
import { snapshotsFolder } from '../registry/namespace.ts';

const membersPerTransaction = 30;
const entriesPerRange = 200;
const writeBits = 0o222;

/** One name of a snapshot. */
export interface Member {
  /** The folder it is in, by its place in the list, where it comes first; else the snapshot's own. */
  readonly folder?: number;
  readonly name: FileName;
  /** Of then. */
  readonly attributes: Attributes;
  readonly target?: string;
  readonly kept: Kept;
}

/** A name below `.snapshots`, as it is found there. */
export interface Shown {
  readonly path: readonly FileName[];
  readonly inode: Inode;
  readonly place: Place;
}

/** For a transaction, and what this host's kernel is to be told of after it. */
export interface Removal {
  readonly compares: Compare[];
  readonly writes: Write[];
  readonly changes: NamespaceChange[];
}

export class SnapshotTree {
  readonly #namespace: Namespace;
  readonly #host: HostId;

  constructor(namespace: Namespace, host: HostId) {
    this.#namespace = namespace.fresh;
    this.#host = host;
  }

  /** What is begun is shown or dropped. `busy` where one of the name is being made there. */
  async begin(
    folder: Ino,
    name: string,
    what: Pick<Undertaking, 'createdNs' | 'volumes' | 'files'>,
  ): Promise<Undertaking> {
    const { registry } = this.#namespace;
    await this.#namespace.changeableDirectory(folder);
    const root = toIno(await this.#namespace.reserveInos(1));
    const undertaking = { ...what, folder, name, host: this.#host, root };
    const key = undertakingKey(folder, name);
    const { committed } = await registry.transact({
      compares: [isAbsent(key), isPresent(keys.inode(folder))],
      writes: [{ key, put: encodeUndertaking(undertaking) }],
    });
    if (!committed) throw new StorageError('busy', `snapshot ${name} is being made already`);
    return undertaking;
  }

  /** The folder `.snapshots`, `.snapshots/NAME`, or what is called `member` in that. */
  async find(folder: Ino, name?: string, member?: FileName): Promise<Ino | undefined> {
    const set = name === undefined ? [] : [fileName(asLatin1(name))];
    let found: Ino | undefined = folder;
    for (const part of [snapshotsFolder, ...set, ...(member ? [member] : [])])
      found = found && (await this.#namespace.findEntry(found, part))?.record.ino;
    return found;
  }

  /**
   * Ends what was begun: from here on its members are seen. A single file joins a snapshot that is
   * there. `exists`, `not_found` where the volume's snapshot was deleted meanwhile.
   */
  async show(undertaking: Undertaking, members: readonly Member[]): Promise<NamespaceChange[]> {
    const { folder, name, root } = undertaking;
    for (let isWritten = false; ; ) {
      const set = await this.find(folder, name);
      const [member, ...others] = members;
      let changes: NamespaceChange[] | undefined;
      if (set === undefined) {
        if (!isWritten) await this.#write(root, members);
        isWritten = true;
        changes = await this.#showRoot(undertaking);
      } else if (member && others.length === 0) {
        changes = await this.#join(undertaking, set, member);
      } else throw new StorageError('exists', `.snapshots/${name} exists already`);
      if (changes) return changes;
      await this.#assertFinishable(undertaking);
    }
  }

  /** Nothing of it is left but what it made of objects. */
  async drop({ folder, name, root, files }: Undertaking): Promise<void> {
    const { registry } = this.#namespace;
    await this.#clear(root);
    for (let from = 0; from < files.length; from += membersPerTransaction) {
      const some = files.slice(from, from + membersPerTransaction);
      const writes = some.map((file) => deleteKey(keys.backReference(file)));
      await registry.transact({ compares: [], writes });
    }
    const writes = [deleteKey(undertakingKey(folder, name))];
    await registry.transact({ compares: [], writes });
  }

  /** What this host was making when it ended. */
  async unfinished(): Promise<readonly Undertaking[]> {
    const all = await Array.fromAsync(listUndertakings(this.#namespace.registry));
    return all.filter(({ host }) => host === this.#host);
  }

  /** What `.snapshots` lists, or a folder in it. */
  async *list(folder: Ino): AsyncGenerator<Shown> {
    for (let after = 0n; ; ) {
      const entries = await this.#namespace.listEntries(folder, after, entriesPerRange);
      for (const { name, ino, cookie } of entries) {
        const inode = (await this.#namespace.findInode(ino))?.record;
        if (inode?.kept) yield { path: [name], inode, place: { parent: folder, cookie } };
      }
      const last = entries.at(-1);
      if (!last) return;
      after = last.cookie;
    }
  }

  /** All below that: a folder before what it holds. */
  async *walk(folder: Ino): AsyncGenerator<Shown> {
    for await (const shown of this.list(folder)) {
      yield shown;
      if (shown.inode.type !== 'directory') continue;
      for await (const { path, ...below } of this.walk(shown.inode.ino))
        yield { ...below, path: [...shown.path, ...path] };
    }
  }

  /** The file whose data the object is; undefined where that has no name. */
  fileOf(object: ObjectId): Promise<Ino | undefined> {
    return this.#namespace.inoOf(object);
  }

  /** Takes what is no volume's snapshot. With the last entry of a folder that goes as well. */
  async take(place: Place, also: readonly Write[] = []): Promise<readonly NamespaceChange[]> {
    const { registry } = this.#namespace;
    for (;;) {
      const removal: Removal = { compares: [], writes: [], changes: [] };
      await this.#remove(place, removal);
      const { compares, writes, changes } = removal;
      if ((await registry.transact({ compares, writes: [...writes, ...also] })).committed)
        return changes;
      if (!(await registry.get(keys.entry(place.parent, place.cookie)))) return [];
    }
  }

  /** What takes a volume's snapshot out of the folder that shows it; nothing where none does. */
  async removing(volume: ObjectId, snapshot: string): Promise<Removal> {
    const place = await findPlace(this.#namespace.registry, volume, snapshot);
    const removal: Removal = { compares: [], writes: [], changes: [] };
    if (place) await this.#remove(place, removal);
    removal.writes.push(deleteKey(placeKey(volume, snapshot)));
    return removal;
  }

  /** The file that shows a volume's snapshot, as `/vm1/.snapshots/NAME/disk.raw`. */
  async pathOf(volume: ObjectId, snapshot: string): Promise<string | undefined> {
    const namespace = this.#namespace;
    let place = await findPlace(namespace.registry, volume, snapshot);
    for (let path = ''; place; ) {
      const { parent, cookie }: Place = place;
      const [entry] = await namespace.listEntries(parent, cookie - 1n, 1);
      if (entry?.cookie !== cookie) return undefined;
      path = `/${asText(entry.name)}${path}`;
      if (parent === rootIno) return path;
      const folder = (await namespace.findInode(parent))?.record;
      place = folder && (await this.#placeOf(folder));
    }
    return undefined;
  }

  /** The entry goes, and with the last one its folder, up to `.snapshots` itself. */
  async #remove({ parent, cookie }: Place, { compares, writes, changes }: Removal): Promise<void> {
    const namespace = this.#namespace;
    const key = keys.entry(parent, cookie);
    // Of two that come or go at once one sees the other.
    compares.push(await namespace.mark(keys.entries(parent)));
    compares.push(isPresent(keys.inode(parent)), isPresent(key));
    const folder = (await namespace.findInode(parent))?.record;
    const found = await namespace.registry.get(key);
    // Somebody was faster: what is compared does not hold.
    if (!folder || !found) return;
    const { name, ino } = decodeEntry(key, found.value);
    writes.push(deleteKey(key), deleteKey(keys.inode(ino)), deleteKey(keys.entries(ino)));
    changes.push({ kind: 'entry', parent, name });
    const isLast = (await namespace.listEntries(parent, 0n, 2)).length === 1;
    const up = folder.kept && isLast ? await this.#placeOf(folder) : undefined;
    if (up) await this.#remove(up, { compares, writes, changes });
    else writes.push(markOf(parent));
  }

  /** Where a folder in `.snapshots`, or that itself, stands. */
  async #placeOf({ ino, parent }: Inode): Promise<Place | undefined> {
    invariant(parent !== undefined, 'a directory knows where it is');
    for (let after = 0n; ; ) {
      const entries = await this.#namespace.listEntries(parent, after, entriesPerRange);
      const entry = entries.find((one) => one.ino === ino);
      if (entry) return { parent, cookie: entry.cookie };
      const last = entries.at(-1);
      if (!last) return undefined;
      after = last.cookie;
    }
  }

  async #join(
    undertaking: Undertaking,
    set: Ino,
    member: Member,
  ): Promise<NamespaceChange[] | undefined> {
    const namespace = this.#namespace;
    const ino = toIno(await namespace.reserveInos(1));
    const cookie = await namespace.freeCookie(set, member.name);
    const { compares, writes } = finishing(undertaking);
    const { committed } = await namespace.registry.transact({
      compares: [...compares, isPresent(keys.inode(set)), isAbsent(keys.entry(set, cookie))],
      writes: [...writes, markOf(set), ...this.#writesOf(set, cookie, member, ino)],
    });
    return committed ? [{ kind: 'entry', parent: set, name: member.name }] : undefined;
  }

  /** Below a folder that nobody sees. */
  async #write(root: Ino, members: readonly Member[]): Promise<void> {
    const namespace = this.#namespace;
    const first = await namespace.reserveInos(members.length);
    const taken = new Set<string>();
    for (let from = 0; from < members.length; from += membersPerTransaction) {
      const writes = members.slice(from, from + membersPerTransaction).flatMap((member, index) => {
        const parent = member.folder === undefined ? root : toIno(first + member.folder);
        let cookie = namespace.firstCookie(member.name);
        while (taken.has(keys.entry(parent, cookie))) cookie += 1n;
        taken.add(keys.entry(parent, cookie));
        return this.#writesOf(parent, cookie, member, toIno(first + from + index));
      });
      await namespace.registry.transact({ compares: [], writes });
    }
  }

  #writesOf(parent: Ino, cookie: bigint, member: Member, ino: Ino): Write[] {
    const { name, kept } = member;
    const inode = keptInode(ino, parent, member);
    const writes = [
      putInode(inode),
      this.#namespace.putEntry(parent, cookie, name, ino, inode.type),
    ];
    const { object, snapshot } = kept;
    if (object === undefined) return writes;
    const where =
      snapshot === undefined
        ? { key: keys.backReference(object), put: encodeRecord({ ino }) }
        : { key: placeKey(object, snapshot), put: encodePlace({ parent, cookie }) };
    return [...writes, where];
  }

  /** The snapshot gets its name, and `.snapshots` is made where it is the first. */
  async #showRoot(undertaking: Undertaking): Promise<NamespaceChange[] | undefined> {
    const namespace = this.#namespace;
    const { folder, name: text, root, createdNs } = undertaking;
    const name = fileName(asLatin1(text));
    const { record } = await namespace.directory(folder);
    const { compares, writes } = finishing(undertaking);
    const standing = await namespace.findEntry(folder, snapshotsFolder);
    const list = standing?.record.ino ?? toIno(await namespace.reserveInos(1));
    if (!standing) {
      const cookie = await namespace.freeCookie(folder, snapshotsFolder);
      compares.push(isAbsent(keys.entry(folder, cookie)));
      writes.push(
        putInode(folderInode(list, folder, record, createdNs)),
        namespace.putEntry(folder, cookie, snapshotsFolder, list, 'directory'),
        markOf(folder),
      );
    }
    const cookie = await namespace.freeCookie(list, name);
    compares.push(
      isPresent(keys.inode(standing ? list : folder)),
      isAbsent(keys.entry(list, cookie)),
    );
    writes.push(
      putInode(folderInode(root, list, record, createdNs)),
      namespace.putEntry(list, cookie, name, root, 'directory'),
      markOf(list),
    );
    if (!(await namespace.registry.transact({ compares, writes })).committed) return undefined;
    const inFolder = { kind: 'entry', parent: folder, name: snapshotsFolder } as const;
    return [inFolder, { kind: 'entry', parent: list, name }];
  }

  /** Else the transaction that shows it would never be committed. */
  async #assertFinishable(undertaking: Undertaking): Promise<void> {
    for (const { key } of finishing(undertaking).compares)
      if (!(await this.#namespace.registry.get(key)))
        throw new StorageError('not_found', 'the snapshot was deleted while it was made');
  }

  async #clear(folder: Ino): Promise<void> {
    for (;;) {
      const entries = await this.#namespace.listEntries(folder, 0n, membersPerTransaction);
      if (entries.length === 0) break;
      for (const { ino, type } of entries) if (type === 'directory') await this.#clear(ino);
      const writes = entries.flatMap(({ ino, cookie }) => [
        deleteKey(keys.inode(ino)),
        deleteKey(keys.entry(folder, cookie)),
      ]);
      await this.#namespace.registry.transact({ compares: [], writes });
    }
    await this.#namespace.registry.transact({
      compares: [],
      writes: [deleteKey(keys.inode(folder)), deleteKey(keys.entries(folder))],
    });
  }
}

/** It is still being made, and all of its volumes' snapshots are there. */
function finishing({ folder, name, volumes }: Undertaking): {
  compares: Compare[];
  writes: Write[];
} {
  const key = undertakingKey(folder, name);
  const snapshots = volumes.map((volume) => snapshotIsThere(volume, name));
  return { compares: [isPresent(key), ...snapshots], writes: [deleteKey(key)] };
}

function markOf(folder: Ino): Write {
  return { key: keys.entries(folder), put: encodeRecord({}) };
}

function keptInode(ino: Ino, parent: Ino, { attributes, target, kept }: Member): Inode {
  const { isVolume: _isVolume, type, mode, ...rest } = attributes;
  return {
    ...rest,
    ...{ ino, type, kept },
    // Nobody counts the folders in a folder that does not change: one link says so.
    linkCount: 1,
    mode: type === 'symlink' ? mode : mode & ~writeBits,
    ...(type === 'directory' && { parent }),
    ...(target !== undefined && { target }),
  };
}

/** Whoever may look into the folder may look at what was in it. */
function folderInode(ino: Ino, parent: Ino, like: Inode, createdNs: bigint): Inode {
  const { uid, gid, mode } = like;
  return {
    ...{ ino, parent, uid, gid, type: 'directory', mode: mode & ~writeBits, linkCount: 1, rdev: 0 },
    ...{ sizeBytes: 0, allocatedBytes: 0 },
    ...{ accessedNs: createdNs, modifiedNs: createdNs, changedNs: createdNs },
    kept: {},
  };
}
