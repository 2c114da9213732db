/**
 * Whether a file is still what it was when it was last opened here, in which case the kernel may keep
 * the pages that it has of it. What is not known, or no longer known, has changed.
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
  note(attributes: Attributes): boolean {
    const { ino } = attributes;
    const version = versionOf(attributes);
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

/** Another one with each change of content. */
export function versionOf({ sizeBytes, modifiedNs, changedNs }: Attributes): string {
  return `${sizeBytes} ${modifiedNs} ${changedNs}`;
}
