/**
 * The read path of whole blocks: resolve each block, join neighbours into runs, read each run from
 * the journal or from its segment, verified. Everything that is in memory or in the page cache is
 * answered at once, without a promise; what has to be waited for is waited for together.
 */

import { StorageError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { chain, isPending } from '../core/eventually.ts';
import type { Eventually } from '../core/eventually.ts';
import { lostEpoch, placeWord, placeWords } from '../format/place.ts';
import type { Journal } from '../log/journal.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { BlockMap } from './block-map.ts';
import type { SourcesByOrigin } from './page-tree.ts';
import { sourceOf } from './page-tree.ts';

const { blockBytes } = limits;
const runBlocksMax = limits.requestBytesMax / blockBytes;

export interface BlockReaderDeps {
  readonly map: BlockMap;
  readonly journal: Pick<Journal, 'read'>;
  readonly sources: SourcesByOrigin;
  readonly checksum: Checksum;
}

export class BlockReader {
  readonly #deps: BlockReaderDeps;
  readonly #place = new Uint32Array(placeWords);
  readonly #found = new Uint32Array(runBlocksMax);
  /** Checksums of the run being read; replaced when a pending read keeps it. */
  #checksums = new Uint32Array(runBlocksMax);
  readonly #pending = new Set<Promise<void>>();

  constructor(deps: BlockReaderDeps) {
    this.#deps = deps;
  }

  /** Resolves when the reads that are under way now have ended, one way or the other. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#pending]);
  }

  /** Fills `into` (whole blocks) from `block` on. */
  read(block: number, into: Uint8Array): Eventually<void> {
    const result = this.#readFrom(block, into, 0);
    if (isPending(result)) this.#track(result);
    return result;
  }

  /** Fills `into` from a byte on, whatever blocks it begins and ends in. */
  readBytes(offset: number, into: Uint8Array): Eventually<void> {
    const skew = offset % blockBytes;
    if (skew === 0 && into.length % blockBytes === 0) return this.read(offset / blockBytes, into);
    const blocks = Math.ceil((skew + into.length) / blockBytes);
    const whole = new Uint8Array(blocks * blockBytes);
    return chain(this.read(Math.floor(offset / blockBytes), whole), () =>
      into.set(whole.subarray(skew, skew + into.length)),
    );
  }

  /** From block number `index` of `into` on, until the end or until something is to be awaited. */
  #readFrom(first: number, into: Uint8Array, from: number): Eventually<void> {
    const { map } = this.#deps;
    const place = this.#place;
    const count = into.length / blockBytes;
    let waits: Promise<void>[] | undefined;
    for (let index = from; index < count; ) {
      const kind = map.find(first + index, place);
      if (kind === 'hole') {
        into.fill(0, index * blockBytes, (index + 1) * blockBytes);
        index += 1;
      } else if (kind === 'data') {
        const run = this.#runLength(first + index, Math.min(count - index, runBlocksMax));
        const whole = run === count;
        const area = whole ? into : into.subarray(index * blockBytes, (index + run) * blockBytes);
        const read = this.#startRun(area, waits !== undefined);
        if (isPending(read)) {
          waits ??= [];
          waits.push(read);
        }
        index += run;
      } else {
        // A page of the map has to be loaded. The state may change meanwhile: resolve it again.
        const rest: Promise<void> = kind.then(() => this.#readFrom(first, into, index));
        return waits === undefined ? rest : all([...waits, rest]);
      }
    }
    return waits === undefined ? undefined : all(waits);
  }

  /**
   * How many blocks from the one whose place was just found lie one behind another, at most
   * `blocksMax`; their checksums are then in `#checksums`, the first place in `#place`.
   */
  #runLength(first: number, blocksMax: number): number {
    const { map } = this.#deps;
    const place = this.#place;
    const epoch = place[placeWord.epoch] as number;
    const sequence = place[placeWord.sequence] as number;
    const offset = place[placeWord.offset] as number;
    const length = place[placeWord.length] as number;
    const origin = place[placeWord.origin] as number;
    const checksums = this.#checksums;
    checksums[0] = place[placeWord.checksum] as number;
    let run = 1;
    for (; run < blocksMax; run += 1) {
      if (map.find(first + run, place) !== 'data') break;
      if (place[placeWord.epoch] !== epoch || place[placeWord.sequence] !== sequence) break;
      if (place[placeWord.offset] !== offset + run * blockBytes) break;
      if (place[placeWord.origin] !== origin) break;
      checksums[run] = place[placeWord.checksum] as number;
    }
    place[placeWord.epoch] = epoch;
    place[placeWord.sequence] = sequence;
    place[placeWord.offset] = offset;
    place[placeWord.length] = length;
    place[placeWord.origin] = origin;
    return run;
  }

  /** Fails later when others still write into the buffer: their end is waited for first. */
  #startRun(area: Uint8Array, othersArePending: boolean): Eventually<void> {
    try {
      return this.#readRun(area);
    } catch (error) {
      if (!othersArePending) throw error;
      return Promise.reject(error as Error);
    }
  }

  #readRun(area: Uint8Array): Eventually<void> {
    const place = this.#place;
    const epoch = place[placeWord.epoch] as number;
    if (epoch === lostEpoch)
      throw new StorageError('corrupt', 'the block was lost with its page of the block map');
    if (epoch === 0) return this.#readJournal(area);
    const run = {
      epoch,
      sequence: place[placeWord.sequence] as number,
      offset: place[placeWord.offset] as number,
      chunkBytes: blockBytes,
      checksums: this.#checksums,
      firstChecksum: 0,
    };
    const read = sourceOf(this.#deps.sources, place, 0).read(run, area);
    if (isPending(read)) this.#checksums = new Uint32Array(runBlocksMax);
    return read;
  }

  #readJournal(area: Uint8Array): Eventually<void> {
    const place = this.#place;
    const file = place[placeWord.sequence] as number;
    const offset = place[placeWord.offset] as number;
    const read = this.#deps.journal.read(file, offset, area);
    if (!isPending(read)) return this.#verifyJournal(read, area, this.#checksums);
    const checksums = this.#checksums;
    this.#checksums = new Uint32Array(runBlocksMax);
    return read.then((bytes) => this.#verifyJournal(bytes, area, checksums));
  }

  #verifyJournal(bytes: number, area: Uint8Array, checksums: Uint32Array): void {
    const found = this.#found;
    this.#deps.checksum.crc32cBlocks(area, blockBytes, found, 0);
    const count = area.length / blockBytes;
    for (let index = 0; index < count; index += 1)
      if (found[index] !== checksums[index] || bytes !== area.length)
        throw new StorageError('corrupt', 'a block is damaged in the journal');
  }

  #track(read: Promise<void>): void {
    const settled = read.then(
      () => {},
      () => {},
    );
    this.#pending.add(settled);
    void settled.then(() => this.#pending.delete(settled));
  }
}

/** Waits for all, also when one fails: nobody may still be writing into the buffer then. */
async function all(waits: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(waits))
    if (result.status === 'rejected') throw result.reason;
}
