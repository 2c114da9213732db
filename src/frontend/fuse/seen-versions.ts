/**
 * Whether a file is still what it was when it was last opened here: then the kernel may keep the
 * pages that it has of it. What is not known, or no longer known, has changed.
 */

import type { Ino } from '../../core/units.ts';
import type { Attributes } from '../../ports/file-system.ts';

export class SeenVersions {
  readonly #seen = new Map<Ino, string>();
  readonly #filesMax: number;

  constructor(filesMax: number) {
    this.#filesMax = filesMax;
  }

  /** Notes the file as it is now; true where it was noted just so before. */
  note({ ino, sizeBytes, modifiedNs, changedNs }: Attributes): boolean {
    const version = `${sizeBytes} ${modifiedNs} ${changedNs}`;
    const isSame = this.#seen.get(ino) === version;
    // Goes to the end, so that the one that was opened longest ago is the first.
    this.#seen.delete(ino);
    this.#seen.set(ino, version);
    if (this.#seen.size > this.#filesMax) {
      const [oldest] = this.#seen.keys();
      if (oldest !== undefined) this.#seen.delete(oldest);
    }
    return isSame;
  }
}
