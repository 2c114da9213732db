/**
 * The write path: any range of bytes becomes whole blocks, which are appended to the journal and
 * put into the map in one synchronous stretch. The common case, whole blocks and room in the
 * journal, costs no promise.
 *
 * A write that covers a block in part reads the rest of it first. While it waits for that, others
 * may write the same block: so it looks again before it appends, and starts over if the block has
 * moved. Nothing is locked.
 *
 * Changes give the sequence of their last record; 0: there was nothing to do.
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

  write(offset: number, data: Uint8Array): Eventually<number> {
    const end = offset + data.length;
    if (end > limits.volumeBytesMax)
      throw new StorageError('too_large', 'a volume has at most 64 TiB');
    if (data.length === 0) return 0;
    if (offset % blockBytes !== 0 || data.length % blockBytes !== 0 || data.length > appendBytesMax)
      return this.#writeInPieces(offset, data);
    return (
      this.#tryAppend(offset / blockBytes, data, end) ??
      this.#appendLater(offset / blockBytes, data, end)
    );
  }

  /** Reads as zeroes afterwards; whole blocks lose their space. */
  trim(offset: number, length: number): Eventually<number> {
    const size = this.#volumeBytes;
    const end = Math.min(offset + length, size);
    if (offset >= end) return 0;
    const first = Math.ceil(offset / blockBytes);
    // Behind the end of the volume its last block is zero anyway.
    const last = end === size ? Math.ceil(end / blockBytes) : Math.floor(end / blockBytes);
    if (first < last && first * blockBytes === offset && last * blockBytes >= end)
      return this.#trimBlocks(first, last);
    return this.#trimInPieces(offset, end, first, last);
  }

  resize(bytes: number): Eventually<number> {
    if (bytes > limits.volumeBytesMax)
      throw new StorageError('too_large', 'a volume has at most 64 TiB');
    if (bytes < this.#volumeBytes) return this.#shrink(bytes);
    return bytes > this.#volumeBytes ? this.#grow(bytes) : 0;
  }

  /** Pieces of at most 1 MiB, each one record of the journal: none is ever recovered in part. */
  async #writeInPieces(offset: number, data: Uint8Array): Promise<number> {
    const end = offset + data.length;
    let sequence = 0;
    for (let at = offset; at < end; ) {
      const to = Math.min(end, Math.floor(at / blockBytes) * blockBytes + appendBytesMax);
      const piece = data.subarray(at - offset, to - offset);
      if (at % blockBytes !== 0 || to % blockBytes !== 0)
        sequence = await this.#mergePiece(at, piece);
      else
        sequence =
          this.#tryAppend(at / blockBytes, piece, to) ??
          (await this.#appendLater(at / blockBytes, piece, to));
      at = to;
    }
    return sequence;
  }

  /** A range that covers its first or last block in part. */
  async #mergePiece(offset: number, data: Uint8Array): Promise<number> {
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
      const sequence = this.#tryAppend(first, blocks, end, turn);
      if (sequence !== undefined) return sequence;
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

  async #appendLater(block: number, payload: Uint8Array, end: number): Promise<number> {
    for (;;) {
      await this.#deps.room.wait(payload.length);
      const sequence = this.#tryAppend(block, payload, end, 'waited');
      if (sequence !== undefined) return sequence;
    }
  }

  /** Undefined where the journal has no room now. Synchronous: nobody sees half of it. */
  #tryAppend(
    block: number,
    payload: Uint8Array,
    end: number,
    turn: Turn = 'newcomer',
  ): number | undefined {
    const { map, journal, checksum, room, assertWritable } = this.#deps;
    assertWritable();
    if (!room.isFree(payload.length, turn)) return undefined;
    const checksums = this.#checksums;
    checksum.crc32cBlocks(payload, blockBytes, checksums, 0);
    const volumeBytes = Math.max(this.#volumeBytes, end);
    const count = payload.length / blockBytes;
    const table = checksums.subarray(0, count);
    const appended = this.#append(() => journal.appendWrite(block, payload, table, volumeBytes));
    if (!appended) return undefined;
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
    return appended.sequence;
  }

  async #trimInPieces(offset: number, end: number, first: number, last: number): Promise<number> {
    if (first > last || first === last) return this.#writeZeroes(offset, end);
    await this.#writeZeroes(offset, first * blockBytes);
    const trimmed = await this.#trimBlocks(first, last);
    return Math.max(trimmed, await this.#writeZeroes(Math.min(last * blockBytes, end), end));
  }

  /** Less than two blocks. */
  async #writeZeroes(offset: number, end: number): Promise<number> {
    return offset < end ? this.#writeInPieces(offset, new Uint8Array(end - offset)) : 0;
  }

  #trimBlocks(first: number, last: number): Eventually<number> {
    return this.#repeat(() => {
      const { map, journal } = this.#deps;
      const appended = this.#append(() =>
        journal.appendTrim(first, last - first, this.#volumeBytes),
      );
      if (appended) map.trim(first, last);
      return appended?.sequence;
    });
  }

  #grow(bytes: number): Eventually<number> {
    return this.#repeat(() => {
      const { journal } = this.#deps;
      // Another one has let it grow meanwhile.
      if (bytes <= this.#volumeBytes) return journal.lastSequence;
      const appended = this.#append(() => journal.appendResize(bytes));
      if (appended) this.#volumeBytes = bytes;
      return appended?.sequence;
    });
  }

  /** What is cut off is gone: the rest of a block that is cut in two becomes zero with it. */
  async #shrink(bytes: number): Promise<number> {
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
      return appended.sequence;
    }
  }

  /** Runs a change without payload at once, or as soon as the journal has room. */
  #repeat(change: () => number | undefined): Eventually<number> {
    const attempt = (turn: Turn) => {
      this.#deps.assertWritable();
      const sequence = this.#deps.room.isFree(blockBytes, turn) ? change() : undefined;
      if (sequence !== undefined) this.#deps.onChange(blockBytes);
      return sequence;
    };
    const later = async () => {
      for (;;) {
        await this.#deps.room.wait(blockBytes);
        const sequence = attempt('waited');
        if (sequence !== undefined) return sequence;
      }
    };
    return attempt('newcomer') ?? later();
  }

  /** Undefined where the SSD is full: the journal is as it was, and the writer waits. */
  #append<T>(append: () => T): T | undefined {
    try {
      return append();
    } catch (error) {
      if (!isStorageError(error, 'no_space')) {
        this.#deps.assertWritable();
        throw error;
      }
      this.#deps.room.noteDiskFull();
      return undefined;
    }
  }
}
