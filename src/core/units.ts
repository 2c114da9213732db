/**
 * Branded units: what could be mixed up can't be. Each brand is made by one small checked
 * constructor. Offsets and lengths are plain numbers in bytes, exact to 8 PiB.
 */

import { StorageError } from './errors.ts';

declare const brand: unique symbol;
type Branded<T, Name extends string> = T & { readonly [brand]: Name };

/** 32 lower-case hex digits; never changes while names do. */
export type ObjectId = Branded<string, 'ObjectId'>;
/** 1 to 32 of `a-z0-9-`, starting with a letter. */
export type HostId = Branded<string, 'HostId'>;
/** Number of the tenure of an object: 1 to 2^32 - 1, grows at each change of owner. */
export type Epoch = Branded<number, 'Epoch'>;
/** An inode number, 1 (the root) to 2^53 - 1; the node id that the kernel sees. */
export type Ino = Branded<number, 'Ino'>;
/** Names a lease of the registry; only the registry makes one. */
export type LeaseId = Branded<string, 'LeaseId'>;
/** A file name as raw bytes in a latin1 string (one character a byte), 1 to 255, no `/`, no NUL. */
export type FileName = Branded<string, 'FileName'>;

function refuse(what: string, found: unknown): never {
  throw new StorageError('invalid', `not a valid ${what}`, { detail: { found } });
}

export function objectId(text: string): ObjectId {
  return /^[0-9a-f]{32}$/.test(text) ? (text as ObjectId) : refuse('object id', text);
}

export function hostId(text: string): HostId {
  return /^[a-z][a-z0-9-]{0,31}$/.test(text) ? (text as HostId) : refuse('host id', text);
}

export function epoch(value: number): Epoch {
  return Number.isInteger(value) && value >= 1 && value <= 0xffff_ffff
    ? (value as Epoch)
    : refuse('epoch', value);
}

export function ino(value: number): Ino {
  return Number.isSafeInteger(value) && value >= 1 ? (value as Ino) : refuse('inode number', value);
}

export function leaseId(digits: string): LeaseId {
  return /^[1-9][0-9]*$/.test(digits) ? (digits as LeaseId) : refuse('lease id', digits);
}

export function fileName(bytes: string): FileName {
  if (bytes.length > 255) throw new StorageError('name_too_long', 'a name has at most 255 bytes');
  if (bytes.length === 0 || bytes === '.' || bytes === '..' || /[/\0]/.test(bytes))
    refuse('file name', bytes);
  return bytes as FileName;
}

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
export const TiB = 1024 * GiB;
