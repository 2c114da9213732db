/** What an increment between two snapshots is checked by. */

import type { Checksum } from '../ports/checksum.ts';

/** Of blocks whose own CRC-32Cs are given: the CRC-32C of those, little-endian. */
export function blocksChecksum(checksums: Uint32Array, checksum: Checksum): number {
  const bytes = new DataView(new ArrayBuffer(checksums.length * 4));
  checksums.forEach((crc, index) => bytes.setUint32(index * 4, crc, true));
  return checksum.crc32c(new Uint8Array(bytes.buffer));
}
