/**
 * The journal's tail of a volume that changes hands, where it will be replayed. It is put beside the place of the journal and takes it in one rename, so a fetch
 * that is broken off leaves nothing that could be taken for a journal.
 */

import { StorageError } from '../core/errors.ts';
import type { ObjectId } from '../core/units.ts';
import { Journal } from '../log/journal.ts';
import type { FoundFile } from '../log/journal-recovery.ts';
import { folderName } from '../log/replica-server.ts';
import { TailStore } from '../log/tail-store.ts';
import type { Tail } from '../ports/tenure.ts';
import type { VolumeDriverDeps } from './volume-deps.ts';
import { IncomingTail } from './incoming-tail.ts';
import { findHead } from './recovery.ts';

const incoming = '.incoming';

export class TailTransfer {
  readonly #deps: VolumeDriverDeps;
  readonly #fileBytes: number;
  /** What journals hold that were put here and not opened yet: it was verified as it came. */
  readonly #received = new Map<ObjectId, readonly FoundFile[]>();

  constructor(deps: VolumeDriverDeps, fileBytes: number) {
    this.#deps = deps;
    this.#fileBytes = fileBytes;
  }

  /** For the journal of a tenure that has not ended yet. */
  async receive(id: ObjectId, epoch: number): Promise<IncomingTail> {
    const { disk, checksum, heads, journalFolder } = this.#deps;
    const head = await findHead(heads, id, checksum);
    this.#received.delete(id);
    const folder = `${this.#folder(id)}${incoming}`;
    const store = TailStore.begin({ disk, checksum }, { folder, fileBytes: this.#fileBytes });
    return new IncomingTail({
      ...{ store, epoch, tag: checksum.crc32c(Buffer.from(id)) },
      afterSequence: head?.journalSequence ?? 0,
      place: async (files) => {
        await Journal.destroy(disk, this.#folder(id));
        disk.rename(folder, this.#folder(id));
        disk.syncFolder(journalFolder);
        this.#received.set(id, files);
      },
      remove: () => disk.removeFolder(folder),
    });
  }

  /**
   * Makes the journal what a tenure begins with. `unavailable` where the SSD has lost it: the
   * registry says that there are changes which only this host has. Gives what it holds, where that
   * need not be read.
   */
  async adopt(id: ObjectId, tail: Tail): Promise<readonly FoundFile[] | undefined> {
    const { disk, journalFolder, replication } = this.#deps;
    const received = this.#received.get(id);
    this.#received.delete(id);
    if (tail === 'backend') {
      await this.discard(id);
      return undefined;
    }
    const copy = typeof tail === 'object' && folderName(id, tail.copy);
    if (copy !== false && disk.list(replication.folder).includes(copy)) {
      await this.discard(id);
      disk.makeFolder(journalFolder);
      disk.rename(`${replication.folder}/${copy}`, this.#folder(id));
      disk.syncFolder(journalFolder);
      disk.syncFolder(replication.folder);
      return undefined;
    }
    if (!disk.list(journalFolder).includes(id))
      throw new StorageError(
        'unavailable',
        `object ${id} waits for an administrator: its last changes are not on this host's SSD any more`,
      );
    return received;
  }

  /** The volume is another host's now, or all of it is on the backend. */
  discard(id: ObjectId): Promise<void> {
    this.#received.delete(id);
    return Journal.destroy(this.#deps.disk, this.#folder(id));
  }

  #folder(id: ObjectId): string {
    return `${this.#deps.journalFolder}/${id}`;
  }
}
