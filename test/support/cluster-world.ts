/**
 * Several hosts of one vPool in one process, over a backend, a registry and a network in memory.
 * A host can be killed: its lease runs out, its disk stays.
 */

import { MemoryBackend } from '../../src/backend/memory-backend.ts';
import { noFaults, withFaults } from '../../src/backend/with-faults.ts';
import { RetryMonitor, withRetry } from '../../src/backend/with-retry.ts';
import { SegmentCache } from '../../src/cache/segment-cache.ts';
import { StorageError } from '../../src/core/errors.ts';
import type { HostId, ObjectId } from '../../src/core/units.ts';
import { hostId, KiB, MiB } from '../../src/core/units.ts';
import { isOfReplica, peerKind } from '../../src/format/peer-message.ts';
import { FileDriver } from '../../src/file/file-driver.ts';
import { ReplicaHosts } from '../../src/log/replica-hosts.ts';
import { ReplicaServer } from '../../src/log/replica-server.ts';
import type { ReplicaMode } from '../../src/log/replicator.ts';
import { tableChecksum } from '../../src/platform/checksum.ts';
import { MemoryDisk } from '../../src/platform/memory-disk.ts';
import { seededRandom } from '../../src/platform/random.ts';
import { systemClock } from '../../src/platform/system-clock.ts';
import { WatchedDisk } from '../../src/platform/watched-disk.ts';
import type { Disk } from '../../src/ports/disk.ts';
import type { Registry } from '../../src/ports/registry.ts';
import { HostRecords } from '../../src/registry/host-records.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { MemoryStore } from '../../src/registry/memory-store.ts';
import { ObjectRecords } from '../../src/registry/object-records.ts';
import { SnapshotRecords } from '../../src/registry/snapshot-records.ts';
import { ClusterCare } from '../../src/router/cluster-care.ts';
import { ClusterLocks } from '../../src/router/locks/cluster-locks.ts';
import { isLockMessage } from '../../src/router/locks/lock-service.ts';
import { Membership } from '../../src/router/members/membership.ts';
import { HeldObjects } from '../../src/router/moments/held-objects.ts';
import { Moments } from '../../src/router/moments/moments.ts';
import { ObjectRouter } from '../../src/router/object-router.ts';
import type { RoutedObject } from '../../src/router/routed-object.ts';
import { ReplicaKeeper } from '../../src/router/moves/replica-keeper.ts';
import { takeOver } from '../../src/router/moves/takeover.ts';
import type { Recovered } from '../../src/router/unfinished.ts';
import { recoverUnfinished } from '../../src/router/unfinished.ts';
import type { VolumeSettings } from '../../src/volume/settings.ts';
import { VolumeDriver } from '../../src/volume/volume-driver.ts';
import { MemoryNetwork } from './memory-peers.ts';
import { PausableClock } from './pausable-clock.ts';
import { quietLog } from './quiet-log.ts';
import { smallSettings } from './volume-world.ts';

export const leaseSettings = { ttlMs: 300, marginMs: 50 };
const replicaTimeoutMs = 30_000;
const handover = { reads: 20, writes: 20, windowMs: 60_000, coolDownMs: 50 };

export interface WorldOptions {
  readonly volumes?: Partial<VolumeSettings>;
  /** Whether trouble of the backend is waited for. */
  readonly retries?: boolean;
  /** Default: none. */
  readonly replica?: ReplicaMode;
  /** Of hosts, for tests in which none may run out however busy the machine is. */
  readonly leaseMs?: number;
}

export interface WorldHost {
  readonly id: HostId;
  readonly router: ObjectRouter;
  readonly locks: ClusterLocks;
  readonly care: ClusterCare;
  readonly registry: Registry;
  readonly moments: Moments;
  readonly snapshots: SnapshotRecords;
  readonly volumes: VolumeDriver;
  readonly disk: MemoryDisk;
  /** Of the renewals of its lease. */
  readonly renewing: PausableClock;
  /** What it has taken over from copies. */
  readonly takenOver: { id: ObjectId; sizeBytes: number }[];
  /** What it does with the journals that it finds on its disk, as it starts. */
  recover(): Promise<readonly Recovered[]>;
  /** The process dies: it answers nobody, and nothing is flushed. */
  kill(): Promise<void>;
  /** The power goes: unsynced bytes may be lost, by the seed, and the process dies. */
  cutPower(seed: number): Promise<void>;
  /** Drained, and its lease given back. */
  stop(): Promise<void>;
}

export class ClusterWorld implements AsyncDisposable {
  readonly clock = systemClock(undefined);
  readonly backend = new MemoryBackend();
  /** Of processes that start from now on. */
  faults = noFaults();
  readonly #store = new MemoryStore(this.clock);
  /** As an administrator sees the registry. */
  readonly records = new ObjectRecords(new MemoryRegistry(this.clock, this.#store));
  readonly hosts = new HostRecords(new MemoryRegistry(this.clock, this.#store));
  readonly network = new MemoryNetwork();
  readonly log = quietLog();
  readonly #disks = new Map<string, MemoryDisk>();
  readonly #options: WorldOptions;
  readonly #registries: MemoryRegistry[] = [];
  /** Hosts that have lost power since they had written their journals. */
  readonly #rebooted = new Set<string>();
  readonly #keepers: ReplicaKeeper[] = [];
  readonly #volumes: VolumeDriver[] = [];
  #instances = 0;

  constructor(options: WorldOptions = {}) {
    this.#options = options;
  }

  /** Starts the host, on the disk that it had before. */
  async host(name: string): Promise<WorldHost> {
    const id = hostId(name);
    const { clock, log, network } = this;
    const renewing = new PausableClock();
    const registry = new MemoryRegistry(renewing, this.#store);
    this.#registries.push(registry);
    const records = new ObjectRecords(registry);
    const hosts = new HostRecords(registry);
    const disk = (this.#disks.get(name) ?? new MemoryDisk()).reopened();
    this.#disks.set(name, disk);
    this.#instances += 1;
    const instance = String(this.#instances);
    const address = `${name}:${instance}`;
    const record = { id, instance, data: name, address, mount: '/m', pid: 1, shared: {} };
    const membership = await Membership.join(
      { registry, hosts, clock, log, record },
      { ...leaseSettings, ttlMs: this.#options.leaseMs ?? leaseSettings.ttlMs },
    );
    const checksum = tableChecksum();
    const ssd = new WatchedDisk(disk, log);
    const replicas = new ReplicaServer(
      { disk: ssd, ssd, checksum, clock, log, folder: '/replicas' },
      { fileBytes: 256 * KiB, freeBytesMin: 0 },
    );
    const peers = network.join(id, address, (from, message) => {
      if (isOfReplica(message.kind)) return replicas.handle(from, message);
      if (isLockMessage(message)) return locks.handle(from, message);
      if (message.kind === peerKind.care) return care.handle(message);
      return router.handle(from, message);
    });
    const replicaHosts = new ReplicaHosts(
      { host: id, domain: undefined, hosts, peers, clock, checksum },
      replicaTimeoutMs,
    );
    const drivers = await this.#drivers(ssd, registry, replicaHosts);
    const takenOver: WorldHost['takenOver'] = [];
    const router: ObjectRouter = new ObjectRouter(
      {
        ...{ host: id, records, hosts, peers, clock, log, ...drivers },
        membership,
        isRead: () => false,
        mayBeTorn: () => this.#rebooted.has(name),
        ssd: {
          failure: () => ssd.failure,
          hasFailed: (object) => ssd.hasFailed(`/journal/${object}`),
        },
        replicas,
        noteTakenOver: (object, sizeBytes) => takenOver.push({ id: object, sizeBytes }),
        tails: {
          shorten: (object) => drivers.volumes.shorten(object),
          follow: (object) => drivers.volumes.follow(object),
          receive: (object, epoch) => drivers.volumes.tails.receive(object, epoch),
          discard: (object) => drivers.volumes.tails.discard(object),
        },
      },
      { idleObjectsMax: 8, handover },
    );
    const locks: ClusterLocks = new ClusterLocks({
      ...{ host: id, membership, hosts, router, peers, clock, log },
    });
    const snapshots = new SnapshotRecords(registry);
    const { volumes, files } = drivers;
    const held = new HeldObjects({ host: id, records, snapshots, volumes, files, clock, log });
    const care: ClusterCare = new ClusterCare({
      ...{ host: id, membership, hosts, router, peers, records, snapshots, volumes, held },
    });
    const random = seededRandom(this.#instances);
    const moments = new Moments({
      ...{ host: id, records },
      membership,
      router,
      peers,
      hosts,
      held,
      care,
      random,
      clock,
    });
    const keeper = new ReplicaKeeper({
      ...{ replicas, records, hosts, host: id, clock, log },
      takeOver: (object) => takeOver({ router, records, hosts, log }, object, false),
    });
    this.#keepers.push(keeper);
    this.#volumes.push(drivers.volumes);
    const die = async (left: MemoryDisk) => {
      network.leave(address);
      void keeper.close();
      this.#disks.set(name, left);
      await registry.close();
      endWork(drivers.volumes);
      endFiles(router);
      // Nobody there waits for anything any more.
      router.close().catch(() => {});
    };
    return {
      ...{ id, registry, router, locks, care, moments, snapshots, disk },
      ...{ renewing, takenOver, volumes },
      recover: async () => {
        const recovered = await recoverUnfinished(
          { host: id, router, records, tails: drivers.volumes.tails, log },
          await drivers.volumes.unfinished(),
        );
        this.#rebooted.delete(name);
        return recovered;
      },
      kill: () => die(disk.reopened()),
      cutPower: (seed) => {
        this.#rebooted.add(name);
        return die(disk.crash(seededRandom(seed)));
      },
      stop: async () => {
        await keeper.close();
        await locks.close();
        await router.close();
        await replicas.close();
        await peers.close();
        await membership.leave();
        await registry.close();
      },
    };
  }

  /** Hosts that were not stopped renew their leases no more. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#keepers.map((keeper) => keeper.close()));
    await Promise.all(this.#registries.map((registry) => registry.close()));
    for (const volumes of this.#volumes) endWork(volumes);
    this.#store.close();
  }

  async #drivers(disk: Disk, registry: Registry, replicaHosts: ReplicaHosts) {
    const records = new ObjectRecords(registry);
    const { clock, log } = this;
    const platform = { disk, log, clock, checksum: tableChecksum() };
    const random = seededRandom(7);
    const monitor = new RetryMonitor(clock, log);
    const retries = { firstPauseMs: 1, pauseMsMax: 5 };
    const faulty = withFaults(this.backend, this.faults);
    const backend =
      this.#options.retries === false
        ? faulty
        : withRetry(faulty, { clock, random, monitor }, retries);
    await backend.createBucket('files');
    const cacheSettings = { folder: '/cache', cacheBytesMax: 4 * MiB, fetchBytesMax: 4 * MiB };
    const sources = await SegmentCache.open(platform, cacheSettings);
    const volumes = new VolumeDriver(
      {
        ...{ ...platform, backend, sources, heads: records.heads('volume') },
        snapshots: new SnapshotRecords(registry),
        ...{ journalFolder: '/journal', bucketOf: (of: string) => `volume-${of}` },
        replication: {
          ...{ records, hosts: replicaHosts, folder: '/replicas' },
          mode: this.#options.replica ?? 'none',
        },
      },
      { ...smallSettings, ...this.#options.volumes },
    );
    const files = new FileDriver(
      { ...platform, backend, bucket: 'files', heads: records.heads('file') },
      { writeBackDelayMs: 1000, dirtyBytesMax: 64 * MiB, cacheBytesMax: 4 * MiB, keptMs: 0 },
    );
    return { volumes, files };
  }
}

/** Files of a process that has died are not written back again and again. */
function endFiles(router: ObjectRouter): void {
  for (const { id } of router.openObjects()) {
    const backing = (router.opened(id) as RoutedObject | undefined)?.backing;
    if (backing?.where === 'here' && backing.kind === 'file')
      backing.tenure.end(new StorageError('closed', 'the process has died'));
  }
}

/** Of a process that has died. */
function endWork(volumes: VolumeDriver): void {
  const reason = new StorageError('closed', 'the process has died');
  for (const { id } of volumes.statuses()) volumes.opened(id)?.fail(reason);
}
