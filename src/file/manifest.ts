/**
 * What a small file consists of: the head record of its object. It is replaced as a whole, so a
 * reader and a crash see one version or the next.
 */

import type { TenureStart } from '../core/changes.ts';
import { areStarts } from '../core/changes.ts';
import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ObjectId } from '../core/units.ts';
import { encodeRecord, RecordReader } from '../registry/record.ts';

export interface Piece {
  readonly key: string;
  /** 1 to 1 MiB; what is missing to a whole piece, or to the end of the file, reads as zeroes. */
  readonly bytes: number;
  /** CRC-32C of the piece. */
  readonly checksum: number;
}

export interface Manifest {
  /** Grows with each commit. */
  readonly version: number;
  readonly sizeBytes: number;
  /** By index; null: a hole. Fewer than the size asks for: the rest are holes. */
  readonly pieces: readonly (Piece | null)[];
  /** Changes of the file that it holds, and the newest tenures that made them. */
  readonly changes: number;
  readonly starts: readonly TenureStart[];
}

export const emptyManifest: Manifest = {
  version: 0,
  sizeBytes: 0,
  pieces: [],
  changes: 0,
  starts: [],
};

/** All pieces of an object, of whatever version. */
export const piecePrefix = (id: ObjectId) => `file/${id}/`;

/** Each attempt of a commit has a version of its own, so no name is ever written twice. */
export function pieceKey(id: ObjectId, epoch: number, version: number, index: number): string {
  return `${piecePrefix(id)}${epoch}-${version}-${index}`;
}

/** The tenure in which a piece was written; undefined for a name that is none of a piece. */
export function epochOfKey(key: string): number | undefined {
  const [, epoch] = /\/(\d{1,10})-\d+-\d+$/.exec(key) ?? [];
  return epoch === undefined ? undefined : Number(epoch);
}

export function encodeManifest({ changes, starts, ...rest }: Manifest): Uint8Array {
  const told = starts.map(({ epoch, after }) => [epoch, after]);
  return encodeRecord({ ...rest, ...(told.length > 0 && { changes, starts: told }) });
}

/** Throws `corrupt`. */
export function decodeManifest(bytes: Uint8Array): Manifest {
  const fields = new RecordReader('manifest of a file', bytes);
  const pieces = fields.list('pieces').map((piece) => (piece === null ? null : decodePiece(piece)));
  const sizeBytes = fields.count('sizeBytes');
  if (sizeBytes > limits.promoteBytes || pieces.length > Math.ceil(sizeBytes / limits.pieceBytes))
    throw new StorageError('corrupt', 'manifest of a file: size and pieces do not fit');
  const isTold = fields.has('starts');
  const starts = isTold ? fields.list('starts').map(decodeStart) : [];
  if (!areStarts(starts) || isTold !== starts.length > 0)
    throw new StorageError('corrupt', 'manifest of a file: starts of tenures are out of order');
  const changes = isTold ? fields.count('changes') : 0;
  return { version: fields.count('version'), sizeBytes, pieces, changes, starts };
}

function decodeStart(found: unknown): TenureStart {
  const [epoch, after] = Array.isArray(found) ? (found as unknown[]) : [];
  if (!isCount(epoch, 0xffff_ffff) || !isCount(after, Number.MAX_SAFE_INTEGER))
    throw new StorageError('corrupt', 'manifest of a file: the start of a tenure is not valid');
  return { epoch, after };
}

function isCount(value: unknown, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max;
}

function decodePiece(found: unknown): Piece {
  const { key, bytes, checksum } = Object(found) as Partial<Piece>;
  const isValid =
    typeof key === 'string' &&
    isCount(bytes, limits.pieceBytes) &&
    bytes > 0 &&
    isCount(checksum, 0xffff_ffff);
  if (!isValid) throw new StorageError('corrupt', 'manifest of a file: a piece is not valid');
  return { key, bytes, checksum };
}
