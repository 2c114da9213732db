/**
 * Changes of names: each is one registry transaction that compares what it read, tried again when
 * somebody else was faster. Safe with several processes on one registry.
 */

import { invariant } from '../core/invariant.ts';
import { isStorageError, StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { FileName, Ino } from '../core/units.ts';
import type { Clock } from '../ports/clock.ts';
import type { Caller, NewInode } from '../ports/file-system.ts';
import { rootIno } from '../ports/file-system.ts';
import type { Compare, Write } from '../ports/registry.ts';
import type { Entry, Inode, Namespace, Versioned } from '../registry/namespace.ts';
import { deleteKey, isAbsent, isAt, isPresent, keys, putInode } from '../registry/namespace.ts';
import { encodeRecord } from '../registry/record.ts';
import type { Deletion } from './deletion.ts';
import type { NewInodesDeps } from './new-inodes.ts';
import { NewInodes } from './new-inodes.ts';
import { changeableName } from './snapshots-folder.ts';

const attemptsMax = 1000;

export interface NamesDeps extends NewInodesDeps {
  readonly deletion: Deletion;
  readonly clock: Clock;
  /** A name in the directory came or went. */
  readonly touch: (directory: Ino) => void;
}

interface Place {
  readonly parent: Ino;
  readonly name: FileName;
}

interface Moved {
  readonly compares: Compare[];
  readonly writes: Write[];
}

export class Names {
  readonly #deps: NamesDeps;
  readonly #inodes: NewInodes;

  constructor(deps: NamesDeps) {
    this.#deps = deps;
    this.#inodes = new NewInodes(deps);
  }

  /** The root directory, made where there is none. */
  async makeRoot(caller: Caller): Promise<void> {
    const now = this.#deps.clock.wallNs();
    const root = this.#inodes.make(rootIno, { type: 'directory', mode: 0o755 }, caller, now);
    const write = putInode({ ...root, parent: rootIno });
    const compares = [isAbsent(keys.inode(rootIno))];
    await this.#deps.namespace.registry.transact({ compares, writes: [write] });
  }

  make(parent: Ino, rawName: string, what: NewInode, caller: Caller): Promise<Inode> {
    const name = changeableName(rawName);
    if (what.type === 'symlink') {
      const length = what.target?.length ?? 0;
      if (length === 0) throw new StorageError('not_found', 'a symlink needs a target');
      if (length > limits.symlinkBytesMax)
        throw new StorageError('name_too_long', 'a target has at most 4095 bytes');
    }
    return this.#attempt(async (namespace) => {
      const { clock } = this.#deps;
      const directory = await namespace.changeableDirectory(parent);
      if (directory.record.linkCount === 0)
        throw new StorageError('not_found', 'directory is gone');
      const cookie = await namespace.freeCookie(parent, name);
      const ino = await this.#inodes.takeNumber();
      const made = this.#inodes.make(ino, what, caller, clock.wallNs(), directory.record, name);
      const inode = made.type === 'directory' ? { ...made, parent } : made;
      const { compares, writes } = this.#entering(directory, inode.type === 'directory' ? 1 : 0);
      compares.push(isAbsent(keys.entry(parent, cookie)));
      writes.push(putInode(inode), namespace.putEntry(parent, cookie, name, ino, inode.type));
      if (inode.object !== undefined)
        writes.push({ key: keys.backReference(inode.object), put: encodeRecord({ ino }) });
      compares.push(...(what.begun?.compares ?? []));
      writes.push(...(what.begun?.writes ?? []));
      if (!(await this.#commit(compares, writes))) return undefined;
      this.#deps.touch(parent);
      return inode;
    });
  }

  link(ino: Ino, parent: Ino, rawName: string): Promise<Inode> {
    const name = changeableName(rawName);
    return this.#attempt(async (namespace) => {
      const { clock } = this.#deps;
      const { record, revision } = await namespace.inode(ino);
      if (record.type === 'directory' || record.kept)
        throw new StorageError('not_permitted', 'a directory, or what is kept, has one name');
      if (record.linkCount === 0) throw new StorageError('not_found', 'the file has been removed');
      if (record.linkCount >= limits.linkCountMax)
        throw new StorageError('too_many_links', 'a file has at most 65,000 names');
      const directory = await namespace.changeableDirectory(parent);
      const cookie = await namespace.freeCookie(parent, name);
      const linked = { ...record, linkCount: record.linkCount + 1, changedNs: clock.wallNs() };
      const { compares, writes } = this.#entering(directory, 0);
      compares.push(isAbsent(keys.entry(parent, cookie)), isAt(keys.inode(ino), revision));
      writes.push(putInode(linked), namespace.putEntry(parent, cookie, name, ino, record.type));
      if (!(await this.#commit(compares, writes))) return undefined;
      this.#deps.touch(parent);
      return linked;
    });
  }

  async unlink(parent: Ino, rawName: string): Promise<void> {
    const name = changeableName(rawName);
    await this.#attempt(async (namespace) => {
      const { deletion, clock } = this.#deps;
      await namespace.changeableDirectory(parent);
      const entry = await this.#entry(namespace, { parent, name });
      if (entry.record.type === 'directory')
        throw new StorageError('is_directory', 'the name is a directory');
      const inode = await namespace.inode(entry.record.ino);
      const left = inode.record.linkCount - 1;
      const inUse = left === 0 && (await deletion.isInUse(inode.record));
      const key = keys.entry(parent, entry.record.cookie);
      const compares = [
        isAt(key, entry.revision),
        isAt(keys.inode(inode.record.ino), inode.revision),
        ...(await deletion.unkept(inode.record, left)),
      ];
      const writes = deletion.writesForLink(inode.record, left, clock.wallNs(), inUse);
      if (!(await this.#commit(compares, [deleteKey(key), ...writes]))) return undefined;
      deletion.after(inode.record, left, inUse);
      this.#deps.touch(parent);
      return true;
    });
  }

  async removeDirectory(parent: Ino, rawName: string): Promise<void> {
    if (rawName === '.') throw new StorageError('invalid', 'a directory is not removed by "."');
    if (rawName === '..') throw new StorageError('not_empty', 'the parent is not empty');
    const name = changeableName(rawName);
    await this.#attempt(async (namespace) => {
      const directory = await namespace.changeableDirectory(parent);
      const entry = await this.#entry(namespace, { parent, name });
      if (entry.record.type !== 'directory')
        throw new StorageError('not_directory', 'the name is not a directory');
      const key = keys.entry(parent, entry.record.cookie);
      const { compares, writes } = await this.#removingDirectory(namespace, entry.record.ino);
      const { record, revision } = directory;
      compares.push(isAt(key, entry.revision), isAt(keys.inode(parent), revision));
      writes.push(deleteKey(key), putInode({ ...record, linkCount: record.linkCount - 1 }));
      if (!(await this.#commit(compares, writes))) return undefined;
      this.#deps.touch(parent);
      return true;
    });
  }

  async rename(
    from: { readonly parent: Ino; readonly name: string },
    to: { readonly parent: Ino; readonly name: string },
    how: 'replace' | 'no-replace' | 'exchange',
  ): Promise<void> {
    const source = { parent: from.parent, name: changeableName(from.name) };
    const target = { parent: to.parent, name: changeableName(to.name) };
    await this.#attempt(async (namespace) => {
      await namespace.changeableDirectory(source.parent);
      await namespace.changeableDirectory(target.parent);
      const moving = await this.#entry(namespace, source);
      const standing = await namespace.findEntry(target.parent, target.name);
      if (standing && how === 'no-replace') throw new StorageError('exists', 'the name exists');
      if (!standing && how === 'exchange')
        throw new StorageError('not_found', 'nothing to exchange');
      // Two names of one file: rename(2) does nothing then.
      if (standing?.record.ino === moving.record.ino)
        return namespace === namespace.fresh ? true : undefined;
      const change: Moved = { compares: [], writes: [] };
      const [into, back] = [target.parent, source.parent];
      if (into !== back && moving.record.type === 'directory')
        await this.#refuseLoop(change, moving.record.ino, into);
      if (into !== back && how === 'exchange' && standing?.record.type === 'directory')
        await this.#refuseLoop(change, standing.record.ino, back);
      const done =
        how === 'exchange' && standing
          ? await this.#exchange(namespace, change, source, target, moving, standing)
          : await this.#move(namespace, change, source, target, moving, standing);
      if (!done) return undefined;
      this.#deps.touch(source.parent);
      this.#deps.touch(target.parent);
      return true;
    });
  }

  /** Takes the source's name away and puts it at the target, in place of what stands there. */
  async #move(
    namespace: Namespace,
    change: Moved,
    source: Place,
    target: Place,
    moving: Versioned<Entry>,
    standing: Versioned<Entry> | undefined,
  ): Promise<boolean> {
    const { deletion, clock } = this.#deps;
    const { ino, type } = moving.record;
    const sourceKey = keys.entry(source.parent, moving.record.cookie);
    change.compares.push(isAt(sourceKey, moving.revision));
    let after = () => {};
    let cookie: bigint;
    const isDirectory = type === 'directory';
    if (standing) {
      refuseTypes(type, standing.record.type);
      cookie = standing.record.cookie;
      change.compares.push(isAt(keys.entry(target.parent, cookie), standing.revision));
      if (isDirectory) {
        const removing = await this.#removingDirectory(namespace, standing.record.ino);
        change.compares.push(...removing.compares);
        change.writes.push(...removing.writes);
      } else {
        const lost = await namespace.inode(standing.record.ino);
        const left = lost.record.linkCount - 1;
        const inUse = left === 0 && (await deletion.isInUse(lost.record));
        change.compares.push(isAt(keys.inode(lost.record.ino), lost.revision));
        change.compares.push(...(await deletion.unkept(lost.record, left)));
        change.writes.push(...deletion.writesForLink(lost.record, left, clock.wallNs(), inUse));
        after = () => deletion.after(lost.record, left, inUse);
      }
    } else {
      cookie = await namespace.freeCookie(target.parent, target.name);
      change.compares.push(isAbsent(keys.entry(target.parent, cookie)));
    }
    change.writes.push(
      deleteKey(sourceKey),
      namespace.putEntry(target.parent, cookie, target.name, ino, type),
    );
    const moved = isDirectory ? 1 : 0;
    const links = new Map([[source.parent, -moved]]);
    // A directory that replaces one adds none to the target's subdirectories.
    const gained = isDirectory && !standing ? 1 : 0;
    links.set(target.parent, (links.get(target.parent) ?? 0) + gained);
    await this.#relink(namespace, change, links);
    await this.#reparent(namespace, change, ino, isDirectory ? target.parent : undefined);
    if (!(await this.#commit(change.compares, change.writes))) return false;
    after();
    return true;
  }

  async #exchange(
    namespace: Namespace,
    change: Moved,
    source: Place,
    target: Place,
    moving: Versioned<Entry>,
    standing: Versioned<Entry>,
  ): Promise<boolean> {
    const put = (at: Place, { cookie }: Entry, { ino, type }: Entry) =>
      namespace.putEntry(at.parent, cookie, at.name, ino, type);
    change.compares.push(
      isAt(keys.entry(source.parent, moving.record.cookie), moving.revision),
      isAt(keys.entry(target.parent, standing.record.cookie), standing.revision),
    );
    change.writes.push(
      put(source, moving.record, standing.record),
      put(target, standing.record, moving.record),
    );
    const isDirectory = (entry: Versioned<Entry>) => (entry.record.type === 'directory' ? 1 : 0);
    const links = new Map([[source.parent, isDirectory(standing) - isDirectory(moving)]]);
    const gained = isDirectory(moving) - isDirectory(standing);
    links.set(target.parent, (links.get(target.parent) ?? 0) + gained);
    await this.#relink(namespace, change, links);
    await this.#reparent(
      namespace,
      change,
      moving.record.ino,
      isDirectory(moving) ? target.parent : undefined,
    );
    const back = isDirectory(standing) ? source.parent : undefined;
    await this.#reparent(namespace, change, standing.record.ino, back);
    return this.#commit(change.compares, change.writes);
  }

  /** Changes the link counts of directories, and marks that names came into them. */
  async #relink(
    namespace: Namespace,
    change: Moved,
    links: ReadonlyMap<Ino, number>,
  ): Promise<void> {
    for (const [ino, difference] of links) {
      const { record, revision } = await namespace.directory(ino);
      if (difference === 0) change.compares.push(isPresent(keys.inode(ino)));
      else {
        change.compares.push(isAt(keys.inode(ino), revision));
        change.writes.push(putInode({ ...record, linkCount: record.linkCount + difference }));
      }
      change.writes.push({ key: keys.entries(ino), put: encodeRecord({}) });
    }
  }

  /** The moved inode's own record: its ctime, and of a directory where it is now. */
  async #reparent(
    namespace: Namespace,
    change: Moved,
    ino: Ino,
    parent: Ino | undefined,
  ): Promise<void> {
    const { clock } = this.#deps;
    const { record, revision } = await namespace.inode(ino);
    change.compares.push(isAt(keys.inode(ino), revision));
    const moved = { ...record, changedNs: clock.wallNs() };
    change.writes.push(putInode(parent === undefined ? moved : { ...moved, parent }));
  }

  /** A name comes into the directory, which must still be there when it does. */
  #entering(directory: Versioned<Inode>, subdirectories: number): Moved {
    const { record, revision } = directory;
    const key = keys.inode(record.ino);
    const mark = { key: keys.entries(record.ino), put: encodeRecord({}) };
    if (subdirectories === 0) return { compares: [isPresent(key)], writes: [mark] };
    const linkCount = record.linkCount + subdirectories;
    return {
      compares: [isAt(key, revision)],
      writes: [mark, putInode({ ...record, linkCount })],
    };
  }

  /** An empty directory goes; a name that comes into it meanwhile makes the transaction fail. */
  async #removingDirectory(namespace: Namespace, ino: Ino): Promise<Moved> {
    const mark = await namespace.mark(keys.entries(ino));
    const { revision } = await namespace.directory(ino);
    if (!(await namespace.isEmpty(ino)))
      throw new StorageError('not_empty', 'the directory is not empty');
    return {
      compares: [mark, isAt(keys.inode(ino), revision)],
      writes: [deleteKey(keys.inode(ino)), deleteKey(keys.entries(ino))],
    };
  }

  /**
   * A directory does not move into itself or below. Directories move to other ones one at a time,
   * or two moves that are right alone would make a ring.
   */
  async #refuseLoop(change: Moved, moving: Ino, into: Ino): Promise<void> {
    const { fresh } = this.#deps.namespace;
    change.compares.push(await fresh.mark(keys.moves));
    change.writes.push({ key: keys.moves, put: encodeRecord({}) });
    for (let at = into; ; ) {
      if (at === moving) throw new StorageError('invalid', 'a directory can not hold itself');
      if (at === rootIno) return;
      const { parent } = (await fresh.directory(at)).record;
      invariant(parent !== undefined, 'a directory knows where it is');
      at = parent;
    }
  }

  async #entry(namespace: Namespace, { parent, name }: Place): Promise<Versioned<Entry>> {
    const found = await namespace.findEntry(parent, name);
    if (!found) throw new StorageError('not_found', 'no such name');
    return found;
  }

  async #commit(compares: readonly Compare[], writes: readonly Write[]): Promise<boolean> {
    const { registry } = this.#deps.namespace;
    return (await registry.transact({ compares: [...compares], writes: lastWins(writes) }))
      .committed;
  }

  /**
   * Runs until the transaction was not overtaken. What was true a moment ago is good enough for the
   * first attempt, which compares it, but not to refuse anything.
   */
  async #attempt<T>(action: (namespace: Namespace) => Promise<T | undefined>): Promise<T> {
    const { namespace } = this.#deps;
    try {
      const result = await action(namespace);
      if (result !== undefined) return result;
    } catch (error) {
      if (!isStorageError(error) || namespace.fresh === namespace) throw error;
    }
    for (let attempt = 1; attempt < attemptsMax; attempt += 1) {
      const result = await action(namespace.fresh);
      if (result !== undefined) return result;
    }
    throw new StorageError('unavailable', 'others change the same names all the time');
  }
}

function refuseTypes(moving: string, standing: string): void {
  if (moving === 'directory' && standing !== 'directory')
    throw new StorageError('not_directory', 'a directory does not replace a file');
  if (moving !== 'directory' && standing === 'directory')
    throw new StorageError('is_directory', 'a file does not replace a directory');
}

/** A transaction writes a key once: of several writes to one key the last is meant. */
function lastWins(writes: readonly Write[]): Write[] {
  return [...new Map(writes.map((write) => [write.key, write])).values()];
}
