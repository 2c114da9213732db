/**
 * Collects what a checkpoint writes into map segments and puts them as they fill: pages, or blocks
 * that it moves. A page stays in memory (dirty) until the segment that holds it is on the backend.
 */

import { limits } from '../core/limits.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { ObjectId } from '../core/units.ts';
import { placeWords, setPlace } from '../format/place.ts';
import type { ChunkKind } from '../format/segment.ts';
import { segmentHeadBytes } from '../format/segment.ts';
import { SegmentBuilder } from '../log/segment-builder.ts';
import type { SegmentUploader } from '../log/segment-uploader.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { CachedPage } from './page-budget.ts';
import type { SegmentSequencer } from './segment-sequencer.ts';

/** No chunk is smaller: the index in front has room for as many as fit. */
const chunkBytesMin = limits.blockBytes;

export interface MapSegmentWriterDeps {
  readonly sequencer: SegmentSequencer;
  readonly uploader: SegmentUploader;
  readonly checksum: Checksum;
}

export class MapSegmentWriter {
  readonly #deps: MapSegmentWriterDeps;
  readonly #payloadBytesMax: number;
  readonly #facts: { readonly journalSequence: number; readonly volumeBytes: number };
  #builder: SegmentBuilder | undefined;
  #pages: CachedPage[] = [];
  #first = 0;
  readonly #written: number[] = [];
  #failure: Error | undefined;
  readonly #puts = new TaskGroup((error) => {
    this.#failure ??= error as Error;
  });

  constructor(
    deps: MapSegmentWriterDeps,
    payloadBytesMax: number,
    facts: { readonly journalSequence: number; readonly volumeBytes: number },
  ) {
    this.#deps = deps;
    this.#payloadBytesMax = payloadBytesMax;
    this.#facts = facts;
  }

  get objectId(): ObjectId {
    return this.#deps.sequencer.objectId;
  }

  /** Sequences of the segments that were begun, for the table of live bytes. */
  get sequences(): readonly number[] {
    return this.#written;
  }

  /** Adds a page and sets its place. */
  async add(page: CachedPage, bytes: Uint8Array, to: Uint32Array, toAt: number): Promise<void> {
    const crc = this.#deps.checksum.crc32c(bytes);
    const chunk = {
      kind: 'page',
      level: page.level,
      block: page.firstBlock,
      checksum: crc,
    } as const;
    await this.#append(chunk, bytes, to, toAt);
    this.#pages.push(page);
  }

  /** Adds a piece of the table of live bytes; gives its place. */
  async addUsage(bytes: Uint8Array): Promise<Uint32Array> {
    const place = new Uint32Array(placeWords);
    const crc = this.#deps.checksum.crc32c(bytes);
    await this.#append({ kind: 'usage', level: 0, block: 0, checksum: crc }, bytes, place, 0);
    return place;
  }

  /** Adds a block that moves, with the checksum that it has, and sets its place. */
  async addBlock(block: number, bytes: Uint8Array, crc: number, to: Uint32Array): Promise<void> {
    await this.#append({ kind: 'block', level: 0, block, checksum: crc }, bytes, to, 0);
  }

  /** Resolves when all that was added is on the backend. */
  async finish(): Promise<void> {
    this.#seal();
    await this.#puts.drained();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Gives back the memory of a segment that was begun, and came to nothing with its checkpoint. */
  [Symbol.dispose](): void {
    if (!this.#builder) return;
    this.#builder = undefined;
    this.#deps.uploader.release(this.#segmentBytes);
  }

  async #append(
    chunk: { kind: ChunkKind; level: number; block: number; checksum: number },
    bytes: Uint8Array,
    to: Uint32Array,
    toAt: number,
  ): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const { sequencer, uploader } = this.#deps;
    if (this.#builder?.hasRoom(bytes.length) === false) this.#seal();
    if (!this.#builder) {
      await uploader.reserve(this.#segmentBytes);
      const sequence = sequencer.next();
      this.#first ||= sequence;
      this.#written.push(sequence);
      const shape = {
        payloadBytesMax: this.#payloadBytesMax,
        chunksMax: this.#chunksMax,
        trims: [],
      };
      this.#builder = new SegmentBuilder(sequencer.epoch, sequence, shape);
    }
    const builder = this.#builder;
    const { epoch, sequence, nextOffset } = builder;
    setPlace(to, toAt, epoch, sequence, nextOffset, bytes.length, chunk.checksum);
    builder.reserve(chunk, bytes.length).set(bytes);
  }

  get #chunksMax(): number {
    return Math.ceil(this.#payloadBytesMax / chunkBytesMin);
  }

  get #segmentBytes(): number {
    return this.#payloadBytesMax + segmentHeadBytes(0, this.#chunksMax);
  }

  #seal(): void {
    const builder = this.#builder;
    if (!builder) return;
    const { sequencer, uploader, checksum } = this.#deps;
    const pages = this.#pages;
    this.#builder = undefined;
    this.#pages = [];
    const body = builder.seal(
      {
        kind: 'map',
        objectId: sequencer.objectId,
        groupFirst: this.#first,
        lastOfCut: false,
        previous: sequencer.lastData,
        ...this.#facts,
      },
      checksum,
    );
    this.#puts.run(async () => {
      await uploader.put(builder.epoch, builder.sequence, body, this.#segmentBytes);
      for (const page of pages) page.dirty = false;
    });
  }
}
