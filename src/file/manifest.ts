/**
 * What a small file consists of: the head record of its object. It is replaced as a whole, so a
 * reader and a crash see one version or the next.
 */

import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { encodeRecord, RecordReader } from '../registry/record.ts';

export interface Piece {
  readonly key: string;
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
}

export const emptyManifest: Manifest = { version: 0, sizeBytes: 0, pieces: [] };

export function encodeManifest(manifest: Manifest): Uint8Array {
  return encodeRecord(manifest);
}

/** Throws `corrupt`. */
export function decodeManifest(bytes: Uint8Array): Manifest {
  const fields = new RecordReader('manifest of a file', bytes);
  const pieces = fields.list('pieces').map((piece) => (piece === null ? null : decodePiece(piece)));
  return { version: fields.count('version'), sizeBytes: fields.count('sizeBytes'), pieces };
}

function decodePiece(found: unknown): Piece {
  const { key, bytes, checksum } = found as Partial<Piece>;
  const isValid =
    typeof key === 'string' &&
    typeof bytes === 'number' &&
    bytes > 0 &&
    bytes <= limits.pieceBytes &&
    typeof checksum === 'number';
  if (!isValid) throw new StorageError('corrupt', 'manifest of a file: a piece is not valid');
  return { key, bytes, checksum };
}
