/** What the Volume Driver stands on. */

import type { ObjectId } from '../core/units.ts';
import type { Backend, BlobStore } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import type { Disk } from '../ports/disk.ts';
import type { Log } from '../ports/log.ts';
import type { SegmentSource } from '../ports/segment-source.ts';
import type { ReplicaHosts } from '../log/replica-hosts.ts';
import type { ReplicaMode } from '../log/replicator.ts';
import type { Heads, ObjectRecords } from '../registry/object-records.ts';
import type { SnapshotRecords } from '../registry/snapshot-records.ts';

/** The SSD cache as the driver needs it. */
export interface SegmentSources {
  source(id: ObjectId, store: BlobStore, signal: AbortSignal): SegmentSource;
  /** The volume is gone: what is cached of it may go. */
  forget(id: ObjectId): void;
  /** The SSD is full: so many bytes of it are wanted for a journal. */
  giveWay(bytes: number): void;
}

/** Copies of journals on other hosts. */
export interface Replication {
  readonly mode: ReplicaMode;
  readonly hosts: ReplicaHosts;
  readonly records: Pick<ObjectRecords, 'setTail'>;
  /** Folder on the SSD in which each copy of another host's journal has a folder. */
  readonly folder: string;
}

export interface VolumeDriverDeps {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly checksum: Checksum;
  readonly log: Log;
  readonly backend: Backend;
  readonly sources: SegmentSources;
  readonly heads: Heads;
  readonly snapshots: SnapshotRecords;
  /** Folder on the SSD in which each volume's journal has a folder. */
  readonly journalFolder: string;
  readonly bucketOf: (id: ObjectId) => string;
  readonly replication: Replication;
}
