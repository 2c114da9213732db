/**
 * Other products on this machine, each as it is meant to be used: s3backer and Wharf over the same
 * object store, both with a cache on the disk; GlusterFS with its brick on the disk; Ceph RBD with
 * its data in memory, which is more than it would have.
 */

import { MiB } from '../../src/core/units.ts';
import type { Ceph } from '../support/ceph.ts';
import type { Entrant } from './compare.ts';
import { compareRow, Field, subject } from './compare.ts';
import { glusterMissing, startGluster } from './contenders/gluster.ts';
import { cephRbdMissing, S3backer, s3backerMissing, startCephRbd } from './contenders/rivals.ts';
import { Wharf } from './contenders/wharf.ts';
import type { Effort } from './effort.ts';
import type { ObjectStore } from './object-store.ts';
import { withObjectStore } from './object-store.ts';
import type { Report } from './report.ts';
import { rivalRows } from './rows.ts';

/** What s3backer writes is in the store soon, and disturbs nobody else's sample. */
const diskBytes = 64 * MiB;

export function rivals(report: Report, effort: Effort): Promise<void> {
  return withObjectStore(report, async (store, ceph) => {
    await using field = await Field.start(entrants(store, ceph), { diskBytes }, report);
    for (const row of rivalRows) await compareRow(report, field, row, effort);
  });
}

function entrants(store: ObjectStore, ceph: Ceph): readonly Entrant[] {
  return [
    { name: subject, start: (place) => Wharf.start(place, { backend: store.backend }) },
    {
      ...{ name: 's3backer', missing: s3backerMissing },
      start: (place) => S3backer.start(place, store, 'bench-s3backer'),
    },
    { name: 'GlusterFS', missing: glusterMissing, start: startGluster },
    {
      ...{ name: 'Ceph RBD', missing: cephRbdMissing },
      start: (place) => startCephRbd(place, ceph),
    },
  ];
}
