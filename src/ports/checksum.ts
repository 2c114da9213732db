/**
 * CRC-32C (Castagnoli, RFC 3720 appendix B.4; reflected polynomial 0x82F63B78), as an unsigned
 * 32-bit number.
 */
export interface Checksum {
  /** Of the whole of `bytes`, going on from `seed` (the CRC of what came before; 0 at the start). */
  crc32c(bytes: Uint8Array, seed?: number): number;
  /** Of each whole block of `blockBytes` in `bytes`, into `out` from `index` on. */
  crc32cBlocks(bytes: Uint8Array, blockBytes: number, out: Uint32Array, index: number): void;
}
