/**
 * The committed head and the only way to advance it: one commit at a time, each a transaction that
 * compares the epoch. Trouble of the registry is waited for below; what fails here is final.
 */

import type { Epoch, ObjectId } from '../core/units.ts';
import type { Head } from '../format/head.ts';
import { encodeHead } from '../format/head.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Write } from '../ports/registry.ts';
import type { Heads } from '../registry/object-records.ts';

export class HeadCommitter {
  readonly #heads: Heads;
  readonly #checksum: Checksum;
  readonly #id: ObjectId;
  readonly #epoch: Epoch;
  #head: Head;
  #last: Promise<void> = Promise.resolve();

  constructor(
    heads: Heads,
    checksum: Checksum,
    tenure: { readonly objectId: ObjectId; readonly epoch: Epoch },
    head: Head,
  ) {
    this.#heads = heads;
    this.#checksum = checksum;
    this.#id = tenure.objectId;
    this.#epoch = tenure.epoch;
    this.#head = head;
  }

  /** As it is committed. */
  get head(): Head {
    return this.#head;
  }

  /**
   * Commits what `change` makes of the head, together with what `also` writes beside it; `then` runs
   * in the same turn in which the commit is known, before anything else can look at the new head.
   */
  commit(
    change: (head: Head) => Head,
    then: () => void,
    also?: (encoded: Uint8Array) => readonly Write[],
  ): Promise<void> {
    const commit = this.#last.then(async () => {
      const next = { ...change(this.#head), epoch: this.#epoch };
      const encoded = encodeHead(next, this.#checksum);
      await this.#heads.commitHead(this.#id, this.#epoch, encoded, also?.(encoded));
      this.#head = next;
      then();
    });
    // A failed commit ends the volume; the chain only keeps later ones from overtaking it.
    this.#last = commit;
    commit.catch(() => {});
    return commit;
  }
}
