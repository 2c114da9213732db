/** Reads the records of a journal that nobody appends to any more, to be sent to another host. */

import type { DiskFile } from '../ports/disk.ts';
import { recordBytes } from '../format/journal-record.ts';
import { journalFileName, readAt } from './journal-file.ts';
import type { FoundRecord, RecoveryDeps } from './journal-recovery.ts';
import { recoverJournal } from './journal-recovery.ts';
import { tailChunkBytesMax } from './tail-store.ts';

export class TailReader {
  readonly #deps: RecoveryDeps;
  readonly #records: readonly FoundRecord[];
  readonly #files = new Map<number, DiskFile>();

  private constructor(deps: RecoveryDeps, records: readonly FoundRecord[]) {
    this.#deps = deps;
    this.#records = records;
  }

  /** Of the records behind `afterSequence`, of tenures up to `epoch`. Throws `corrupt`. */
  static async open(deps: RecoveryDeps, epoch: number, afterSequence: number) {
    const { records } = await recoverJournal(deps, epoch, afterSequence);
    return new TailReader(deps, records);
  }

  /** Whole records behind `afterSequence`, one behind another; empty at the end. */
  async read(afterSequence: number): Promise<Uint8Array> {
    const first = this.#records[0]?.header.sequence ?? 0;
    let bytes = 0;
    const chosen: FoundRecord[] = [];
    for (
      let index = Math.max(0, afterSequence + 1 - first);
      index < this.#records.length;
      index += 1
    ) {
      const record = this.#records[index] as FoundRecord;
      const length = recordBytes(record.header.checksums.length);
      if (bytes + length > tailChunkBytesMax) break;
      bytes += length;
      chosen.push(record);
    }
    const chunk = new Uint8Array(bytes);
    let at = 0;
    for (const record of chosen) {
      const length = recordBytes(record.header.checksums.length);
      await readAt(this.#file(record.file), record.offset, chunk.subarray(at, at + length));
      at += length;
    }
    return chunk;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#files.values()].map((file) => file.close()));
  }

  #file(number: number): DiskFile {
    const { disk, folder } = this.#deps;
    const file =
      this.#files.get(number) ?? disk.open(`${folder}/${journalFileName(number)}`, 'read');
    this.#files.set(number, file);
    return file;
  }
}
