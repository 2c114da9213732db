/**
 * Finds the newest state of the registry that its copy holds whole: of the bases, the newest one whose
 * pieces are all there, with the changes behind it, blob by blob, as far as each continues where the
 * one before it ends. Any such state is one that the registry had. Of two blobs that continue the same
 * revision the later term's counts: its host had taken the work over. Changes of terms before the
 * base's are older than it, and may even be of another life of the registry, whose revisions mean
 * nothing here.
 *
 * What is damaged, or is another vPool's, is told and not believed.
 */

import { isStorageError } from '../../core/errors.ts';
import type { CopyBlob, CopyBlobHead, CopyEntry } from '../../format/registry-copy.ts';
import { decodeCopyBlob } from '../../format/registry-copy.ts';
import type { BlobStore, CallOptions } from '../../ports/blob-store.ts';
import type { Checksum } from '../../ports/checksum.ts';
import { decodeVpool, vpoolKey } from '../vpool-record.ts';
import type { CopyListing } from './copy-bucket.ts';
import { listCopy } from './copy-bucket.ts';

export interface FoundCopy {
  /** Keys of its blobs in the order in which they apply: the base's pieces first. */
  readonly keys: readonly string[];
  readonly revision: number;
  readonly madeMs: number;
  /** Of its base. */
  readonly term: number;
  /** The vPool's, in hex. */
  readonly salt: string;
}

export interface CopySearch {
  readonly copy: FoundCopy | undefined;
  /** Largest term of all that is there. */
  readonly newestTerm: number;
  /** What can't be believed or used, a line each. */
  readonly faults: readonly string[];
}

type Found = CopyListing & { readonly name: NonNullable<CopyListing['name']> };
type Head = CopyBlobHead & { readonly key: string };

export class CopyReader {
  readonly #store: BlobStore;
  readonly #checksum: Checksum;
  readonly #options: CallOptions;
  readonly #faults: string[] = [];

  constructor(store: BlobStore, checksum: Checksum, options: CallOptions = {}) {
    this.#store = store;
    this.#checksum = checksum;
    this.#options = options;
  }

  /** Of the vPool of this name. */
  async find(vpool: string): Promise<CopySearch> {
    const blobs: Found[] = [];
    for (const { key, name } of await listCopy(this.#store, this.#options))
      if (name) blobs.push({ key, name });
      else this.#faults.push(`${key}: no part of a registry's copy`);
    const terms = blobs.flatMap(({ name }) => (name.kind === 'base' ? name.term : []));
    let copy: FoundCopy | undefined;
    for (const term of [...new Set(terms)].sort((a, b) => b - a)) {
      copy = await this.#tryBase(vpool, blobs, term);
      if (copy) break;
    }
    const newestTerm = Math.max(0, ...blobs.map(({ name }) => name.term));
    return { copy, newestTerm, faults: [...new Set(this.#faults)] };
  }

  /** Entries of one blob at a time, to be applied one after another. */
  async *read({ keys }: FoundCopy): AsyncGenerator<readonly CopyEntry[]> {
    for (const key of keys) {
      const body = await this.#store.get(key, this.#options);
      yield decodeCopyBlob(body, this.#checksum).entries;
    }
  }

  async #tryBase(
    vpool: string,
    blobs: readonly Found[],
    term: number,
  ): Promise<FoundCopy | undefined> {
    const pieces = await this.#pieces(vpool, blobs, term);
    const last = pieces?.at(-1);
    if (!pieces || !last) return undefined;
    const changes = await this.#changes(blobs, last);
    const reached = this.#chain(last, changes);
    const end = reached.at(-1);
    // Before that, its pieces are of different moments.
    if (!end || end.untilRevision < last.untilRevision) return undefined;
    const unused = changes.filter(({ fromRevision }) => fromRevision >= end.untilRevision).length;
    if (unused > 0)
      this.#faults.push(`${unused} blobs of later changes: what comes before them is missing`);
    const keys = [...pieces, ...reached].map(({ key }) => key);
    const { salt } = last;
    return { keys, revision: end.untilRevision, madeMs: end.madeMs, term, salt };
  }

  /** All of a base; undefined where it is not whole. */
  async #pieces(
    vpool: string,
    blobs: readonly Found[],
    term: number,
  ): Promise<readonly Head[] | undefined> {
    const found = blobs.filter(({ name }) => name.kind === 'base' && name.term === term);
    const pieces: Head[] = [];
    let isOfVpool = false;
    for (const [index, blob] of found.entries()) {
      const decoded = await this.#decode(blob, pieces[0]?.salt);
      if (!decoded) return undefined;
      const { entries, ...head } = decoded;
      if (head.number !== index + 1) {
        this.#faults.push(`${blob.key}: piece ${index + 1} of its base is missing`);
        return undefined;
      }
      isOfVpool ||= entries.some((entry) => isRecordOf(vpool, head.salt, entry));
      pieces.push({ ...head, key: blob.key });
    }
    // Its host was stopped in the middle of it.
    if (pieces.at(-1)?.isLast !== true) return undefined;
    if (isOfVpool) return pieces;
    this.#faults.push(`base ${term}: not of vPool ${vpool}`);
    return undefined;
  }

  async #changes(blobs: readonly Found[], base: Head): Promise<readonly Head[]> {
    const heads: Head[] = [];
    for (const blob of blobs) {
      if (blob.name.kind !== 'change' || blob.name.term < base.term) continue;
      const decoded = await this.#decode(blob, base.salt);
      if (!decoded) continue;
      const { entries: _entries, ...head } = decoded;
      heads.push({ ...head, key: blob.key });
    }
    return heads;
  }

  #chain(base: Head, changes: readonly Head[]): readonly Head[] {
    const reached: Head[] = [];
    let { fromRevision: revision, term } = base;
    for (;;) {
      const [next] = changes
        .filter((head) => head.fromRevision === revision && head.untilRevision > revision)
        .filter((head) => head.term >= term)
        .sort((a, b) => b.term - a.term || b.number - a.number);
      if (!next) return reached;
      reached.push(next);
      ({ untilRevision: revision, term } = next);
    }
  }

  async #decode({ key, name }: Found, salt: string | undefined): Promise<CopyBlob | undefined> {
    try {
      const blob = decodeCopyBlob(await this.#store.get(key, this.#options), this.#checksum);
      const isInPlace =
        blob.kind === name.kind && blob.term === name.term && blob.number === name.number;
      if (isInPlace && (salt === undefined || blob.salt === salt)) return blob;
      this.#faults.push(`${key}: of another vPool, or under a wrong name`);
    } catch (error) {
      if (!isStorageError(error, 'corrupt') && !isStorageError(error, 'not_found')) throw error;
      this.#faults.push(`${key}: ${error.message}`);
    }
    return undefined;
  }
}

function isRecordOf(vpool: string, salt: string, { key, value }: CopyEntry): boolean {
  if (key !== vpoolKey || !value) return false;
  const record = decodeVpool(value);
  return record.name === vpool && record.salt === salt;
}
