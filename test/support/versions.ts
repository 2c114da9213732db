/**
 * A test's own record of what was asked for and what was promised, and blocks that say which write
 * made them, so that whatever is found can be told to be right, old, or nobody's.
 */

import assert from 'node:assert/strict';

export const blockBytes = 4096;

/** What may be found of one thing: versions are given in the order in which they are written. */
export class Versions {
  /** The oldest that may be found. */
  readonly #sure: Uint32Array;
  /** The newest. */
  readonly #asked: Uint32Array;

  constructor(count: number) {
    this.#sure = new Uint32Array(count);
    this.#asked = new Uint32Array(count);
  }

  ask(index: number, version: number): void {
    this.#asked[index] = version;
  }

  promise(index: number, version: number): void {
    this.#sure[index] = Math.max(version, this.#sure[index] as number);
  }

  /** What is found after a crash stays. */
  check(index: number, found: number, what: string): void {
    const [sure, asked] = [this.#sure[index] as number, this.#asked[index] as number];
    assert.ok(found >= sure && found <= asked, `${what} ${index}: ${found}, not ${sure}..${asked}`);
    this.#sure[index] = found;
    this.#asked[index] = found;
  }
}

/** Bytes that say what they are and which write made them, block by block. */
export function stamp(index: number, version: number, bytes = blockBytes): Buffer {
  const stamped = Buffer.alloc(bytes, version & 0xff);
  for (let at = 0; at < bytes; at += blockBytes) {
    stamped.writeUInt32LE(index, at);
    stamped.writeUInt32LE(version, at + 4);
    stamped.writeUInt32LE(version, at + blockBytes - 4);
  }
  return stamped;
}

/** The version, or -1 for what no write can have left. */
export function versionIn(bytes: Buffer, index: number): number {
  const version = bytes.length === 0 ? 0 : bytes.readUInt32LE(4);
  if (version === 0) return bytes.every((byte) => byte === 0) ? 0 : -1;
  return bytes.equals(stamp(index, version, bytes.length)) ? version : -1;
}
