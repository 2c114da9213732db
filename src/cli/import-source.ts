/** Where an import comes from: raw, piece by piece, or an image that qemu-img reads. */

import { createReadStream } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { open, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { limits } from '../core/limits.ts';
import { exitCode } from './exit-code.ts';
import { fail } from './image-place.ts';
import type { Image } from './qemu-img.ts';
import { formatOfBeginning, needsQemuImg, readImage } from './qemu-img.ts';
import type { Piece } from './sparse-copy.ts';
import { piecesOfFile, piecesOfStream } from './sparse-copy.ts';

export type Source = Raw | ({ readonly kind: 'image'; readonly path: string } & Image);

export interface Raw {
  readonly kind: 'raw';
  readonly format: 'raw';
  /** Undefined: it ends where it ends. */
  readonly sizeBytes: number | undefined;
  readonly pieces: AsyncIterable<Piece>;
}

/** `format`: what somebody has said that it is; otherwise its content says it. */
export async function openSource(path: string, format: string | undefined): Promise<Source> {
  if (path === '-') {
    if (process.stdin.isTTY) fail('an image does not come from a terminal', exitCode.usage);
    return rawStream(process.stdin, format);
  }
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') fail(`${path}: no such file`, exitCode.notFound);
    throw error;
  });
  if (found.isDirectory()) fail(`${path} is a folder`);
  if (!found.isFile()) return rawStream(createReadStream(path), format);
  if (found.size === 0) fail(`${path} is empty: that is no disk`);
  if (format !== 'raw') {
    const image = await readImage(resolve(path), format);
    if (image && image.format !== 'raw') return { kind: 'image', path: resolve(path), ...image };
  }
  const file = await open(path, 'r');
  const looksLike = format ?? formatOfBeginning(await beginningOf(file));
  if (looksLike !== 'raw') throw needsQemuImg(`${path} is ${looksLike}`);
  return rawOf(found.size, piecesOfFile(file, found.size));
}

const rawOf = (sizeBytes: number | undefined, pieces: AsyncIterable<Piece>): Raw => ({
  ...{ kind: 'raw', format: 'raw', sizeBytes, pieces },
});

async function beginningOf(file: FileHandle): Promise<Uint8Array> {
  const { blockBytes } = limits;
  const { buffer, bytesRead } = await file.read(Buffer.alloc(blockBytes), 0, blockBytes, 0);
  return buffer.subarray(0, bytesRead);
}

/** Nobody can look at it before it comes. */
function rawStream(stream: Readable, format: string | undefined): Raw {
  if (format !== undefined && format !== 'raw')
    fail(`what is no file has to be raw, not ${format}`, exitCode.usage);
  const pieces = piecesOfStream(stream);
  return rawOf(undefined, format === 'raw' ? pieces : refuseOtherFormats(pieces));
}

async function* refuseOtherFormats(pieces: AsyncIterable<Piece>): AsyncGenerator<Piece> {
  for await (const piece of pieces) {
    const format = piece.offset === 0 ? formatOfBeginning(piece.bytes) : 'raw';
    if (format !== 'raw')
      fail(`what comes is ${format}: only raw can be piped; --format raw takes it as it is`);
    yield piece;
  }
}
