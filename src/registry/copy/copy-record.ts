/**
 * What the registry knows of its copy in the buckets, and whose work it is.
 *
 *   Wcopier   {host}: bound to a lease; whoever has it writes, and nobody else
 *   Wcopy     how far the copy is: every change of it compares Wcopier
 */

import { StorageError } from '../../core/errors.ts';
import type { CallOptions } from '../../ports/blob-store.ts';
import type { Registry } from '../../ports/registry.ts';
import { encodeRecord, RecordReader } from '../record.ts';
import { copyPrefix } from './copied-keys.ts';

export const copierKey = `${copyPrefix}copier`;
export const copyKey = `${copyPrefix}copy`;

export interface CopyRecord {
  /** Of the last one that began; see format/registry-copy.ts. */
  readonly term: number;
  /** Term of the base that counts, and of the one before it, which is kept as well; 0: none yet. */
  readonly base: number;
  readonly before: number;
  /** The copy holds everything up to here. */
  readonly revision: number;
  /** When that was written, ms since 1970, and by whom. */
  readonly madeMs: number;
  readonly host: string;
  readonly baseBytes: number;
  /** Of what was written since the base was begun. */
  readonly changeBytes: number;
  readonly changeBlobs: number;
}

export const noCopy: CopyRecord = {
  ...{ term: 0, base: 0, before: 0, revision: 0, madeMs: 0, host: '' },
  ...{ baseBytes: 0, changeBytes: 0, changeBlobs: 0 },
};

export function encodeCopyRecord(record: CopyRecord): Uint8Array {
  return encodeRecord(record);
}

function decodeCopyRecord(bytes: Uint8Array): CopyRecord {
  const fields = new RecordReader('copy of the registry', bytes);
  const count = (name: keyof CopyRecord) => fields.count(name);
  return {
    ...{ term: count('term'), base: count('base'), before: count('before') },
    ...{ revision: count('revision'), madeMs: count('madeMs'), host: fields.text('host') },
    ...{ baseBytes: count('baseBytes'), changeBytes: count('changeBytes') },
    changeBlobs: count('changeBlobs'),
  };
}

/** The record, and the revision to compare where it is there. */
export async function readCopyRecord(
  registry: Registry,
  options?: CallOptions,
): Promise<{ readonly record: CopyRecord; readonly revision: number | undefined }> {
  const found = await registry.get(copyKey, options);
  return { record: found ? decodeCopyRecord(found.value) : noCopy, revision: found?.revision };
}

/** Throws `fenced` where another host does the work by now. */
export async function replaceCopyRecord(
  registry: Registry,
  session: number,
  record: CopyRecord,
  options: CallOptions,
): Promise<number> {
  const compares = [{ key: copierKey, is: 'at', revision: session } as const];
  const writes = [{ key: copyKey, put: encodeCopyRecord(record) }];
  const outcome = await registry.transact({ compares, writes }, options);
  if (outcome.committed) return outcome.revision;
  throw new StorageError('fenced', 'another host copies the registry');
}
