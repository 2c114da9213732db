/**
 * The verifier's record of one disk: what was written, what was acknowledged and flushed, and so what
 * may be found. It knows nothing of Wharf. Every sector says which write made it:
 *
 *   0  u32  magic          16  u32  first sector of its write
 *   4  u32  disk           20  u32  sectors of its write
 *   8  u32  sector         24       filler, the version's low byte
 *  12  u32  version       508  u32  CRC-32 of all before
 *
 * Of a sector may be found: the newest write that was acknowledged, or any later one whose outcome
 * nobody knows. What was found once stays: it is as good as acknowledged.
 */

import { crc32 } from 'node:zlib';

export const sectorBytes = 512;
export const sectorsPerBlock = 8;
const magic = 0x4f41_4843;
const crcAt = sectorBytes - 4;

export interface Write {
  readonly version: number;
  readonly first: number;
  readonly count: number;
}

export class DiskRecord {
  readonly disk: number;
  readonly sectors: number;
  /** The oldest that may be found. */
  readonly #sure: Uint32Array;
  /** When it was acknowledged, by the count of writes; 0 where it was only found. */
  readonly #sureAt: Uint32Array;
  /** Later ones without an answer. */
  readonly #unknown = new Map<number, number[]>();
  readonly #busy: Uint8Array;
  #lastVersion = 0;
  #acknowledged = 0;
  /** As many acknowledgements came before the last flush began that was acknowledged. */
  #flushed = 0;

  constructor(disk: number, sectors: number) {
    this.disk = disk;
    this.sectors = sectors;
    this.#sure = new Uint32Array(sectors);
    this.#sureAt = new Uint32Array(sectors);
    this.#busy = new Uint8Array(sectors);
  }

  get acknowledged(): number {
    return this.#acknowledged;
  }

  get flushed(): number {
    return this.#flushed;
  }

  get lastVersion(): number {
    return this.#lastVersion;
  }

  /** What may be found at least, as it is now. */
  sure(): Uint32Array {
    return this.#sure.slice();
  }

  /** Whether nobody else reads or writes there; then it is the caller's until `release`. */
  take(first: number, count: number): boolean {
    if (this.#busy.subarray(first, first + count).some((busy) => busy !== 0)) return false;
    this.#busy.fill(1, first, first + count);
    return true;
  }

  release(first: number, count: number): void {
    this.#busy.fill(0, first, first + count);
  }

  /** Of a range that the caller has taken. */
  ask(first: number, count: number): Write {
    this.#lastVersion += 1;
    return { version: this.#lastVersion, first, count };
  }

  bytesOf({ version, first, count }: Write): Buffer {
    const bytes = Buffer.alloc(count * sectorBytes, version & 0xff);
    for (let index = 0; index < count; index += 1) {
      const at = index * sectorBytes;
      [magic, this.disk, first + index, version, first, count].forEach((word, place) => {
        bytes.writeUInt32LE(word, at + 4 * place);
      });
      bytes.writeUInt32LE(crc32(bytes.subarray(at, at + crcAt)), at + crcAt);
    }
    return bytes;
  }

  acknowledge({ version, first, count }: Write): void {
    this.#acknowledged += 1;
    this.#sure.fill(version, first, first + count);
    this.#sureAt.fill(this.#acknowledged, first, first + count);
    for (let sector = first; sector < first + count; sector += 1) this.#unknown.delete(sector);
  }

  /** It may have happened, or may happen yet. */
  noteUnknown({ version, first, count }: Write): void {
    for (let sector = first; sector < first + count; sector += 1)
      this.#unknown.set(sector, [...(this.#unknown.get(sector) ?? []), version]);
  }

  /** What a flush promises that begins now. */
  beginFlush(): { readonly acknowledged: number } {
    return { acknowledged: this.#acknowledged };
  }

  endFlush({ acknowledged }: { readonly acknowledged: number }): void {
    this.#flushed = Math.max(this.#flushed, acknowledged);
  }

  /** What is wrong with what was read of a range that the caller has taken. */
  look(first: number, bytes: Buffer): string[] {
    const found = this.#decode(first, bytes);
    const wrong = found.flatMap((each, index) => {
      const sector = first + index;
      if (typeof each === 'string') return [`${this.#name(sector)}: ${each}`];
      return this.#judge(sector, each.version);
    });
    return [...wrong, ...this.#torn(first, found)];
  }

  /** What is wrong with a disk as it was at a moment between two that are known. */
  lookAt(bytes: Buffer, sure: Uint32Array, lastVersion: number): string[] {
    const found = this.#decode(0, bytes);
    const wrong = found.flatMap((each, sector) => {
      if (typeof each === 'string') return [`${this.#name(sector)}: ${each}`];
      const least = sure[sector] as number;
      if (each.version >= least && each.version <= lastVersion) return [];
      return [`${this.#name(sector)}: ${each.version}, not ${least}..${lastVersion}`];
    });
    return [...wrong, ...this.#torn(0, found)];
  }

  #judge(sector: number, version: number): string[] {
    const sure = this.#sure[sector] as number;
    if (version === sure) return [];
    const unknown = this.#unknown.get(sector) ?? [];
    if (unknown.includes(version)) {
      this.#sure[sector] = version;
      this.#sureAt[sector] = 0;
      this.#unknown.set(
        sector,
        unknown.filter((later) => later > version),
      );
      return [];
    }
    const at = this.#sureAt[sector] as number;
    const promise = at === 0 ? 'found before' : at <= this.#flushed ? 'flushed' : 'acknowledged';
    const also = unknown.length > 0 ? ` (or ${unknown.join()}, without an answer)` : '';
    const how = version < sure ? 'is lost' : 'is overwritten by nobody';
    return [`${this.#name(sector)}: write ${sure}, ${promise}, ${how}: found ${version}${also}`];
  }

  /** A write is in all of a block that it covers and nobody has written since, or in nothing of it. */
  #torn(first: number, found: readonly (Write | string)[]): string[] {
    const wrong: string[] = [];
    for (const [index, each] of found.entries()) {
      if (typeof each === 'string' || each.version === 0) continue;
      const sector = first + index;
      const block = Math.floor(sector / sectorsPerBlock) * sectorsPerBlock;
      const from = Math.max(block, each.first, first);
      const to = Math.min(block + sectorsPerBlock, each.first + each.count, first + found.length);
      for (let other = from; other < to; other += 1) {
        const beside = found[other - first];
        if (typeof beside === 'object' && beside.version < each.version)
          wrong.push(
            `${this.#name(sector)}: write ${each.version} is torn: ` +
              `sector ${other} holds ${beside.version}`,
          );
      }
    }
    return wrong;
  }

  /** Sector by sector: the write, or what makes it nobody's. */
  #decode(first: number, bytes: Buffer): (Write | string)[] {
    return Array.from({ length: bytes.length / sectorBytes }, (_, index) => {
      const sector = bytes.subarray(index * sectorBytes, (index + 1) * sectorBytes);
      if (sector.readUInt32LE(0) === 0 && sector.every((byte) => byte === 0))
        return { version: 0, first: 0, count: 0 };
      if (sector.readUInt32LE(crcAt) !== crc32(sector.subarray(0, crcAt)))
        return 'its checksum is wrong';
      const [disk, number, version, start, count] = [4, 8, 12, 16, 20].map((at) =>
        sector.readUInt32LE(at),
      ) as [number, number, number, number, number];
      if (disk !== this.disk || number !== first + index)
        return `it is sector ${number} of disk ${disk}`;
      return { version, first: start, count };
    });
  }

  #name(sector: number): string {
    return `disk ${this.disk} sector ${sector}`;
  }
}
