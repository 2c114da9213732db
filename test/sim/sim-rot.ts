/**
 * What rots where it lies: records of journals and of copies, on the SSD of one host, so that of each that has
 * a copy one stays whole. A bit turns, or what belonged elsewhere was written there. Nobody may be
 * told wrong data for it: a damaged block is refused, with an alarm, and a volume that lacks a record
 * is not served. Only what records behind it call durable rots here: of the last ones nobody can tell damage
 * from a torn end.
 */

import { isStorageError } from '../../src/core/errors.ts';
import { limits } from '../../src/core/limits.ts';
import type { RecordHeader } from '../../src/format/journal-record.ts';
import {
  decodeRecordHead,
  fileHeaderBytes,
  payloadOffset,
  recordBytes,
} from '../../src/format/journal-record.ts';
import type { MemoryDisk } from '../../src/platform/memory-disk.ts';
import type { Checksum } from '../../src/ports/checksum.ts';
import { Violation } from './history.ts';
import type { SimHost } from './sim-host.ts';
import type { SimWorld } from './world.ts';

const { blockBytes } = limits;
const folders = ['/data/journal', '/data/replicas'];
const idDigits = 32;
/** Of a power cut after which nothing is there that was not synced. */
const worst = { fraction: () => 0.99, bytes: (count: number) => new Uint8Array(count) };

interface Lying {
  readonly path: string;
  readonly offset: number;
  readonly header: RecordHeader;
  /** Of its payload. */
  readonly firstBlock: Uint8Array;
}

/** What of one disk has rotted. */
export class Rot {
  readonly #blocks = new Set<number>();
  #lacksRecord = false;
  /** Errors that were logged of it. */
  alarms = 0;

  get isAny(): boolean {
    return this.#lacksRecord || this.#blocks.size > 0;
  }

  note(what: number | 'record'): void {
    if (what === 'record') this.#lacksRecord = true;
    else this.#blocks.add(what);
  }

  /** Whether that is why something was refused; of a read: of these bytes. */
  explains(error: unknown, offset = 0, length = Number.POSITIVE_INFINITY): boolean {
    if (error instanceof Violation || !isStorageError(error, 'corrupt')) return false;
    if (this.#lacksRecord) return true;
    const [from, to] = [Math.floor(offset / blockBytes), (offset + length) / blockBytes];
    return this.alarms > 0 && [...this.#blocks].some((block) => block >= from && block < to);
  }
}

/** One record of a journal or a copy that lies there, if there is any. */
export function rot(world: SimWorld, { disk }: SimHost, pick: number): void {
  const found = folders
    .flatMap((folder) => disk.list(folder).map((name) => `${folder}/${name}`))
    .flatMap((folder) => durableRecords(disk, folder, world.checksum));
  const victim = found[pick % found.length];
  const id = victim?.path.split('/').at(-2)?.slice(0, idDigits);
  const owner = world.disks.find((one) => one.id === id);
  if (!owner || !victim) return;
  world.counts.rotted += 1;
  const { path, offset, header } = victim;
  const blocks = header.checksums.length;
  if (blocks === 0 || pick % 3 === 0) {
    disk.flip(path, offset + (pick % payloadOffset(blocks)), 1);
    owner.rot.note('record');
    owner.holders.mayLoseRecords = true;
    return;
  }
  const block = pick % blocks;
  const at = offset + payloadOffset(blocks) + block * blockBytes;
  const other = found.find((one) => one !== victim && one.header.checksums.length > 0);
  if (other && pick % 2 === 0) disk.misdirect(path, at, other.firstBlock);
  else disk.flip(path, at + (pick % blockBytes), 1);
  owner.rot.note(header.block + block);
}

/** Of the journal in the folder, what is durable and known to be. */
function durableRecords(disk: MemoryDisk, folder: string, checksum: Checksum): readonly Lying[] {
  const kept = disk.crash(worst);
  const names = new Set(disk.list(folder));
  const records = kept
    .list(folder)
    .filter((name) => names.has(name))
    .flatMap((name) => recordsOf(kept, `${folder}/${name}`, checksum));
  const durable = Math.max(...records.map(({ header }) => header.durableSequence));
  return records.filter(({ header }) => header.sequence <= durable);
}

function recordsOf(disk: MemoryDisk, path: string, checksum: Checksum): readonly Lying[] {
  const file = disk.open(path, 'read');
  const bytes = new Uint8Array(file.size());
  void file.read(0, bytes);
  const found: Lying[] = [];
  for (let offset = fileHeaderBytes; ; ) {
    const header = decodeRecordHead(bytes.subarray(offset), checksum);
    if (!header) return found;
    const from = offset + payloadOffset(header.checksums.length);
    found.push({ path, offset, header, firstBlock: bytes.slice(from, from + blockBytes) });
    offset += recordBytes(header.checksums.length);
  }
}
