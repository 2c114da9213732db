/**
 * What fio does, on the product and on what it is compared with: one row each, and what must be
 * reached. To add a row or a baseline is to add it here.
 */

import { KiB, MiB } from '../../src/core/units.ts';
import type { FioJob } from './fio.ts';
import type { Target } from './report.ts';

export interface Against {
  /** Name of a contender; `wharf` itself with another job. */
  readonly of: string;
  /** What that one does; default: the same. */
  readonly job?: FioJob;
  /** What is compared; default: rates. */
  readonly target?: Target;
}

export interface Row {
  readonly name: string;
  readonly job: FioJob;
  readonly against: readonly Against[];
  /** The page cache is emptied before each sample. */
  readonly isUncached?: boolean;
}

const atLeast = (value: number): Target => ({ is: 'at least', value });
const more: Target = { is: 'at least' };
/** Of two that are level, one is ahead by chance. */
const ahead = atLeast(1);

const block = 4 * KiB;
const randomRead: FioJob = { what: 'randread', blockBytes: block, depth: 32 };
const randomWrite: FioJob = { what: 'randwrite', blockBytes: block, depth: 32 };
const oneRead: FioJob = { ...randomRead, depth: 1 };
const mixed: FioJob = { what: 'randrw', blockBytes: block, depth: 32, readsOfHundred: 70 };
const skewed: FioJob = { ...randomRead, isSkewed: true };
const fourReaders: FioJob = { ...randomRead, depth: 8, jobs: 4 };
const synced: FioJob = { what: 'randwrite', blockBytes: block, depth: 1, sync: 'fsync' };
const syncedData: FioJob = { ...synced, sync: 'fdatasync' };
const manySynced: FioJob = { ...synced, jobs: 16 };
const sequentialRead: FioJob = { what: 'read', blockBytes: MiB, depth: 8 };
const sequentialWrite: FioJob = { what: 'write', blockBytes: MiB, depth: 8 };

/** Of the path through FUSE alone: all data are in memory, of everybody. */
export const pathRows: readonly Row[] = [
  {
    name: '4 KiB random read, cached, QD1',
    job: oneRead,
    against: [
      { of: 'passthrough_ll', target: ahead },
      { of: 'qemu-storage-daemon', target: more },
      { of: 'fuse-native', target: more },
      { of: 'bare file', target: more },
    ],
  },
  {
    name: '4 KiB random read, cached, QD32',
    job: randomRead,
    against: [
      { of: 'passthrough_ll', target: atLeast(1.2) },
      { of: 'qemu-storage-daemon', target: more },
      { of: 'fuse-native', target: atLeast(12) },
      { of: 'bare file', target: more },
    ],
  },
  {
    name: '4 KiB random read, cached, zipf, QD32',
    job: skewed,
    against: [{ of: 'passthrough_ll', target: more }],
  },
  {
    name: '4 KiB random read, cached, 4 jobs, QD8 each',
    job: fourReaders,
    against: [{ of: 'passthrough_ll', target: more }],
  },
  {
    name: '4 KiB random write, QD32, no flush',
    job: randomWrite,
    against: [
      { of: 'passthrough_ll', target: atLeast(0.9) },
      { of: 'qemu-storage-daemon', target: more },
      { of: 'fuse-native', target: more },
    ],
  },
  {
    name: '4 KiB, 70 % random read, 30 % random write, QD32',
    job: mixed,
    against: [
      { of: 'passthrough_ll', target: more },
      { of: 'fuse-native', target: more },
    ],
  },
];

/** Of the SSD: what the bare file has of it. */
export const ssdRows: readonly Row[] = [
  {
    name: '4 KiB random read, cache larger than memory, QD32',
    job: randomRead,
    isUncached: true,
    against: [{ of: 'bare file', target: atLeast(0.75) }],
  },
  {
    name: '4 KiB random write + fsync, QD1',
    job: synced,
    against: [
      { of: 'bare file', job: syncedData, target: atLeast(0.85) },
      { of: 'qemu-storage-daemon', target: more },
    ],
  },
  {
    name: '4 KiB random write + fsync, 16 writers',
    job: manySynced,
    against: [
      { of: 'wharf', job: synced, target: atLeast(6) },
      { of: 'bare file', job: { ...manySynced, sync: 'fdatasync' }, target: more },
    ],
  },
  {
    name: '1 MiB sequential read, cached',
    job: sequentialRead,
    against: [{ of: 'bare file', target: atLeast(0.8) }],
  },
  {
    name: '1 MiB sequential write',
    job: sequentialWrite,
    against: [{ of: 'bare file', target: atLeast(0.8) }],
  },
];

const rivals = (s3backer: Target): readonly Against[] => [
  { of: 's3backer', target: s3backer },
  { of: 'GlusterFS', target: ahead },
  { of: 'Ceph RBD', target: ahead },
];

/** Against products that do the same; each with its store or brick on this machine. */
export const rivalRows: readonly Row[] = [
  { name: '4 KiB random read, cached, QD1', job: oneRead, against: rivals(ahead) },
  { name: '4 KiB random read, cached, QD32', job: randomRead, against: rivals(atLeast(5)) },
  { name: '4 KiB random read, cached, zipf, QD32', job: skewed, against: rivals(ahead) },
  { name: '4 KiB random read, cached, 4 jobs, QD8 each', job: fourReaders, against: rivals(ahead) },
  { name: '4 KiB random write, QD32, no flush', job: randomWrite, against: rivals(atLeast(4)) },
  { name: '4 KiB, 70 % random read, 30 % random write', job: mixed, against: rivals(ahead) },
  { name: '4 KiB random write + fsync, QD1', job: synced, against: rivals(ahead) },
  { name: '4 KiB random write + fsync, 16 writers', job: manySynced, against: rivals(ahead) },
  { name: '1 MiB sequential read, cached', job: sequentialRead, against: rivals(ahead) },
  { name: '1 MiB sequential write', job: sequentialWrite, against: rivals(ahead) },
];

/** What is written is read back and compared. */
export const verifiedJobs: readonly FioJob[] = [
  randomWrite,
  mixed,
  sequentialWrite,
  { ...synced, sync: 'fsync' },
];
