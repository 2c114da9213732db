/**
 * The write path: any range of bytes becomes whole blocks, which are appended to the journal and
 * put into the map in one synchronous stretch. The common case, whole blocks and room in the
 * journal, costs no promise.
 *
 * A write that covers a block in part reads the rest of it first. While it waits for that, others
 * may write the same block: so it looks again before it appends, and starts over if the block has
 * moved. Nothing is locked.
 */

import { isStorageError, StorageError } from '../core/errors.ts';
import type { Eventually } from '../core/eventually.ts';
import { limits } from '../core/limits.ts';
import { placeWords } from '../format/place.ts';
import type { Journal } from '../log/journal.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { BlockMap } from './block-map.ts';
import type { BlockReader } from './block-reader.ts';
import type { JournalRoom, Turn } from './journal-room.ts';

const { blockBytes } = limits;
const appendBytesMax = limits.requestBytesMax;
const blocksMax = limits.volumeBytesMax / blockBytes;

export interface BlockWriterDeps {
  readonly map: BlockMap;
  readonly journal: Journal;
  readonly reader: BlockReader;
  readonly checksum: Checksum;
  readonly room: JournalRoom;
  /** Throws once the volume may not be changed any more. */
  readonly assertWritable: () => void;
  readonly onChange: (bytes: number) => void;
}

/** A block that is written in part: where it was found before it was read. */
interface Edge {
  readonly block: number;
  readonly kind: 'data' | 'hole';
  readonly place: Uint32Array;
}

export class BlockWriter {
  readonly #deps: BlockWriterDeps;
  readonly #checksums = new Uint32Array(appendBytesMax / blockBytes);
  #volumeBytes: number;

  constructor(deps: BlockWriterDeps, volumeBytes: number) {
    this.#deps = deps;
    this.#volumeBytes = volumeBytes;
  }

  get volumeBytes(): number {
    return this.#volumeBytes;
  }

  write(offset: number, data: Uint8Array): Eventually<void> {
    const end = offset + data.length;
    if (end > limits.volumeBytesMax)
      throw new StorageError('too_large', 'a volume has at most 64 TiB');
    if (data.length === 0) return;
    if (offset % blockBytes !== 0 || data.length % blockBytes !== 0 || data.length > appendBytesMax)
      return this.#writeInPieces(offset, data);
    if (this.#tryAppend(offset / blockBytes, data, end)) return;
    return this.#appendLater(offset / blockBytes, data, end);
  }

  /** Reads as zeroes afterwards; whole blocks lose their space. */
  trim(offset: number, length: number): Eventually<void> {
    const size = this.#volumeBytes;
    const end = Math.min(offset + length, size);
    if (offset >= end) return;
    const first = Math.ceil(offset / blockBytes);
    // Behind the end of the volume its last block is zero anyway.
    const last = end === size ? Math.ceil(end / blockBytes) : Math.floor(end / blockBytes);
    if (first < last && first * blockBytes === offset && last * blockBytes >= end)
      return this.#trimBlocks(first, last);
    return this.#trimInPieces(offset, end, first, last);
  }

  resize(bytes: number): Eventually<void> {
    if (bytes > limits.volumeBytesMax)
      throw new StorageError('too_large', 'a volume has at most 64 TiB');
    if (bytes < this.#volumeBytes) return this.#shrink(bytes);
    if (bytes > this.#volumeBytes) return this.#grow(bytes);
  }

  /** Pieces of at most 1 MiB, each one record of the journal: none is ever recovered in part. */
  async #writeInPieces(offset: number, data: Uint8Array): Promise<void> {
    const end = offset + data.length;
    for (let at = offset; at < end; ) {
      const to = Math.min(end, Math.floor(at / blockBytes) * blockBytes + appendBytesMax);
      const piece = data.subarray(at - offset, to - offset);
      if (at % blockBytes !== 0 || to % blockBytes !== 0) await this.#mergePiece(at, piece);
      else if (!this.#tryAppend(at / blockBytes, piece, to))
        await this.#appendLater(at / blockBytes, piece, to);
      at = to;
    }
  }

  /** A range that covers its first or last block in part. */
  async #mergePiece(offset: number, data: Uint8Array): Promise<void> {
    const end = offset + data.length;
    const first = Math.floor(offset / blockBytes);
    const last = Math.ceil(end / blockBytes) - 1;
    const blocks = new Uint8Array((last - first + 1) * blockBytes);
    const partial = new Set<number>();
    if (offset % blockBytes !== 0) partial.add(first);
    if (end % blockBytes !== 0) partial.add(last);
    for (let turn: Turn = 'newcomer'; ; ) {
      const edges: Edge[] = [];
      for (const number of partial) {
        const at = (number - first) * blockBytes;
        edges.push(await this.#readEdge(number, blocks.subarray(at, at + blockBytes)));
      }
      blocks.set(data, offset - first * blockBytes);
      if (!edges.every((edge) => this.#isWhere(edge))) continue;
      if (this.#tryAppend(first, blocks, end, turn)) return;
      await this.#deps.room.wait(blocks.length);
      turn = 'waited';
    }
  }

  /** The block's content, and where it was when reading it began. */
  async #readEdge(number: number, block: Uint8Array): Promise<Edge> {
    const { map, reader } = this.#deps;
    const place = new Uint32Array(placeWords);
    for (;;) {
      const kind = map.find(number, place);
      if (kind instanceof Promise) {
        await kind;
        continue;
      }
      await reader.read(number, block);
      return { block: number, kind, place };
    }
  }

  #isWhere(edge: Edge): boolean {
    const place = new Uint32Array(placeWords);
    const kind = this.#deps.map.find(edge.block, place);
    // A page that has to be loaded again: the next round finds it in memory.
    if (kind instanceof Promise) {
      kind.catch(() => {});
      return false;
    }
    if (kind !== edge.kind) return false;
    return kind === 'hole' || place.every((word, index) => word === edge.place[index]);
  }

  async #appendLater(block: number, payload: Uint8Array, end: number): Promise<void> {
    do await this.#deps.room.wait(payload.length);
    while (!this.#tryAppend(block, payload, end, 'waited'));
  }

  /** False where the journal has no room now. Synchronous: nobody sees half of it. */
  #tryAppend(block: number, payload: Uint8Array, end: number, turn: Turn = 'newcomer'): boolean {
    const { map, journal, checksum, room, assertWritable } = this.#deps;
    assertWritable();
    if (!room.isFree(payload.length, turn)) return false;
    const checksums = this.#checksums;
    checksum.crc32cBlocks(payload, blockBytes, checksums, 0);
    const volumeBytes = Math.max(this.#volumeBytes, end);
    const count = payload.length / blockBytes;
    const table = checksums.subarray(0, count);
    const appended = this.#append(() => journal.appendWrite(block, payload, table, volumeBytes));
    if (!appended) return false;
    for (let index = 0; index < count; index += 1)
      map.write(
        block + index,
        appended.file,
        appended.offset + index * blockBytes,
        blockBytes,
        checksums[index] as number,
      );
    this.#volumeBytes = volumeBytes;
    this.#deps.onChange(payload.length);
    return true;
  }

  async #trimInPieces(offset: number, end: number, first: number, last: number): Promise<void> {
    if (first > last || first === last) return this.#writeZeroes(offset, end);
    await this.#writeZeroes(offset, first * blockBytes);
    await this.#trimBlocks(first, last);
    await this.#writeZeroes(Math.min(last * blockBytes, end), end);
  }

  /** Less than two blocks. */
  async #writeZeroes(offset: number, end: number): Promise<void> {
    if (offset < end) await this.#writeInPieces(offset, new Uint8Array(end - offset));
  }

  #trimBlocks(first: number, last: number): Eventually<void> {
    return this.#repeat(() => {
      const { map, journal } = this.#deps;
      if (!this.#append(() => journal.appendTrim(first, last - first, this.#volumeBytes)))
        return false;
      map.trim(first, last);
      return true;
    });
  }

  #grow(bytes: number): Eventually<void> {
    return this.#repeat(() => {
      if (bytes <= this.#volumeBytes) return true;
      if (!this.#append(() => this.#deps.journal.appendResize(bytes))) return false;
      this.#volumeBytes = bytes;
      return true;
    });
  }

  /** What is cut off is gone: the rest of a block that is cut in two becomes zero with it. */
  async #shrink(bytes: number): Promise<void> {
    const { map, journal, checksum } = this.#deps;
    const kept = Math.ceil(bytes / blockBytes);
    const number = kept - 1;
    const block = new Uint8Array(blockBytes);
    for (;;) {
      const edge = bytes % blockBytes === 0 ? undefined : await this.#readEdge(number, block);
      block.fill(0, bytes % blockBytes);
      if (edge && !this.#isWhere(edge)) continue;
      const crc = checksum.crc32c(block);
      const tail =
        edge?.kind === 'data' ? { block: number, payload: block, checksum: crc } : undefined;
      this.#deps.assertWritable();
      const appended = this.#append(() => journal.appendResize(bytes, tail));
      if (!appended) {
        await this.#deps.room.wait(blockBytes);
        continue;
      }
      map.trim(kept, blocksMax);
      if (tail) map.write(number, appended.file, appended.offset, blockBytes, crc);
      this.#volumeBytes = bytes;
      this.#deps.onChange(blockBytes);
      return;
    }
  }

  /** Runs a change without payload at once, or as soon as the journal has room. */
  #repeat(change: () => boolean): Eventually<void> {
    const attempt = (turn: Turn) => {
      this.#deps.assertWritable();
      if (!this.#deps.room.isFree(blockBytes, turn) || !change()) return false;
      this.#deps.onChange(blockBytes);
      return true;
    };
    if (attempt('newcomer')) return;
    const later = async () => {
      do await this.#deps.room.wait(blockBytes);
      while (!attempt('waited'));
    };
    return later();
  }

  /** Undefined where the SSD is full: the journal is as it was, and the writer waits. */
  #append<T>(append: () => T): T | undefined {
    try {
      return append();
    } catch (error) {
      if (!isStorageError(error, 'no_space')) throw error;
      this.#deps.room.noteDiskFull();
      return undefined;
    }
  }
}
