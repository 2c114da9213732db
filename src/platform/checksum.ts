/** CRC-32C by the addon, or by table (slicing by 8) where there is none. */

import type { Checksum } from '../ports/checksum.ts';
import type { Native } from './native.ts';

const polynomial = 0x82f6_3b78;

export function nativeChecksum(native: Native): Checksum {
  return {
    crc32c: (bytes, seed = 0) => native.crc32c(bytes, seed),
    crc32cBlocks: (bytes, blockBytes, out, index) =>
      native.crc32cBlocks(bytes, blockBytes, out, index),
  };
}

export function tableChecksum(): Checksum {
  const tables = makeTables();
  const crc32c = (bytes: Uint8Array, seed = 0) => update(tables, bytes, seed);
  return {
    crc32c,
    crc32cBlocks(bytes, blockBytes, out, index) {
      for (let at = 0; at + blockBytes <= bytes.length; at += blockBytes)
        out[index + at / blockBytes] = crc32c(bytes.subarray(at, at + blockBytes));
    },
  };
}

function makeTables(): Uint32Array[] {
  const first = Uint32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : polynomial);
    return crc >>> 0;
  });
  const tables = [first];
  for (let index = 1; index < 8; index += 1) {
    const before = tables[index - 1] as Uint32Array;
    tables.push(before.map((crc) => (first[crc & 255] as number) ^ (crc >>> 8)));
  }
  return tables;
}

function update(tables: readonly Uint32Array[], bytes: Uint8Array, seed: number): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ];
  const at8 = (at: number) => bytes[at] as number;
  let crc = ~seed;
  let at = 0;
  for (; at + 8 <= bytes.length; at += 8) {
    crc =
      (t7[(crc ^ at8(at)) & 255] as number) ^
      (t6[((crc >>> 8) ^ at8(at + 1)) & 255] as number) ^
      (t5[((crc >>> 16) ^ at8(at + 2)) & 255] as number) ^
      (t4[((crc >>> 24) ^ at8(at + 3)) & 255] as number) ^
      (t3[at8(at + 4)] as number) ^
      (t2[at8(at + 5)] as number) ^
      (t1[at8(at + 6)] as number) ^
      (t0[at8(at + 7)] as number);
  }
  for (; at < bytes.length; at += 1) crc = (t0[(crc ^ at8(at)) & 255] as number) ^ (crc >>> 8);
  return ~crc >>> 0;
}
