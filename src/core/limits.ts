/**
 * Every bound of the domain that is not a user's to set, with its unit in its name; the relations
 * between them are asserted when this file is loaded.
 */

import { invariant } from './invariant.ts';
import { KiB, MiB, TiB } from './units.ts';

export const limits = {
  /** The unit of the block map and of every checksum. */
  blockBytes: 4 * KiB,
  /** Largest volume. */
  volumeBytesMax: 64 * TiB,
  /** Largest single request of a front end. */
  requestBytesMax: 1 * MiB,
  /** A file of this size or more is a volume. */
  promoteBytes: 64 * MiB,
  /** A file is kept in pieces of this size. */
  pieceBytes: 1 * MiB,
  /** Smallest and largest payload of a segment that settings may ask for. */
  segmentBytesMin: 64 * KiB,
  segmentBytesMax: 64 * MiB,
  fileNameBytesMax: 255,
  symlinkBytesMax: 4095,
  xattrNameBytesMax: 255,
  xattrValueBytesMax: 64 * KiB,
  linkCountMax: 65_000,
  /** Locks of one host's processes on one object: a message has room for twice as many. */
  locksPerObjectMax: 4096,
  /** Of a VM of which a snapshot is made: names, vDisks among them, and folders in each other. */
  vmMembersMax: 1000,
  vmDisksMax: 64,
  vmDepthMax: 16,
  /** Entries of one page of any listing. */
  listEntriesMax: 1000,
  /** A registry value; etcd's own bound is 1.5 MiB. */
  registryValueBytesMax: 512 * KiB,
  /** All values of a registry transaction together. */
  registryTransactionBytesMax: 1 * MiB,
  /** Writes, and compares, of a registry transaction; etcd's own bound is 128. */
  registryOperationsMax: 100,
} as const;

invariant(limits.promoteBytes % limits.pieceBytes === 0, 'a promoted file is whole pieces');
invariant(limits.requestBytesMax % limits.blockBytes === 0, 'a full request is whole blocks');
invariant(limits.segmentBytesMin % limits.blockBytes === 0, 'a segment is whole blocks');
invariant(
  limits.volumeBytesMax / limits.blockBytes < Number.MAX_SAFE_INTEGER,
  'a block number is an exact number',
);
invariant(
  limits.vmDisksMax + 10 < limits.registryOperationsMax,
  'a transaction compares the snapshots of all disks of a VM',
);
invariant(
  limits.registryValueBytesMax <= limits.registryTransactionBytesMax,
  'a transaction has room for the largest value',
);
