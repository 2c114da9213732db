/**
 * Copies disk images in pieces of 1 MiB. Holes of a file are not read, zeroes are not written: what
 * is copied to is new, so that what is not written there reads as zeroes and takes no space. One
 * piece is read while the one before it is written.
 */

import type { FileHandle } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { limits } from '../core/limits.ts';
import { dataExtents } from '../platform/extents.ts';
import { loadNative } from '../platform/native.ts';

const pieceBytes = limits.requestBytesMax;
const { blockBytes } = limits;
const zeroes = Buffer.alloc(pieceBytes);

/** Memory that is good until the piece after the next one is asked for. */
export interface Piece {
  readonly offset: number;
  readonly bytes: Buffer;
}

/** Told of each piece: where it ends, and how much of it was written. */
export type OnPiece = (end: number, writtenBytes: number) => void;

function* twoBuffers(): Generator<Buffer, never> {
  const buffers = [Buffer.alloc(pieceBytes), Buffer.alloc(pieceBytes)];
  for (;;) yield* buffers;
}

/** What a file holds, without its holes. */
export async function* piecesOfFile(file: FileHandle, sizeBytes: number): AsyncGenerator<Piece> {
  const buffers = twoBuffers();
  for (const { offset, end } of dataExtents(loadNative().native, file.fd, sizeBytes))
    for (let at = offset; at < end; at += pieceBytes) {
      const bytes = buffers.next().value.subarray(0, Math.min(pieceBytes, end - at));
      await readFully(file, at, bytes);
      yield { offset: at, bytes };
    }
  if ((await file.stat()).size < sizeBytes) throw becameShorter();
}

const becameShorter = () => new Error('it has become shorter while it was read');

export async function readFully(file: FileHandle, offset: number, into: Buffer): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await file.read(into, done, into.length - done, offset + done);
    if (bytesRead === 0) throw becameShorter();
    done += bytesRead;
  }
}

/** The bytes of a stream, one piece behind the other. */
export async function* piecesOfStream(stream: Readable): AsyncGenerator<Piece> {
  const buffers = twoBuffers();
  let offset = 0;
  let buffer = buffers.next().value;
  let filled = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>)
    for (let done = 0; done < chunk.length; ) {
      const count = chunk.copy(buffer, filled, done);
      done += count;
      filled += count;
      if (filled < pieceBytes) continue;
      yield { offset, bytes: buffer };
      offset += pieceBytes;
      buffer = buffers.next().value;
      filled = 0;
    }
  if (filled > 0) yield { offset, bytes: buffer.subarray(0, filled) };
}

/** Gives the end of the last piece. */
export async function writeSparse(
  file: FileHandle,
  pieces: AsyncIterable<Piece>,
  onPiece: OnPiece,
): Promise<number> {
  let end = 0;
  let writing: Promise<void> = Promise.resolve();
  try {
    for await (const piece of pieces) {
      await writing;
      end = piece.offset + piece.bytes.length;
      writing = writeData(file, piece, onPiece);
      // Looked at when the next piece has been read.
      writing.catch(() => {});
    }
  } finally {
    await writing;
  }
  return end;
}

async function writeData(file: FileHandle, piece: Piece, onPiece: OnPiece): Promise<void> {
  let written = 0;
  for (const { offset, end } of dataRuns(piece.bytes)) {
    for (let at = offset; at < end; ) {
      const { bytesWritten } = await file.write(piece.bytes, at, end - at, piece.offset + at);
      at += bytesWritten;
    }
    written += end - offset;
  }
  onPiece(piece.offset + piece.bytes.length, written);
}

/** What is not zero, in whole blocks. */
export function* dataRuns(bytes: Buffer): Generator<{ offset: number; end: number }> {
  let begin: number | undefined;
  for (let at = 0; at < bytes.length; at += blockBytes) {
    const end = Math.min(at + blockBytes, bytes.length);
    const isZero = bytes.compare(zeroes, 0, end - at, at, end) === 0;
    if (!isZero) begin ??= at;
    else if (begin !== undefined) {
      yield { offset: begin, end: at };
      begin = undefined;
    }
  }
  if (begin !== undefined) yield { offset: begin, end: bytes.length };
}

/** All bytes in order, holes as zeroes. */
export async function writeInOrder(
  stream: Writable,
  sizeBytes: number,
  pieces: AsyncIterable<Piece>,
  onPiece: OnPiece,
): Promise<void> {
  let at = 0;
  // The callback of the write tells of it as well.
  stream.on('error', () => {});
  const put = async (bytes: Buffer) => {
    await new Promise<void>((resolve, reject) =>
      stream.write(bytes, (error) => (error ? reject(error) : resolve())),
    );
    at += bytes.length;
    onPiece(at, bytes.length);
  };
  const fill = async (end: number) => {
    while (at < end) await put(zeroes.subarray(0, Math.min(pieceBytes, end - at)));
  };
  for await (const { offset, bytes } of pieces) {
    await fill(offset);
    await put(bytes);
  }
  await fill(sizeBytes);
}
