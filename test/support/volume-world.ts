/**
 * All that a volume stands on, in memory: a disk that can crash, a backend that can fail, a
 * registry of heads that compares epochs. A world outlives the volumes opened in it.
 */

import assert from 'node:assert/strict';
import type { Faults } from '../../src/backend/with-faults.ts';
import { noFaults, withFaults } from '../../src/backend/with-faults.ts';
import { MemoryBackend } from '../../src/backend/memory-backend.ts';
import { RetryMonitor, withRetry } from '../../src/backend/with-retry.ts';
import { ChunkVerifier } from '../../src/cache/chunk-verifier.ts';
import { directSource } from '../../src/cache/direct-source.ts';
import { SegmentFetcher } from '../../src/cache/segment-fetcher.ts';
import { SegmentCache } from '../../src/cache/segment-cache.ts';
import type { ObjectId } from '../../src/core/units.ts';
import { StorageError } from '../../src/core/errors.ts';
import { hostId, KiB, objectId } from '../../src/core/units.ts';
import { cloneHead, decodeHead, encodeHead } from '../../src/format/head.ts';
import { ReplicaHosts } from '../../src/log/replica-hosts.ts';
import { tableChecksum } from '../../src/platform/checksum.ts';
import { MemoryDisk } from '../../src/platform/memory-disk.ts';
import { seededRandom } from '../../src/platform/random.ts';
import { systemClock } from '../../src/platform/system-clock.ts';
import type { Clock } from '../../src/ports/clock.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { ObjectRecords, putObject } from '../../src/registry/object-records.ts';
import type { SnapshotRecord } from '../../src/registry/snapshot-records.ts';
import { SnapshotRecords } from '../../src/registry/snapshot-records.ts';
import type { VolumeSettings } from '../../src/volume/settings.ts';
import type { Volume } from '../../src/volume/volume.ts';
import type { Replication, SegmentSources } from '../../src/volume/volume-deps.ts';
import { VolumeDriver } from '../../src/volume/volume-driver.ts';
import { quietLog } from './quiet-log.ts';
import type { TestTenure } from './tenure.ts';
import { tenureOf } from './tenure.ts';

export const smallSettings: VolumeSettings = {
  journal: { fileBytes: 256 * KiB, bytesMax: 2048 * KiB },
  segmentBytes: 64 * KiB,
  cutBytes: 128 * KiB,
  destageDelayMs: 5,
  uploadBytesMax: 512 * KiB,
  deltaBlocksMax: 64,
  tailSegmentsMax: 6,
  checkpointDelayMs: 50,
  mapBytesMax: 1,
  readAheadBytes: 0,
};

export const host = hostId('a');

/** No other host keeps a copy. */
export function aloneWith(records: ObjectRecords): Replication {
  const clock = systemClock(undefined);
  const peers = {
    call: () => Promise.reject(new StorageError('unavailable', 'no such host')),
    close: () => Promise.resolve(),
  };
  const hosts = { list: () => Promise.resolve([]) };
  const deps = { host, domain: undefined, hosts, peers, clock, checksum: tableChecksum() };
  return { mode: 'none', hosts: new ReplicaHosts(deps, 1000), records, folder: '/replicas' };
}

export class VolumeWorld {
  readonly id: ObjectId;
  readonly checksum = tableChecksum();
  readonly clock: Clock;
  readonly log = quietLog();
  readonly faults: Faults = noFaults();
  readonly backend: MemoryBackend;
  readonly registry: MemoryRegistry;
  readonly records: ObjectRecords;
  readonly snapshots: SnapshotRecords;
  readonly settings: VolumeSettings;
  disk = new MemoryDisk();
  cacheBytesMax = 1024 * KiB;
  /** Reads go straight to the backend. */
  isUncached = false;
  #tenure: TestTenure | undefined;
  #cache: SegmentCache | undefined;
  #driver: VolumeDriver | undefined;

  /** `beside`: another volume's world, whose backend and registry this one shares. */
  constructor(settings: Partial<VolumeSettings> = {}, seed = 1, beside?: VolumeWorld) {
    this.id = objectId(seed.toString(16).padStart(32, '0'));
    this.clock = systemClock(undefined);
    this.settings = { ...smallSettings, ...settings };
    this.backend = beside?.backend ?? new MemoryBackend();
    this.registry = beside?.registry ?? new MemoryRegistry(systemClock(undefined));
    this.records = new ObjectRecords(this.registry);
    this.snapshots = new SnapshotRecords(this.registry);
  }

  get bucket(): string {
    return `wharf-${this.id}`;
  }

  get tenure(): TestTenure {
    if (!this.#tenure) throw new Error('no volume was opened');
    return this.#tenure;
  }

  get cache(): SegmentCache {
    if (!this.#cache) throw new Error('no volume was opened');
    return this.#cache;
  }

  async create(): Promise<Volume> {
    await this.records.create(this.id, 'volume', host);
    const { epoch } = await this.records.claim(this.id, host);
    const driver = await this.#makeDriver();
    await driver.create(tenureOf(this.id, epoch, 'backend'));
    return this.open();
  }

  /** Opens it as a new process of the host does. */
  async open(): Promise<Volume> {
    const { epoch, tail, isFrozen } = await this.records.claim(this.id, host);
    this.#tenure = { ...tenureOf(this.id, epoch, tail), isFrozen };
    this.#driver = await this.#makeDriver();
    return this.#driver.open(this.#tenure);
  }

  /** Makes it what the snapshot is, as the router does; gives it opened again. */
  async rollBack(volume: Volume, name: string, before: string): Promise<Volume> {
    await this.rollBackTo(volume, await this.snapshots.get(this.id, name), before);
    return this.open();
  }

  /** The volume is closed then. */
  async rollBackTo(volume: Volume, to: SnapshotRecord, before: string): Promise<void> {
    await volume.sync();
    await volume.close();
    this.tenure.end();
    const { epoch } = await this.records.claim(this.id, host);
    const tenure = tenureOf(this.id, epoch, 'backend');
    await this.driver.rollBack(tenure, to, { name: before, createdNs: 2n });
    tenure.end();
  }

  /** The world of a new volume that begins as the snapshot is. */
  async clone(name: string, seed: number, settings = this.settings): Promise<VolumeWorld> {
    const world = new VolumeWorld(settings, seed, this);
    const kept = decodeHead((await this.snapshots.get(this.id, name)).head, this.checksum);
    const head = encodeHead(cloneHead(kept, this.id), this.checksum);
    await this.driver.prepare(world.id, head);
    const descent = { parent: this.id, snapshot: name };
    const { compares, writes } = this.snapshots.cloning(world.id, descent);
    const state = { kind: 'volume', owner: host, epoch: 0, tail: 'backend' } as const;
    const made = putObject(world.id, { ...state, isPinned: false }, head);
    const outcome = await this.registry.transact({ compares, writes: [...writes, ...made] });
    assert.ok(outcome.committed);
    return world;
  }

  get driver(): VolumeDriver {
    if (!this.#driver) throw new Error('no volume was opened');
    return this.#driver;
  }

  /** The process of the volume dies: nothing is flushed, what was written stays. */
  async kill(volume: Volume): Promise<void> {
    this.disk = this.disk.reopened();
    this.tenure.end();
    await volume.abandon();
  }

  /** The power goes: unsynced bytes may be lost, and the volume's process dies. */
  async cutPower(volume: Volume, seed: number): Promise<void> {
    this.disk = this.disk.crash(seededRandom(seed));
    this.tenure.end();
    await volume.abandon();
  }

  #sources(cache: SegmentCache): SegmentSources {
    if (!this.isUncached) return cache;
    const { clock, log, checksum } = this;
    const verifier = new ChunkVerifier(checksum);
    return {
      source: (_id, store, signal) =>
        directSource(new SegmentFetcher({ clock, log, verifier }, store, signal)),
      forget() {},
      giveWay() {},
    };
  }

  async #makeDriver(): Promise<VolumeDriver> {
    const { disk, clock, checksum, log } = this;
    const random = seededRandom(7);
    const monitor = new RetryMonitor(clock, log);
    const retries = { firstPauseMs: 1, pauseMsMax: 5 };
    const faulty = withFaults(this.backend, this.faults);
    const backend = withRetry(faulty, { clock, random, monitor }, retries);
    const cacheSettings = {
      folder: '/cache',
      cacheBytesMax: this.cacheBytesMax,
      fetchBytesMax: 1024 * KiB,
    };
    this.#cache = await SegmentCache.open({ disk, checksum, clock, log }, cacheSettings);
    return new VolumeDriver(
      {
        ...{ disk, clock, checksum, log, backend, sources: this.#sources(this.#cache) },
        heads: this.records.heads('volume'),
        snapshots: this.snapshots,
        journalFolder: '/journal',
        bucketOf: (id) => `wharf-${id}`,
        replication: aloneWith(this.records),
      },
      this.settings,
    );
  }
}
