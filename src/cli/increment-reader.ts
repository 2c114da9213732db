/**
 * Reads an increment as it comes, and believes nothing of it unchecked: what is missing, damaged, or
 * stands behind its end is an error.
 */

import { StorageError } from '../core/errors.ts';
import type { IncrementHeader, IncrementRecord } from '../format/increment.ts';
import {
  decodeIncrementHeader,
  decodeIncrementRecord,
  incrementHeaderBytes,
  incrementRecordBytes,
  incrementStartBytes,
} from '../format/increment.ts';
import type { Checksum } from '../ports/checksum.ts';

/** What stands at an offset from then on. */
export type Change =
  | (Extract<IncrementRecord, { kind: 'data' }> & { readonly bytes: Uint8Array })
  | Extract<IncrementRecord, { kind: 'zeroes' }>;

export interface Increment {
  readonly header: IncrementHeader;
  /** Ends when the increment has been found whole. */
  readonly changes: AsyncGenerator<Change>;
}

/** Throws `corrupt`. */
export async function readIncrement(
  stream: AsyncIterable<Uint8Array>,
  checksum: Checksum,
): Promise<Increment> {
  const input = new Input(stream);
  const start = await input.take(incrementStartBytes);
  const rest = await input.take(incrementHeaderBytes(start) - start.length);
  const { value: header, chain } = decodeIncrementHeader(Buffer.concat([start, rest]), checksum);
  return { header, changes: changesOf(input, header, chain, checksum) };
}

async function* changesOf(
  input: Input,
  { to }: IncrementHeader,
  chainBefore: number,
  checksum: Checksum,
): AsyncGenerator<Change> {
  let [chain, end, records, dataBytes] = [chainBefore, 0, 0, 0];
  for (;;) {
    const decoded = decodeIncrementRecord(await input.take(incrementRecordBytes), chain, checksum);
    const record = decoded.value;
    chain = decoded.chain;
    if (record.kind === 'end') {
      if (record.records !== records || record.dataBytes !== dataBytes) corrupt('it is damaged');
      if (!(await input.isAtEnd())) corrupt('something stands behind its end');
      return;
    }
    if (record.offset < end || record.offset + record.length > to.sizeBytes)
      corrupt('it is damaged');
    end = record.offset + record.length;
    records += 1;
    if (record.kind === 'zeroes') yield record;
    else {
      const bytes = await input.take(record.length);
      if (checksum.crc32c(bytes) !== record.checksum) corrupt('it is damaged');
      dataBytes += record.length;
      yield { ...record, bytes };
    }
  }
}

function corrupt(what: string): never {
  throw new StorageError('corrupt', what);
}

/** Bytes of a stream, in the amounts that are asked for. */
class Input {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.#iterator = stream[Symbol.asyncIterator]();
  }

  async take(count: number): Promise<Uint8Array> {
    const taken = new Uint8Array(count);
    for (let done = 0; done < count; ) {
      if (await this.isAtEnd()) corrupt('it is cut off');
      const part = this.#chunk.subarray(0, count - done);
      taken.set(part, done);
      done += part.length;
      this.#chunk = this.#chunk.subarray(part.length);
    }
    return taken;
  }

  async isAtEnd(): Promise<boolean> {
    while (this.#chunk.length === 0) {
      const next = await this.#iterator.next();
      if (next.done === true) return true;
      this.#chunk = next.value;
    }
    return false;
  }
}
