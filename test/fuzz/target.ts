/** What is fuzzed: a decoder, with what it has to hold to whatever bytes it is given. */

import assert from 'node:assert/strict';
import type { ErrorCode } from '../../src/core/errors.ts';
import type { Eventually } from '../../src/core/eventually.ts';
import type { Checksum } from '../../src/ports/checksum.ts';
import { tableChecksum } from '../../src/platform/checksum.ts';

export interface Target {
  readonly name: string;
  /** How inputs are changed: as bytes, as a JSON document, or as lines of a text. */
  readonly kind: 'bytes' | 'json' | 'text';
  /** Made by the real encoder, by what they are. */
  readonly samples: Readonly<Record<string, Uint8Array>>;
  /** The codes with which it refuses. */
  readonly refuses: readonly ErrorCode[];
  /** In each run of the tests; a slow one gets fewer. */
  readonly testInputs?: number;
  /** Of CPU that one input may take. */
  readonly cpuMsMax?: number;
  /** What it may take in memory, besides what grows with its input. */
  readonly roomBytes?: number;
  /** Makes the checksums right again: nothing behind them would ever be reached otherwise. */
  readonly repair?: (input: Uint8Array) => void;
  /**
   * Decodes, and throws an AssertionError where what came out is not what the bytes say. False where
   * the decoder says that there is nothing.
   */
  readonly decode: (input: Uint8Array) => Eventually<boolean>;
}

/** An input of which the decoder makes something wrong. */
export interface Finding {
  readonly input: Uint8Array;
  readonly error: unknown;
}

export const checksum: Checksum = tableChecksum();

/** What was decoded says what the input does when it is encoded again. */
export function assertSame(again: Uint8Array, input: Uint8Array): void {
  if (Buffer.compare(again, input) === 0) return;
  const [theirs, ours] = [input, again].map((bytes) => Buffer.from(bytes).toString('hex'));
  assert.fail(`it becomes other bytes\n  ${theirs}\n  ${ours}`);
}

export const viewOf = (bytes: Uint8Array) =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** The CRC-32C of everything before `at`, going on from `seed`, is put there; not where it is too short. */
export function sign(input: Uint8Array, at: number, seed = 0): void {
  if (at >= 0 && at + 4 <= input.length)
    viewOf(input).setUint32(at, checksum.crc32c(input.subarray(0, at), seed), true);
}
