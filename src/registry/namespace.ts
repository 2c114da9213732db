/**
 * The namespace in the registry: inodes, names, and what is to be deleted. Keys are binary, with
 * numbers big-endian, so that ranges come in order:
 *
 *   i<ino 8>             inode
 *   d<ino 8><cookie 8>   a name in a directory: {name, ino, type}
 *   e<ino 8>             written whenever a name in the directory comes: who removes it compares it
 *   m                    written whenever a directory moves to another one
 *   b<object id>         the inode that an object belongs to
 *   x<ino 8><name>       an extended attribute: its bytes
 *   u<ino 8>             unlinked, but in use
 *   g<object id>         the object's data is to be deleted
 *   n                    the next inode number to hand out
 *
 * A cookie is 55 bits of a keyed hash of the name and 8 bits that tell colliding names apart: it
 * stays while the entry lives, a lookup is one short range, and a listing goes on where it was.
 */

import { createHash } from 'node:crypto';
import { StorageError } from '../core/errors.ts';
import type { FileName, Ino, ObjectId } from '../core/units.ts';
import { fileName, ino as toIno, objectId } from '../core/units.ts';
import type { FileType } from '../ports/file-system.ts';
import type { Compare, Registry, Write } from '../ports/registry.ts';
import { prefixRange } from '../ports/registry.ts';
import { encodeRecord, RecordReader } from './record.ts';

const fileTypes = [
  'file',
  'directory',
  'symlink',
  'fifo',
  'socket',
  'character',
  'block',
] as const satisfies readonly FileType[];

export interface Inode {
  readonly ino: Ino;
  readonly type: FileType;
  readonly mode: number;
  readonly linkCount: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  readonly accessedNs: bigint;
  readonly modifiedNs: bigint;
  readonly changedNs: bigint;
  /** Of a file: where its data is. */
  readonly object?: ObjectId;
  /** Of a file: how its object is made when it is first used. */
  readonly kind?: 'volume' | 'file';
  readonly target?: string;
  /** Of a directory: the one it is in. */
  readonly parent?: Ino;
  /** Lies in `.snapshots`: nothing of it changes any more. */
  readonly kept?: Kept;
}

/** The name under which a folder has its kept files. */
export const snapshotsFolder = '.snapshots' as FileName;

/** Where the content of a kept file is: of others, nothing is said. */
export interface Kept {
  readonly object?: ObjectId;
  /** Of that volume. */
  readonly snapshot?: string;
}

/** A record as it was read, for a transaction to compare. */
export interface Versioned<T> {
  readonly record: T;
  readonly revision: number;
}

export interface Entry {
  readonly name: FileName;
  readonly ino: Ino;
  readonly type: FileType;
  readonly cookie: bigint;
}

function bigEndian(value: bigint): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes.toString('latin1');
}

export const number8 = (value: number) => bigEndian(BigInt(value));

export const keys = {
  inode: (ino: Ino) => `i${number8(ino)}`,
  entry: (parent: Ino, cookie: bigint) => `d${number8(parent)}${bigEndian(cookie)}`,
  entries: (parent: Ino) => `e${number8(parent)}`,
  backReference: (id: ObjectId) => `b${id}`,
  attribute: (ino: Ino, name: string) => `x${number8(ino)}${name}`,
  orphan: (ino: Ino) => `u${number8(ino)}`,
  garbage: (id: ObjectId) => `g${id}`,
  moves: 'm',
  nextIno: 'n',
} as const;

export function putInode(inode: Inode): Write {
  const { accessedNs, modifiedNs, changedNs, ...rest } = inode;
  const times = { at: String(accessedNs), mt: String(modifiedNs), ct: String(changedNs) };
  return { key: keys.inode(inode.ino), put: encodeRecord({ ...rest, ...times }) };
}

export const deleteKey = (key: string): Write => ({ key, delete: true });
export const isAbsent = (key: string): Compare => ({ key, is: 'absent' });
export const isPresent = (key: string): Compare => ({ key, is: 'present' });
export const isAt = (key: string, revision: number): Compare => ({ key, is: 'at', revision });

export function decodeInode(ino: Ino, bytes: Uint8Array): Inode {
  const fields = new RecordReader(`inode ${ino}`, bytes);
  const kind = fields.optionalText('kind');
  const target = fields.optionalText('target');
  return {
    ino,
    type: fields.oneOf('type', fileTypes),
    mode: fields.count('mode'),
    linkCount: fields.count('linkCount'),
    uid: fields.count('uid'),
    gid: fields.count('gid'),
    rdev: fields.count('rdev'),
    sizeBytes: fields.count('sizeBytes'),
    allocatedBytes: fields.count('allocatedBytes'),
    accessedNs: fields.time('at'),
    modifiedNs: fields.time('mt'),
    changedNs: fields.time('ct'),
    ...(fields.has('object') && { object: fields.objectId('object') }),
    ...(kind !== undefined && { kind: fields.oneOf('kind', ['volume', 'file']) }),
    ...(target !== undefined && { target }),
    ...(fields.has('parent') && { parent: fields.ino('parent') }),
    ...(fields.has('kept') && { kept: fields.made('kept', decodeKept, fields.texts('kept')) }),
  };
}

function refuseKept({ kept }: Inode): void {
  if (kept) throw new StorageError('read_only', 'nothing in .snapshots changes');
}

function decodeKept({ object, snapshot }: Readonly<Record<string, string>>): Kept {
  return {
    ...(object !== undefined && { object: objectId(object) }),
    ...(snapshot !== undefined && { snapshot }),
  };
}

/** An entry's key without the digit that tells colliding names apart. */
const collidingKeys = (entryKey: string) => entryKey.slice(0, 16);

/** What a cache of the namespace keeps: inodes one by one, names with those that collide. */
export const namespaceGroups = {
  prefixes: ['d', 'i'],
  groupOf(key: string): string | undefined {
    if (key[0] === 'i') return key;
    return key[0] === 'd' && key.length >= 16 ? collidingKeys(key) : undefined;
  },
} as const;

export class Namespace {
  readonly registry: Registry;
  /** The same as it is now, for whoever may not go by what was true a moment ago. */
  readonly fresh: Namespace;
  readonly #salt: Buffer;

  /** `salt`: the vPool's, in hex. `fresh`: the registry itself where `registry` is a cache of it. */
  constructor(registry: Registry, salt: string, fresh = registry) {
    this.registry = registry;
    this.#salt = Buffer.from(salt, 'hex');
    this.fresh = fresh === registry ? this : new Namespace(fresh, salt);
  }

  async findInode(ino: Ino): Promise<Versioned<Inode> | undefined> {
    const found = await this.registry.get(keys.inode(ino));
    return found && { record: decodeInode(ino, found.value), revision: found.revision };
  }

  /** `not_found`. */
  async inode(ino: Ino): Promise<Versioned<Inode>> {
    const found = await this.findInode(ino);
    if (!found) throw new StorageError('not_found', `no inode ${ino}`);
    return found;
  }

  /** `not_found`, `not_directory`. */
  async directory(ino: Ino): Promise<Versioned<Inode>> {
    const found = await this.inode(ino);
    if (found.record.type !== 'directory')
      throw new StorageError('not_directory', `inode ${ino} is not a directory`);
    return found;
  }

  /** `not_found`, `read_only` where it is kept. */
  async changeable(ino: Ino): Promise<Versioned<Inode>> {
    const found = await this.inode(ino);
    refuseKept(found.record);
    return found;
  }

  /** As `directory`; `read_only` where it is kept. */
  async changeableDirectory(ino: Ino): Promise<Versioned<Inode>> {
    const found = await this.directory(ino);
    refuseKept(found.record);
    return found;
  }

  async findEntry(parent: Ino, name: FileName): Promise<Versioned<Entry> | undefined> {
    const { found } = await this.#collisions(parent, name);
    return found;
  }

  /** The cookie for a new name: `exists` where it is taken. */
  async freeCookie(parent: Ino, name: FileName): Promise<bigint> {
    const { found, cookie } = await this.#collisions(parent, name);
    if (found) throw new StorageError('exists', 'the name exists');
    return cookie;
  }

  /** Its cookie in a directory where no other name collides with it. */
  firstCookie(name: FileName): bigint {
    return this.#hash(name) << 8n;
  }

  putEntry(parent: Ino, cookie: bigint, name: FileName, ino: Ino, type: FileType): Write {
    return { key: keys.entry(parent, cookie), put: encodeRecord({ name, ino, type }) };
  }

  /** At most `limit` entries behind `after`, in the order of their cookies. */
  async listEntries(parent: Ino, after: bigint, limit: number): Promise<readonly Entry[]> {
    const range = {
      from: keys.entry(parent, after + 1n),
      to: prefixRange(`d${number8(parent)}`).to,
    };
    const { entries } = await this.registry.range(range, { limit });
    return entries.map(({ key, value }) => decodeEntry(key, value));
  }

  async isEmpty(parent: Ino): Promise<boolean> {
    return (await this.listEntries(parent, 0n, 1)).length === 0;
  }

  /** That a mark is as it is now, for a transaction to compare. */
  async mark(key: string): Promise<Compare> {
    const found = await this.registry.get(key);
    return found ? isAt(key, found.revision) : isAbsent(key);
  }

  /** Reserves `count` inode numbers; gives the first. */
  async reserveInos(count: number): Promise<number> {
    for (;;) {
      const found = await this.registry.get(keys.nextIno);
      const first = found ? new RecordReader('inode counter', found.value).count('next') : 2;
      const compare = found ? isAt(keys.nextIno, found.revision) : isAbsent(keys.nextIno);
      const write = { key: keys.nextIno, put: encodeRecord({ next: first + count }) };
      const outcome = await this.registry.transact({ compares: [compare], writes: [write] });
      if (outcome.committed) return first;
    }
  }

  /** All keys with the prefix, cut off. */
  async suffixes(prefix: string): Promise<readonly string[]> {
    const { entries } = await this.registry.range(prefixRange(prefix));
    return entries.map(({ key }) => key.slice(prefix.length));
  }

  async #collisions(
    parent: Ino,
    name: FileName,
  ): Promise<{ found?: Versioned<Entry>; cookie: bigint }> {
    const first = this.firstCookie(name);
    let cookie = first;
    const range = prefixRange(collidingKeys(keys.entry(parent, first)));
    const { entries } = await this.registry.range(range);
    for (const { key, value, revision } of entries) {
      const entry = decodeEntry(key, value);
      if (entry.name === name) return { found: { record: entry, revision }, cookie };
      if (entry.cookie === cookie) cookie += 1n;
    }
    if (cookie === first + 256n) throw new StorageError('no_space', 'too many names collide');
    return { cookie };
  }

  /** 1 to 2^55 - 1. */
  #hash(name: FileName): bigint {
    const digest = createHash('sha256').update(this.#salt).update(name, 'latin1').digest();
    return digest.readBigUInt64BE() >> 9n || 1n;
  }

  /** Of the file that has the object. */
  async inoOf(id: ObjectId): Promise<Ino | undefined> {
    const found = await this.registry.get(keys.backReference(id));
    return found && new RecordReader('back reference', found.value).ino('ino');
  }

  /** After a recovery: the size of an object's inode follows the object. */
  async reconcile(id: ObjectId, sizeBytes: number): Promise<void> {
    const ino = await this.inoOf(id);
    if (ino === undefined) return;
    const found = await this.fresh.findInode(ino);
    if (!found || found.record.sizeBytes === sizeBytes) return;
    const compares = [isAt(keys.inode(ino), found.revision)];
    await this.registry.transact({ compares, writes: [putInode({ ...found.record, sizeBytes })] });
  }
}

export function inoOfKey(digits: string): Ino {
  return toIno(Number(Buffer.from(digits, 'latin1').readBigUInt64BE()));
}

export function decodeEntry(key: string, value: Uint8Array): Entry {
  const fields = new RecordReader('directory entry', value);
  return {
    name: fields.made('name', fileName, fields.text('name')),
    ino: fields.ino('ino'),
    type: fields.oneOf('type', fileTypes),
    cookie: Buffer.from(key.slice(-8), 'latin1').readBigUInt64BE(),
  };
}
