/**
 * Values of registry keys as they were at known revisions. Keys are known in groups, which are read
 * together: that a group holds no more than what is known of it is knowledge as well.
 *
 * What is newer wins, whatever comes first: a change is taken by a key whose own revision, and that
 * of the read which brought the group, are not newer; a read is taken if no change behind its
 * revision was met while it was under way. So the order in which changes of one's own, changes of
 * others and reads come in does not matter.
 */

import { LRUCache } from '../core/lru-cache.ts';
import type { KeyValue, RangeResult, WatchEvent } from '../ports/registry.ts';

interface Group {
  /** Of the read that brought all of the group; what is only known in part answers nothing. */
  readonly wholeAt: number | undefined;
  /** Deleted ones as well, for the revision. */
  readonly keys: Map<string, WatchEvent>;
}

/** A read of a whole group that is under way. */
export interface Reading {
  readonly group: string;
  /** The result counts only if it is not older than that. */
  notBefore: number;
}

export class KeyCache {
  readonly #groups: LRUCache<string, Group>;
  readonly #readings = new Map<string, Set<Reading>>();
  readonly #groupOf: (key: string) => string | undefined;

  /** `groupOf`: undefined for what is not kept here. A key that is its own group is the only one. */
  constructor(groupOf: (key: string) => string | undefined, groupsMax: number) {
    this.#groupOf = groupOf;
    this.#groups = new LRUCache({ max: groupsMax });
  }

  get size(): number {
    return this.#groups.size;
  }

  /** All that the group holds, in order, where that is known. */
  find(group: string): readonly KeyValue[] | undefined {
    const known = this.#groups.get(group);
    if (known?.wholeAt === undefined) return undefined;
    const entries: KeyValue[] = [];
    for (const { key, value, revision } of known.keys.values())
      if (value !== undefined) entries.push({ key, value, revision });
    return entries.length < 2 ? entries : entries.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** The last value that is known of a key, of a whole group or not. */
  lastValue(key: string): Uint8Array | undefined {
    const group = this.#groupOf(key);
    return group === undefined ? undefined : this.#groups.peek(group)?.keys.get(key)?.value;
  }

  /** Paired with `endRead`. */
  beginRead(group: string): Reading {
    const reading = { group, notBefore: 0 };
    const others = this.#readings.get(group);
    if (others) others.add(reading);
    else this.#readings.set(group, new Set([reading]));
    return reading;
  }

  /** Without a result where it failed. */
  endRead(reading: Reading, result?: RangeResult): void {
    const { group, notBefore } = reading;
    const readings = this.#readings.get(group);
    readings?.delete(reading);
    if (readings?.size === 0) this.#readings.delete(group);
    if (!result || result.revision < notBefore) return;
    const known = this.#groups.peek(group);
    if (known?.wholeAt !== undefined && known.wholeAt > result.revision) return;
    const keys = new Map<string, WatchEvent>(result.entries.map((entry) => [entry.key, entry]));
    this.#groups.set(group, { wholeAt: result.revision, keys });
  }

  /** Notes single keys of groups that may hold more. */
  note(entries: readonly KeyValue[]): void {
    for (const entry of entries) {
      const group = this.#groupOf(entry.key);
      if (group === undefined) continue;
      const known = this.#groups.get(group);
      if (!known)
        this.#groups.set(group, { wholeAt: undefined, keys: new Map([[entry.key, entry]]) });
      else if (known.wholeAt === undefined) this.#takeKey(known, entry);
    }
  }

  /** A change that happened, told by a watch or made by this process (`own`). */
  apply(change: WatchEvent, whose: 'own' | 'watched'): void {
    const { key, revision } = change;
    const group = this.#groupOf(key);
    if (group === undefined) return;
    for (const reading of this.#readings.get(group) ?? [])
      reading.notBefore = Math.max(reading.notBefore, revision);
    const known = this.#groups.peek(group);
    if (known) this.#takeKey(known, change);
    else if (whose === 'own' && group === key)
      this.#groups.set(group, { wholeAt: revision, keys: new Map([[key, change]]) });
  }

  /** It may be out of date: the next read goes to the registry, and none under way counts. */
  forget(key: string): void {
    const group = this.#groupOf(key);
    if (group === undefined) return;
    this.#groups.delete(group);
    for (const reading of this.#readings.get(group) ?? [])
      reading.notBefore = Number.POSITIVE_INFINITY;
  }

  clear(): void {
    this.#groups.clear();
    for (const readings of this.#readings.values())
      for (const reading of readings) reading.notBefore = Number.POSITIVE_INFINITY;
  }

  #takeKey({ wholeAt = 0, keys }: Group, change: WatchEvent): void {
    const known = keys.get(change.key)?.revision ?? 0;
    if (change.revision >= Math.max(wholeAt, known)) keys.set(change.key, change);
  }
}
