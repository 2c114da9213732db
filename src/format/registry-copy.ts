/**
 * A blob of the registry's copy in the buckets. A copy is a base, which is pieces that were read one
 * after another while others changed what had been read already, and the changes from the revision
 * at which it was begun. The base together with all changes up to the revision of its last piece, or
 * up to any blob of changes behind that, is the registry as it was at that revision. Little-endian.
 *
 *     0  u32  magic "WREG"
 *     4  u16  version (1)
 *     6  u8   kind: 1 piece of a base, 2 changes
 *     7  u8   flags: bit 0: the last piece of its base
 *     8  u32  bytes of the whole blob
 *    12  u32  number of entries
 *    16  16 B salt of the vPool: tells registries apart
 *    32  u32  term: grows with each host that takes the work over, and with each base
 *    36  u32  number in the term, from 1; pieces and changes are counted apart
 *    40  u64  revision behind which it holds changes (changes), or behind which changes are to be
 *             applied to it (piece)
 *    48  u64  revision up to which it holds them, or at which it was read
 *    56  u64  when it was made, ms since 1970
 *    64  entries: u16 bytes of the key, u16 reserved, zero, u32 bytes of the value (2^32 - 1: the key
 *        was deleted), key, value
 *     …  u32  CRC-32C of all before it
 *
 * Names: `base/<term>/<number>` and `change/<term>/<number>`, in hex.
 */

import { StorageError } from '../core/errors.ts';
import type { Checksum } from '../ports/checksum.ts';
import { countAt } from './fields.ts';

const magic = 0x4745_5257;
const version = 1;
const headerBytes = 64;
const entryHeadBytes = 8;
const checksumBytes = 4;
const lastFlag = 1;
const deleted = 0xffff_ffff;
const kinds = { base: 1, change: 2 } as const;

export type CopyBlobKind = keyof typeof kinds;

export interface CopyBlobHead {
  readonly kind: CopyBlobKind;
  readonly isLast: boolean;
  /** 16 bytes in hex. */
  readonly salt: string;
  readonly term: number;
  readonly number: number;
  readonly fromRevision: number;
  readonly untilRevision: number;
  readonly madeMs: number;
}

export interface CopyEntry {
  readonly key: string;
  /** Undefined: the key was deleted. */
  readonly value: Uint8Array | undefined;
}

export interface CopyBlob extends CopyBlobHead {
  readonly entries: readonly CopyEntry[];
}

const hex = (value: number) => value.toString(16).padStart(8, '0');

export function copyBlobKey(kind: CopyBlobKind, term: number, number: number): string {
  return `${kind}/${hex(term)}/${hex(number)}`;
}

/** Undefined for a name that is none of such a blob. */
export function parseCopyBlobKey(key: string): CopyBlobName | undefined {
  const [, kind, term = '', number = ''] =
    /^(base|change)\/([0-9a-f]{8})\/([0-9a-f]{8})$/.exec(key) ?? [];
  if (kind === undefined) return undefined;
  return {
    kind: kind as CopyBlobKind,
    term: Number.parseInt(term, 16),
    number: Number.parseInt(number, 16),
  };
}

export interface CopyBlobName {
  readonly kind: CopyBlobKind;
  readonly term: number;
  readonly number: number;
}

/** Bytes that an entry takes in a blob. */
export function copyEntryBytes({ key, value }: CopyEntry): number {
  return entryHeadBytes + key.length + (value?.length ?? 0);
}

export function encodeCopyBlob(
  head: CopyBlobHead,
  entries: readonly CopyEntry[],
  checksum: Checksum,
): Uint8Array {
  const payload = entries.reduce((sum, entry) => sum + copyEntryBytes(entry), 0);
  const bytes = Buffer.alloc(headerBytes + payload + checksumBytes);
  bytes.writeUInt32LE(magic, 0);
  bytes.writeUInt16LE(version, 4);
  bytes.writeUInt8(kinds[head.kind], 6);
  bytes.writeUInt8(head.isLast ? lastFlag : 0, 7);
  bytes.writeUInt32LE(bytes.length, 8);
  bytes.writeUInt32LE(entries.length, 12);
  bytes.write(head.salt, 16, 'hex');
  bytes.writeUInt32LE(head.term, 32);
  bytes.writeUInt32LE(head.number, 36);
  bytes.writeBigUInt64LE(BigInt(head.fromRevision), 40);
  bytes.writeBigUInt64LE(BigInt(head.untilRevision), 48);
  bytes.writeBigUInt64LE(BigInt(head.madeMs), 56);
  let at = headerBytes;
  for (const { key, value } of entries) {
    bytes.writeUInt16LE(key.length, at);
    bytes.writeUInt32LE(value?.length ?? deleted, at + 4);
    bytes.write(key, at + entryHeadBytes, 'latin1');
    if (value) bytes.set(value, at + entryHeadBytes + key.length);
    at += copyEntryBytes({ key, value });
  }
  bytes.writeUInt32LE(checksum.crc32c(bytes.subarray(0, at)), at);
  return bytes;
}

function corrupt(what: string): never {
  throw new StorageError('corrupt', `not a copy of a registry: ${what}`);
}

/** Throws `corrupt`. Its values are parts of `from`. */
export function decodeCopyBlob(from: Uint8Array, checksum: Checksum): CopyBlob {
  const bytes = Buffer.from(from.buffer, from.byteOffset, from.length);
  if (bytes.length < headerBytes + checksumBytes) corrupt('too short');
  if (bytes.readUInt32LE(0) !== magic) corrupt('wrong magic');
  if (bytes.readUInt16LE(4) !== version) corrupt('unknown version');
  if (bytes.readUInt32LE(8) !== bytes.length) corrupt('wrong length');
  const end = bytes.length - checksumBytes;
  if (bytes.readUInt32LE(end) !== checksum.crc32c(bytes.subarray(0, end)))
    corrupt('wrong checksum');
  const flags = bytes.readUInt8(7);
  if (flags > lastFlag) corrupt('unknown flags');
  const view = new DataView(from.buffer, from.byteOffset, from.length);
  const count = (at: number) => countAt(view, at) ?? corrupt('a number is too large');
  const kind = (Object.keys(kinds) as CopyBlobKind[]).find(
    (name) => kinds[name] === bytes.readUInt8(6),
  );
  return {
    kind: kind ?? corrupt('unknown kind'),
    isLast: flags === lastFlag,
    salt: bytes.toString('hex', 16, 32),
    term: bytes.readUInt32LE(32),
    number: bytes.readUInt32LE(36),
    fromRevision: count(40),
    untilRevision: count(48),
    madeMs: count(56),
    entries: decodeEntries(bytes.subarray(headerBytes, end), bytes.readUInt32LE(12)),
  };
}

function decodeEntries(bytes: Buffer, count: number): readonly CopyEntry[] {
  const entries: CopyEntry[] = [];
  let at = 0;
  for (let index = 0; index < count; index += 1) {
    if (at + entryHeadBytes > bytes.length) corrupt('entries are longer than it');
    if (bytes.readUInt16LE(at + 2) !== 0) corrupt('reserved bytes are used');
    const keyEnd = at + entryHeadBytes + bytes.readUInt16LE(at);
    const length = bytes.readUInt32LE(at + 4);
    const end = length === deleted ? keyEnd : keyEnd + length;
    if (end > bytes.length) corrupt('an entry is longer than it');
    const key = bytes.toString('latin1', at + entryHeadBytes, keyEnd);
    entries.push({ key, value: length === deleted ? undefined : bytes.subarray(keyEnd, end) });
    at = end;
  }
  if (at !== bytes.length) corrupt('more than its entries');
  return entries;
}
