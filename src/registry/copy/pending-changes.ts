/** Changes of the registry that are not in its copy yet: of each key, what it is by now. */

import type { CopyEntry } from '../../format/registry-copy.ts';
import { copyEntryBytes } from '../../format/registry-copy.ts';
import type { WatchEvent } from '../../ports/registry.ts';
import { isCopied } from './copied-keys.ts';

export class PendingChanges {
  readonly #entries = new Map<string, CopyEntry>();
  bytes = 0;

  get isEmpty(): boolean {
    return this.#entries.size === 0;
  }

  get entries(): readonly CopyEntry[] {
    return [...this.#entries.values()];
  }

  /** The changes of one transaction. */
  note(events: readonly WatchEvent[]): void {
    for (const { key, value } of events) {
      if (!isCopied(key)) continue;
      const before = this.#entries.get(key);
      // Not a part of whatever it came in.
      const entry = { key, value: value && Uint8Array.from(value) };
      this.bytes += copyEntryBytes(entry) - (before ? copyEntryBytes(before) : 0);
      this.#entries.set(key, entry);
    }
  }
}
