/** Looks whether a small file is on the backend as its manifest says, and for pieces that none names. */

import { isStorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ObjectId } from '../core/units.ts';
import { objectId } from '../core/units.ts';
import type { BlobInfo, BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { ByteRange, Finding } from '../ports/scrub.ts';
import { addRange } from '../ports/scrub.ts';
import type { Manifest } from './manifest.ts';
import { decodeManifest, emptyManifest, epochOfKey, type Piece } from './manifest.ts';

const { pieceBytes } = limits;
/** A transfer may have been damaged on its way; what is wrong as often as this lies there so. */
const attemptsMax = 3;

export interface FileScrubDeps {
  readonly store: BlobStore;
  readonly checksum: Checksum;
  readonly signal: AbortSignal;
  /** The file's manifest as it is now; undefined: it has none. */
  readonly loadHead: (id: ObjectId) => Promise<Uint8Array | undefined>;
}

/** What is replaced meanwhile is not looked at any more, nor what has come since. */
export async function scrubFile(deps: FileScrubDeps, id: ObjectId): Promise<readonly Finding[]> {
  const manifest = await manifestOf(deps, id);
  if (typeof manifest === 'string') return [{ kind: 'damage', what: manifest, object: id }];
  const ranges: ByteRange[] = [];
  const bad: string[] = [];
  let badBytes = 0;
  for (const [index, piece] of manifest.pieces.entries()) {
    if (piece === null || (await isWhole(deps, piece)) || !(await isNamed(deps, id, piece)))
      continue;
    bad.push(piece.key);
    badBytes += piece.bytes;
    addRange(ranges, index * pieceBytes, piece.bytes);
  }
  if (bad.length === 0) return [];
  return [
    {
      ...{ kind: 'damage', what: `pieces are missing or damaged: ${bad.join(' ')}`, object: id },
      ...{ ranges, bytes: badBytes },
      advice: 'copy the file from a backup: writing over it heals it',
    },
  ];
}

async function manifestOf({ loadHead }: FileScrubDeps, id: ObjectId): Promise<Manifest | string> {
  try {
    const head = await loadHead(id);
    return head ? decodeManifest(head) : emptyManifest;
  } catch (error) {
    if (!isStorageError(error, 'corrupt')) throw error;
    return error.message;
  }
}

async function isNamed(deps: FileScrubDeps, id: ObjectId, piece: Piece): Promise<boolean> {
  const now = await manifestOf(deps, id);
  return typeof now === 'string' || now.pieces.some((other) => other?.key === piece.key);
}

async function isWhole(
  { store, checksum, signal }: FileScrubDeps,
  { key, bytes, checksum: expected }: Piece,
): Promise<boolean> {
  for (let attempt = 1; attempt <= attemptsMax; attempt += 1)
    try {
      const body = await store.get(key, { signal });
      if (body.length === bytes && checksum.crc32c(body) === expected) return true;
    } catch (error) {
      if (!isStorageError(error, 'not_found')) throw error;
    }
  return false;
}

export interface FileBucketDeps extends FileScrubDeps {
  /** The last tenure of an object that is there, or is being deleted. */
  readonly epochOf: (id: ObjectId) => Promise<number | undefined>;
}

export interface FileBucketReport {
  /** Pieces that no manifest can name any more. */
  readonly orphans: readonly BlobInfo[];
  /** Some of them are of files that are there: their owners may be about to delete them. */
  readonly mayBeKept: boolean;
  /** Names that no piece has. */
  readonly foreign: readonly string[];
}

/**
 * Pieces of tenures that have ended, in no manifest: what a manifest names comes from the one before
 * it, or is of the tenure that writes it. The blobs are listed before it is asked who names them.
 */
export async function scrubFileBucket(deps: FileBucketDeps): Promise<FileBucketReport> {
  const { store, signal } = deps;
  const orphans: BlobInfo[] = [];
  const foreign: string[] = [];
  let mayBeKept = false;
  for (let after: string | undefined, isLast = false; !isLast; ) {
    const page = await store.list({ prefix: '', signal, ...(after !== undefined && { after }) });
    const byFile = Map.groupBy(page.blobs, ({ key }) => idOf(key));
    for (const [id, blobs] of byFile)
      if (id === undefined) foreign.push(...blobs.map(({ key }) => key));
      else {
        const epoch = await deps.epochOf(id);
        const found = epoch === undefined ? blobs : await unnamedOf(deps, id, epoch, blobs);
        mayBeKept ||= epoch !== undefined && found.length > 0;
        orphans.push(...found);
      }
    after = page.next;
    isLast = after === undefined;
  }
  return { orphans, mayBeKept, foreign };
}

function idOf(key: string): ObjectId | undefined {
  const [, id] = /^file\/([0-9a-f]{32})\/\d+-\d+-\d+$/.exec(key) ?? [];
  return id === undefined ? undefined : objectId(id);
}

async function unnamedOf(
  deps: FileBucketDeps,
  id: ObjectId,
  epoch: number,
  blobs: readonly BlobInfo[],
): Promise<readonly BlobInfo[]> {
  const manifest = await manifestOf(deps, id);
  if (typeof manifest === 'string') return [];
  const named = new Set(manifest.pieces.map((piece) => piece?.key));
  return blobs.filter(({ key }) => !named.has(key) && (epochOfKey(key) ?? epoch) < epoch);
}
