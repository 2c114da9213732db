/** Listings: struct fuse_dirent (READDIR) and struct fuse_direntplus (READDIRPLUS). */

import type { Attributes, DirectoryEntry } from '../../ports/file-system.ts';
import { encodeEntry, typeBits } from './attributes.ts';
import { clear, entryBytes, setU64 } from './protocol.ts';

const headBytes = 24;
const alignment = 8;

/** How many entries fit into `bytes` at the most: names have at least one byte. */
export function entriesMax(bytes: number, kind: 'plain' | 'plus'): number {
  const smallest = headBytes + alignment + (kind === 'plus' ? entryBytes : 0);
  return Math.floor(bytes / smallest);
}

export class DirectoryWriter {
  readonly #view: DataView;
  readonly #at: number;
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(view: DataView, at: number, bytesMax: number) {
    this.#view = view;
    this.#at = at;
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** False where there is no room: then nothing is written. */
  add(entry: DirectoryEntry): boolean {
    return this.#take(entry, 0);
  }

  /**
   * The same with attributes, which the kernel takes for a LOOKUP; without any (the entry went
   * meanwhile, or is `.` or `..`) the entry is a mere name to it. `timeoutMs` says of those that
   * are written how long they may be believed.
   */
  addPlus(
    entry: DirectoryEntry,
    attributes: Attributes | undefined,
    timeoutMs: (attributes: Attributes) => number,
  ): boolean {
    const at = this.#at + this.#bytes;
    if (!this.#take(entry, entryBytes)) return false;
    if (attributes === undefined) clear(this.#view, at, entryBytes);
    else encodeEntry(this.#view, at, attributes, timeoutMs(attributes));
    return true;
  }

  #take({ name, ino, type, cookie }: DirectoryEntry, before: number): boolean {
    const padded = Math.ceil((headBytes + name.length) / alignment) * alignment;
    if (this.#bytes + before + padded > this.#bytesMax) return false;
    const view = this.#view;
    const at = this.#at + this.#bytes + before;
    setU64(view, at, ino);
    view.setBigUint64(at + 8, cookie, true);
    view.setUint32(at + 16, name.length, true);
    view.setUint32(at + 20, typeBits[type] >> 12, true);
    for (let index = 0; index < padded - headBytes; index += 1)
      view.setUint8(at + headBytes + index, index < name.length ? name.charCodeAt(index) : 0);
    this.#bytes += before + padded;
    return true;
  }
}
