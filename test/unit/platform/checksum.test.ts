import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { nativeChecksum, tableChecksum } from '../../../src/platform/checksum.ts';
import { loadNative } from '../../../src/platform/native.ts';
import { seededRandom } from '../../../src/platform/random.ts';
import type { Checksum } from '../../../src/ports/checksum.ts';

/** RFC 3720 appendix B.4, and the check value of the Rocksoft model. */
const vectors: readonly (readonly [what: string, bytes: Uint8Array, crc: number])[] = [
  ['nothing', new Uint8Array(0), 0],
  ['32 bytes of zeroes', new Uint8Array(32), 0x8a91_36aa],
  ['32 bytes of ones', new Uint8Array(32).fill(0xff), 0x62a8_ab43],
  ['32 bytes counting up', Uint8Array.from({ length: 32 }, (_, index) => index), 0x46dd_794e],
  ['32 bytes counting down', Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113f_db5c],
  [
    'an iSCSI read command',
    Uint8Array.from(
      Buffer.from(
        '01c00000000000000000000000000000' +
          '14000000000004000000001400000018' +
          '28000000000000000200000000000000',
        'hex',
      ),
    ),
    0xd996_3a56,
  ],
  ['the digits 1 to 9', Uint8Array.from(Buffer.from('123456789')), 0xe306_9283],
];

/** A bit at a time, as the polynomial is defined. */
function bitwise(bytes: Uint8Array, seed = 0): number {
  let crc = ~seed;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : 0x82f6_3b78);
  }
  return ~crc >>> 0;
}

function checksumTests(name: string, checksum: Checksum | undefined, reason: string): void {
  const it = (title: string, body: (checksum: Checksum) => void) =>
    test(title, { skip: checksum === undefined && `no addon: ${reason}` }, () => {
      if (checksum) body(checksum);
    });

  describe(`CRC-32C ${name}`, () => {
    it('has the values of RFC 3720', (checksum) => {
      for (const [what, bytes, crc] of vectors) assert.equal(checksum.crc32c(bytes), crc, what);
    });

    it('agrees with the definition at every length and alignment', (checksum) => {
      const memory = seededRandom(1).bytes(20_000);
      for (let length = 0; length <= 300; length += 1) {
        const bytes = memory.subarray(length % 9, (length % 9) + length);
        assert.equal(checksum.crc32c(bytes), bitwise(bytes), `${length} bytes`);
      }
      // Around the stride at which three streams are joined.
      for (const around of [1360, 2720, 4080, 4096, 8160, 8192, 12_240])
        for (let length = around - 9; length <= around + 9; length += 1) {
          const bytes = memory.subarray(3, 3 + length);
          assert.equal(checksum.crc32c(bytes), bitwise(bytes), `${length} bytes`);
        }
    });

    it('goes on from a seed', (checksum) => {
      const bytes = seededRandom(2).bytes(10_000);
      const whole = checksum.crc32c(bytes);
      for (const cut of [0, 1, 7, 8, 4079, 4080, 4081, 9999, 10_000])
        assert.equal(
          checksum.crc32c(bytes.subarray(cut), checksum.crc32c(bytes.subarray(0, cut))),
          whole,
        );
    });

    it('gives the CRC of each whole block, where it was asked to', (checksum) => {
      const bytes = seededRandom(3).bytes(3 * 4096 + 100);
      const out = new Uint32Array(8).fill(7);
      checksum.crc32cBlocks(bytes, 4096, out, 2);
      const block = (index: number) => bitwise(bytes.subarray(index * 4096, (index + 1) * 4096));
      assert.deepEqual([...out], [7, 7, block(0), block(1), block(2), 7, 7, 7]);
    });

    it('writes nothing behind the end of its table', (checksum) => {
      const memory = new Uint32Array(8).fill(7);
      checksum.crc32cBlocks(new Uint8Array(64 * 6), 64, memory.subarray(2, 6), 1);
      assert.deepEqual([memory[0], memory[1], memory[2], memory[6], memory[7]], [7, 7, 7, 7, 7]);
      assert.equal(memory[5], bitwise(new Uint8Array(64)));
    });

    it('changes with every bit of a block', (checksum) => {
      const bytes = seededRandom(4).bytes(4096);
      const right = checksum.crc32c(bytes);
      for (let bit = 0; bit < 4096 * 8; bit += 37) {
        const at = bit >> 3;
        bytes[at] = (bytes[at] as number) ^ (1 << (bit & 7));
        assert.notEqual(checksum.crc32c(bytes), right, `bit ${bit}`);
        bytes[at] = (bytes[at] as number) ^ (1 << (bit & 7));
      }
    });
  });
}

const loaded = loadNative();
const native = loaded.native ? nativeChecksum(loaded.native) : undefined;
checksumTests('by table', tableChecksum(), '');
checksumTests('by the addon', native, loaded.native ? '' : loaded.reason);
