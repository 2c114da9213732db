/**
 * The file system as protocol front ends drive it: one semantics, by inode number, for FUSE and
 * NFS alike. Front ends translate and decide nothing. Implementation: `frontend/filesystem.ts`.
 *
 * What lies in `.snapshots` folders never changes: whatever would change it is `read_only`.
 *
 * Names and symlink targets are raw bytes in latin1 strings (one character a byte). Errors are
 * `StorageError`s; each method names the codes of its own kind, `unavailable` is waited for.
 */

import type { Eventually } from '../core/eventually.ts';
import type { FileName, Ino, ObjectId } from '../core/units.ts';
import type { Compare, Write } from './registry.ts';

export const rootIno = 1 as Ino;

export type FileType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'character' | 'block';

export interface Attributes {
  readonly ino: Ino;
  readonly type: FileType;
  /** Permission, set-id and sticky bits: `mode & 0o7777`. */
  readonly mode: number;
  readonly linkCount: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  /** Nanoseconds since 1970. */
  readonly accessedNs: bigint;
  readonly modifiedNs: bigint;
  readonly changedNs: bigint;
  /** Served by the Volume Driver: front ends bypass their host's page cache for it. */
  readonly isVolume: boolean;
}

/** What is absent stays. A time of `now` is taken from the file system's clock. */
export interface AttributeChange {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly sizeBytes?: number;
  readonly accessedNs?: bigint | 'now';
  readonly modifiedNs?: bigint | 'now';
  /** Drop set-id bits as a write or chown by an unprivileged user does (FUSE_HANDLE_KILLPRIV_V2). */
  readonly dropSetId?: boolean;
}

/** Who asks; the owner of what is made. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
}

export interface NewInode {
  readonly type: FileType;
  /** Permission bits after the caller's umask. */
  readonly mode: number;
  /** Device number, of `character` and `block` alone. */
  readonly rdev?: number;
  /** Target, of `symlink` alone: 1 to 4095 bytes. */
  readonly target?: string;
  /** A `file` that the Volume Driver serves whatever its name is. */
  readonly isVolume?: boolean;
  /** Of a file whose data is there already. */
  readonly begun?: BegunObject;
}

/** An object that gets its name and all else that makes it one in one transaction. */
export interface BegunObject {
  readonly object: ObjectId;
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  readonly compares: readonly Compare[];
  readonly writes: readonly Write[];
}

export interface DirectoryEntry {
  readonly name: FileName | '.' | '..';
  readonly ino: Ino;
  readonly type: FileType;
  /** Where a listing goes on after this entry: 1 to 2^63 - 1, stable while the entry lives. */
  readonly cookie: bigint;
}

export interface SpaceReport {
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly inodesTotal: number;
  readonly inodesFree: number;
}

export interface FileSystem {
  /** `not_found`, `not_directory`. `.` and `..` are answered as well. */
  lookup(parent: Ino, name: string): Promise<Attributes>;

  /** `not_found`. The size and times of an object in use are its current ones. */
  attributes(ino: Ino): Eventually<Attributes>;

  /** `not_found`, `too_large`, `is_directory` (a size), `invalid`. */
  change(ino: Ino, change: AttributeChange): Promise<Attributes>;

  /** Makes an inode and its name in one transaction: `exists`, `not_found`, `not_directory`. */
  make(parent: Ino, name: string, what: NewInode, caller: Caller): Promise<Attributes>;

  /** A further name of a file: `exists`, `not_permitted` (a directory), `too_many_links`. */
  link(ino: Ino, parent: Ino, name: string): Promise<Attributes>;

  /** `not_found`, `is_directory`. Data of a file in use lives until its last `release`. */
  unlink(parent: Ino, name: string): Promise<void>;

  /** `not_found`, `not_directory`, `not_empty`, `invalid` (`.`). */
  removeDirectory(parent: Ino, name: string): Promise<void>;

  /** rename(2) with the flags of renameat2(2): `exists`, `not_empty`, `invalid` (into itself), ... */
  rename(
    from: { readonly parent: Ino; readonly name: string },
    to: { readonly parent: Ino; readonly name: string },
    how: 'replace' | 'no-replace' | 'exchange',
  ): Promise<void>;

  /** `invalid`: not a symlink. */
  readLink(ino: Ino): Promise<string>;

  /**
   * Entries behind `after` (0: from the start, `.` and `..` first), at most `limit`; fewer only at
   * the end. An entry that stays is seen exactly once by a listing, whatever else comes and goes.
   */
  list(ino: Ino, after: bigint, limit: number): Promise<readonly DirectoryEntry[]>;

  /**
   * Keeps the file usable while it is unlinked, until as many releases. `is_directory` allowed;
   * `read_only`: a file of a snapshot, for writing.
   */
  open(ino: Ino, intent?: 'read' | 'write'): Promise<Attributes>;
  release(ino: Ino): Promise<void>;

  /** As `DataObject.read`; a file need not be open. Access time is not kept (noatime). */
  read(ino: Ino, offset: number, into: Uint8Array): Eventually<number>;

  /** As `DataObject.write`; `append` writes at the end as it is when the write is applied. */
  write(
    ino: Ino,
    offset: number,
    data: Uint8Array,
    options?: { readonly append?: boolean; readonly dropSetId?: boolean },
  ): Eventually<void>;

  /**
   * A user closes the file: from here on other hosts see its size and times as they are. Says
   * nothing of durability; at once where nothing has changed.
   */
  settle(ino: Ino): Eventually<void>;

  /** Data and attributes are durable. For a directory: its entries (they always are). */
  flush(ino: Ino): Promise<void>;

  /**
   * fallocate(2). `reserve` only sets the size (space is thin); `zero` and `punch` make the range
   * read as zeroes; `zero` and `reserve` grow the file unless `keepSize`.
   */
  allocate(
    ino: Ino,
    offset: number,
    length: number,
    how: { readonly mode: 'reserve' | 'zero' | 'punch'; readonly keepSize: boolean },
  ): Promise<void>;

  /** `no_data`: nothing at or behind `offset`. */
  seek(ino: Ino, offset: number, what: 'data' | 'hole'): Eventually<number>;

  /** `no_attribute`. Names are bytes, as `user.note`; values are bytes. */
  getAttribute(ino: Ino, name: string): Promise<Uint8Array>;
  setAttribute(
    ino: Ino,
    name: string,
    value: Uint8Array,
    how: 'set' | 'create' | 'replace',
  ): Promise<void>;
  listAttributes(ino: Ino): Promise<readonly string[]>;
  removeAttribute(ino: Ino, name: string): Promise<void>;

  space(): Promise<SpaceReport>;
}
