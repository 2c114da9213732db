/**
 * Reads the fields of the FUSE requests that come into one place in memory. Every access is within
 * the request's own length: a truncated or hostile one throws `invalid` and is answered with
 * EINVAL. Each slot has its own reader, so a field may be read as long as the slot is not reused
 * or replied into.
 */

import { StorageError } from '../../core/errors.ts';
import { countAt } from '../fields.ts';
import { headerAt, inHeaderBytes } from './protocol.ts';

export class RequestReader {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #base: number;
  readonly #bytesMax: number;
  #end: number;

  /** Requests begin at `base` and have at most `bytesMax`. */
  constructor(view: DataView, bytes: Uint8Array, base: number, bytesMax: number) {
    this.#view = view;
    this.#bytes = bytes;
    this.#base = base;
    this.#bytesMax = bytesMax;
    this.#end = base;
  }

  /** Turns to the request that has come in. */
  begin(): void {
    const length = this.#view.getUint32(this.#base + headerAt.length, true);
    this.#end = this.#base;
    if (length < inHeaderBytes || length > this.#bytesMax) refuse();
    this.#end = this.#base + length;
  }

  get opcode(): number {
    return this.#view.getUint32(this.#base + headerAt.opcode, true);
  }

  get unique(): bigint {
    return this.#view.getBigUint64(this.#base + headerAt.unique, true);
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

  /** The thread that waits for the answer; 0 where it is in another PID namespace. */
  get thread(): number {
    return this.#view.getUint32(this.#base + headerAt.thread, true);
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
    const length = this.#bytes.subarray(from, this.#end).indexOf(0);
    if (length === -1) refuse();
    const bytes = Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + from, length);
    return { text: bytes.toString('latin1'), next: at + length + 1 };
  }

  /** Where `length` bytes of the request are in memory. */
  place(at: number, length: number): number {
    return this.#field(at, length);
  }

  #field(at: number, length: number): number {
    const from = this.#base + inHeaderBytes + at;
    if (from + length > this.#end) refuse();
    return from;
  }

  #integer(at: number): number {
    return countAt(this.#view, at) ?? refuse();
  }
}

function refuse(): never {
  throw new StorageError('invalid', 'a FUSE request is not well formed');
}
