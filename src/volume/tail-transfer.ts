/**
 * The journal's tail of a volume that changes hands: read where it was written, put where it will
 * be replayed. It is put beside the place of the journal and takes it in one rename, so a fetch
 * that is broken off leaves nothing that could be taken for a journal.
 */

import { invariant } from '../core/invariant.ts';
import { StorageError } from '../core/errors.ts';
import type { ObjectId } from '../core/units.ts';
import { Journal } from '../log/journal.ts';
import { folderName } from '../log/replica-server.ts';
import { TailReader } from '../log/tail-reader.ts';
import { recordsIn, TailStore } from '../log/tail-store.ts';
import type { Tail } from '../ports/tenure.ts';
import type { VolumeDriverDeps } from './volume-deps.ts';
import { findHead } from './recovery.ts';

const incoming = '.incoming';

export class TailTransfer {
  readonly #deps: VolumeDriverDeps;
  readonly #fileBytes: number;

  constructor(deps: VolumeDriverDeps, fileBytes: number) {
    this.#deps = deps;
    this.#fileBytes = fileBytes;
  }

  /** Sequence of the last record that the committed head holds. */
  async committedSequence(id: ObjectId): Promise<number> {
    const { heads, checksum } = this.#deps;
    return (await findHead(heads, id, checksum))?.journalSequence ?? 0;
  }

  /** Of a volume that is not open here, whose journal is. */
  async read(id: ObjectId, epoch: number): Promise<TailReader> {
    const { disk, checksum, log } = this.#deps;
    const tag = checksum.crc32c(Buffer.from(id));
    const deps = { disk, checksum, log, tag, folder: this.#folder(id) };
    return TailReader.open(deps, epoch, await this.committedSequence(id));
  }

  /**
   * Puts what `fetch` gives of the records behind a sequence into the place of the journal, durable.
   * `fetch` gives an empty chunk at the end.
   */
  async import(
    id: ObjectId,
    epoch: number,
    fetch: (afterSequence: number) => Promise<Uint8Array>,
  ): Promise<void> {
    const { disk, checksum } = this.#deps;
    const folder = `${this.#folder(id)}${incoming}`;
    const store = TailStore.begin({ disk, checksum }, { folder, fileBytes: this.#fileBytes });
    try {
      let after = await this.committedSequence(id);
      for (;;) {
        const records = await fetch(after);
        if (records.length === 0) break;
        const [first] = recordsIn(records, checksum);
        invariant(first?.header.sequence === after + 1, 'a tail has no gap');
        store.append(epoch, records);
        after = store.lastSequence as number;
      }
      await store.sync();
    } finally {
      await store.close();
    }
    await Journal.destroy(disk, this.#folder(id));
    disk.rename(folder, this.#folder(id));
    disk.syncFolder(this.#deps.journalFolder);
  }

  /**
   * Makes the journal what a tenure begins with. `unavailable` where the SSD has lost it: the
   * registry says that there are changes which only this host has.
   */
  async adopt(id: ObjectId, tail: Tail): Promise<void> {
    const { disk, journalFolder, replication } = this.#deps;
    if (tail === 'backend') return this.discard(id);
    const copy = typeof tail === 'object' && folderName(id, tail.copy);
    if (copy !== false && disk.list(replication.folder).includes(copy)) {
      await this.discard(id);
      disk.makeFolder(journalFolder);
      disk.rename(`${replication.folder}/${copy}`, this.#folder(id));
      disk.syncFolder(journalFolder);
      disk.syncFolder(replication.folder);
    } else if (!disk.list(journalFolder).includes(id))
      throw new StorageError(
        'unavailable',
        `object ${id} waits for an administrator: its last changes are not on this host's SSD any more`,
      );
  }

  /** The volume is another host's now, or all of it is on the backend. */
  discard(id: ObjectId): Promise<void> {
    return Journal.destroy(this.#deps.disk, this.#folder(id));
  }

  #folder(id: ObjectId): string {
    return `${this.#deps.journalFolder}/${id}`;
  }
}
