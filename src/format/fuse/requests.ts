/**
 * Reads the fields of one FUSE request. Every access is within the request's own length: a
 * truncated or hostile one throws `invalid` and is answered with EINVAL.
 */

import { StorageError } from '../../core/errors.ts';
import { headerAt, inHeaderBytes } from './protocol.ts';

export class RequestReader {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  #base = 0;
  #end = 0;

  constructor(memory: ArrayBufferLike) {
    this.#view = new DataView(memory);
    this.#bytes = new Uint8Array(memory);
  }

  /** Turns to the request at `base`, which has at most `bytesMax`. */
  at(base: number, bytesMax: number): this {
    const length = this.#view.getUint32(base, true);
    if (length < inHeaderBytes || length > bytesMax) refuse();
    this.#base = base;
    this.#end = base + length;
    return this;
  }

  get opcode(): number {
    return this.#view.getUint32(this.#base + headerAt.opcode, true);
  }

  get node(): number {
    return this.#integer(this.#base + headerAt.node);
  }

  get uid(): number {
    return this.#view.getUint32(this.#base + headerAt.uid, true);
  }

  get gid(): number {
    return this.#view.getUint32(this.#base + headerAt.gid, true);
  }

  /** Fields are counted from the end of the header. */
  u32(at: number): number {
    return this.#view.getUint32(this.#field(at, 4), true);
  }

  /** A u64 that fits into an exact number. */
  u64(at: number): number {
    return this.#integer(this.#field(at, 8));
  }

  bigU64(at: number): bigint {
    return this.#view.getBigUint64(this.#field(at, 8), true);
  }

  i64(at: number): bigint {
    return this.#view.getBigInt64(this.#field(at, 8), true);
  }

  /** Bytes up to a NUL, and where the next field begins. */
  text(at: number): { readonly text: string; readonly next: number } {
    const from = this.#field(at, 1);
    const end = this.#bytes.subarray(from, this.#end).indexOf(0);
    if (end === -1) refuse();
    const text = Buffer.from(this.#bytes.buffer, from, end).toString('latin1');
    return { text, next: at + end + 1 };
  }

  /** A view of `length` bytes of the request. */
  bytes(at: number, length: number): Uint8Array {
    const from = this.#field(at, length);
    return this.#bytes.subarray(from, from + length);
  }

  #field(at: number, length: number): number {
    const from = this.#base + inHeaderBytes + at;
    if (from + length > this.#end) refuse();
    return from;
  }

  #integer(at: number): number {
    const high = this.#view.getUint32(at + 4, true);
    if (high >= 0x20_0000) refuse();
    return high * 0x1_0000_0000 + this.#view.getUint32(at, true);
  }
}

function refuse(): never {
  throw new StorageError('invalid', 'a FUSE request is not well formed');
}
