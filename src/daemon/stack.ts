/** Puts a daemon together, floor by floor: the one place where all parts meet. */

import { join } from 'node:path';
import type { BackendMetrics } from '../backend/with-metrics.ts';
import type { RetryMonitor } from '../backend/with-retry.ts';
import { SegmentCache } from '../cache/segment-cache.ts';
import { joinCluster } from './cluster.ts';
import { dataId, TornJournals } from './data-folder.ts';
import { beginVpool } from './begin-vpool.ts';
import type { HostPorts } from './host-ports.ts';
import { Scrub } from './scrub.ts';
import type { Settings } from './settings.ts';
import { aborted } from '../core/aborted.ts';
import { Disposer } from '../core/disposer.ts';
import { describeError } from '../core/errors.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { ObjectId } from '../core/units.ts';
import { hostId } from '../core/units.ts';
import { FileDriver } from '../file/file-driver.ts';
import { isOfReplica, peerKind } from '../format/peer-message.ts';
import { FileLocks } from '../frontend/file-locks.ts';
import { WharfFileSystem } from '../frontend/filesystem.ts';
import { KeptFiles } from '../frontend/kept-files.ts';
import { Lineage } from '../frontend/lineage.ts';
import { SnapshotMaker } from '../frontend/snapshot-maker.ts';
import { SnapshotTree } from '../frontend/snapshot-tree.ts';
import { ReplicaHosts } from '../log/replica-hosts.ts';
import { ReplicaServer } from '../log/replica-server.ts';
import type { Backend } from '../ports/blob-store.ts';
import type { Checksum } from '../ports/checksum.ts';
import type { Clock } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Random } from '../ports/random.ts';
import type { HostRecords } from '../registry/host-records.ts';
import { CachedRegistry } from '../registry/cached-registry.ts';
import { Namespace, namespaceGroups } from '../registry/namespace.ts';
import { ObjectRecords } from '../registry/object-records.ts';
import { SnapshotRecords } from '../registry/snapshot-records.ts';
import { findVpool } from '../registry/vpool-record.ts';
import { copyBucketOf } from '../registry/copy/copy-bucket.ts';
import { copyAgeMsMax, RegistryCopier } from '../registry/copy/registry-copier.ts';
import { withRetry as withRegistryRetry } from '../registry/with-retry.ts';
import { ClusterCare } from '../router/cluster-care.ts';
import { Drain } from '../router/moves/drain.ts';
import { ClusterLocks } from '../router/locks/cluster-locks.ts';
import type { Tails } from '../router/moves/handover.ts';
import { isLockMessage } from '../router/locks/lock-service.ts';
import { HeldObjects } from '../router/moments/held-objects.ts';
import { Moments } from '../router/moments/moments.ts';
import { ObjectRouter } from '../router/object-router.ts';
import { ReplicaKeeper } from '../router/moves/replica-keeper.ts';
import { takeOver } from '../router/moves/takeover.ts';
import { recoverUnfinished } from '../router/unfinished.ts';
import { WatchedDisk } from '../platform/watched-disk.ts';
import { VolumeDriver } from '../volume/volume-driver.ts';

/** What a backend without bounds of its own says it has. */
const endlessBytes = 2 ** 50;
const idleObjectsMax = 256;
/** Inodes and names in memory: 1 KiB each, or less. */
const groupsMax = 50_000;
/** What a copy of the registry may still name of small files stays longer than the copy is old. */
const keptLongerMs = 5000;
/** What looks wrong to a scrub has become right by then, if it was only on its way. */
const scrubPauseMs = 2000;
/** A scrub does not wait longer for an owner. */
const scrubOwnerMs = 600_000;

export interface Stack extends AsyncDisposable {
  readonly clock: Clock;
  readonly random: Random;
  readonly checksum: Checksum;
  readonly fileSystem: WharfFileSystem;
  readonly locks: FileLocks;
  readonly router: ObjectRouter;
  readonly drain: Drain;
  readonly log: Log;
  readonly volumes: VolumeDriver;
  readonly files: FileDriver;
  readonly records: ObjectRecords;
  readonly snapshots: SnapshotRecords;
  readonly tree: SnapshotTree;
  readonly maker: SnapshotMaker;
  readonly moments: Moments;
  readonly care: ClusterCare;
  readonly scrub: Scrub;
  /** What nobody reaches any more of a volume is deleted soon. */
  readonly collect: (id: ObjectId) => void;
  readonly hosts: HostRecords;
  readonly cache: SegmentCache;
  /** What has failed of the SSD. */
  readonly ssd: Pick<WatchedDisk, 'failure'>;
  /** The registry with a cache of the namespace. */
  readonly names: CachedRegistry;
  readonly copier: RegistryCopier;
  readonly monitor: RetryMonitor;
  readonly metrics: BackendMetrics;
  /** The object store takes nothing from this account. */
  readonly isReadOnly: boolean;
}

/** Aborted by the signal while it waits for the object store. */
export async function openStack(
  ports: HostPorts,
  settings: Settings,
  signal: AbortSignal,
): Promise<Stack> {
  const closing = new Disposer();
  try {
    return await assemble(ports, settings, signal, closing);
  } catch (error) {
    await closing.close();
    throw error;
  }
}

async function assemble(
  ports: HostPorts,
  settings: Settings,
  signal: AbortSignal,
  closing: Disposer,
): Promise<Stack> {
  const { clock, random, disk, checksum, log } = ports;
  const { pid, uid, gid, since, bootId } = ports.process;
  const holder = `host ${settings.host}, process ${pid}, since ${since}`;
  disk.makeFolder(settings.data);
  const lock = disk.lock(join(settings.data, 'lock'), holder);
  closing.defer(() => lock.release());

  const bare = await ports.openRegistry();
  closing.defer(() => bare.close());
  const registry = withRegistryRetry(bare, { clock, random, log }, settings.host);
  const known = await findVpool(registry, settings.vpool);
  const records = new ObjectRecords(registry);
  const snapshots = new SnapshotRecords(registry);

  const bucketPrefix = `wharf-${settings.vpool}`;
  const { backend, monitor, metrics, isReadOnly } = await ports.openBackend(bucketPrefix, {
    signal,
  });
  closing.defer(() => backend.close());
  const vpool =
    known ?? (await beginVpool({ registry, random, backend }, settings.vpool, { signal }));
  const fileBucket = `${bucketPrefix}-files`;
  const copyBucket = copyBucketOf(bucketPrefix);
  if (!isReadOnly)
    for (const bucket of [fileBucket, copyBucket]) await backend.createBucket(bucket, { signal });

  const platform = { disk, checksum, clock, log };
  const ssd = new WatchedDisk(disk, log);
  const copier = new RegistryCopier({
    ...{ registry, store: backend.bucket(copyBucket), checksum, clock, log },
    ...{ host: hostId(settings.host), salt: vpool.salt, delayMs: settings.registryCopy.delay },
  });
  // Behind all that still changes the registry when the host stops.
  closing.defer(() => copier.close());
  const cache = await SegmentCache.open(platform, {
    folder: join(settings.data, 'cache'),
    cacheBytesMax: settings.cache.size,
    fetchBytesMax: settings.cache.fetchMax,
  });
  closing.defer(() => cache.close());
  const cluster = await joinCluster(
    { ports, registry, vpool: vpool.name, data: await dataId(disk, random, settings.data) },
    settings,
    closing,
  );
  const { host } = cluster;
  const replicaFolder = join(settings.data, 'replicas');
  const journalFolder = join(settings.data, 'journal');
  const { journalFile } = settings.volumes;
  const replicas = new ReplicaServer(
    { ...platform, disk: ssd, ssd, folder: replicaFolder },
    { fileBytes: journalFile, freeBytesMin: 2 * journalFile },
  );
  closing.defer(() => replicas.close());
  const { domain } = settings;
  const { hosts, peers } = cluster;
  const volumes = new VolumeDriver(
    {
      ...{ ...platform, disk: ssd, backend, sources: cache, heads: records.heads('volume') },
      ...{ snapshots, journalFolder },
      bucketOf: (id) => `${bucketPrefix}-${id}`,
      replication: {
        mode: settings.replica.mode,
        hosts: new ReplicaHosts(
          { host, domain, hosts, peers, clock, checksum },
          settings.replica.timeout,
        ),
        records,
        folder: replicaFolder,
      },
    },
    volumeSettings(settings),
  );
  const keptMs = copyAgeMsMax(settings.registryCopy.delay) + keptLongerMs;
  const files = new FileDriver(
    { backend, bucket: fileBucket, heads: records.heads('file'), checksum, clock, log },
    {
      writeBackDelayMs: settings.files.writeBackDelay,
      dirtyBytesMax: settings.files.dirtyMax,
      cacheBytesMax: settings.files.cacheMax,
      keptMs,
    },
  );
  closing.defer(() => files.close());
  const tails: Tails = {
    shorten: (id) => volumes.shorten(id),
    follow: (id) => volumes.follow(id),
    receive: (id, epoch) => volumes.tails.receive(id, epoch),
    discard: (id) => volumes.tails.discard(id),
  };
  const names = new CachedRegistry(
    registry,
    { clock, log, freshUntilMs: () => cluster.membership.freshUntilMs() },
    { ...namespaceGroups, groupsMax },
  );
  closing.defer(() => names.close());
  const namespace = new Namespace(names, vpool.salt, names.fresh);
  const kept: KeptFiles = new KeptFiles({
    objects: { open: (id) => router.open(id), release: (id) => router.release(id) },
    view: async (id, name) => volumes.view(id, await snapshots.get(id, name)),
    clock,
  });
  const unfinished = await volumes.unfinished();
  const torn = await TornJournals.find(disk, settings.data, bootId, unfinished);
  const router = new ObjectRouter(
    {
      mayBeTorn: (id) => torn.has(id),
      ssd: {
        failure: () => ssd.failure,
        hasFailed: (id) => ssd.hasFailed(join(journalFolder, id)),
      },
      isRead: (id) => kept.isRead(id),
      ...{ ...cluster, records, volumes, files, tails, replicas, clock, log },
      noteTakenOver: (id, sizeBytes) => {
        namespace.reconcile(id, sizeBytes).catch((error: unknown) => {
          log.warn({ object: id, error: describeError(error) }, 'size of the file is not set');
        });
      },
    },
    { idleObjectsMax, handover: handoverSettings(settings) },
  );
  closing.defer(() => router.close());
  const keeper = new ReplicaKeeper({
    ...{ replicas, records, hosts, host, clock, log },
    takeOver: (id) => takeOver({ router, records, hosts, log }, id, false),
  });
  closing.defer(() => keeper.close());
  const drain = new Drain({ router, records, hosts, host, log });
  closing.defer(() => drain.stop());
  const held = new HeldObjects({ host, records, snapshots, volumes, files, clock, log });
  const care = new ClusterCare({ ...cluster, router, records, snapshots, volumes, held });
  const moments = new Moments({ ...cluster, records, router, held, care, random, clock });
  const collecting = new TaskGroup((error) => {
    log.debug({ error: describeError(error) }, 'space is given back at the next checkpoint');
  });
  const collect = (id: ObjectId) =>
    collecting.run(async () => void (await care.ask(id, { do: 'collect' })));
  const lineage = new Lineage({ snapshots, care, collect });
  const scrub = new Scrub({
    ...{ registry, records, snapshots, backend, fileBucket, checksum, clock, log, host, care },
    volumeBuckets: `${bucketPrefix}-`,
    ...{ pauseMs: scrubPauseMs, ownerMs: scrubOwnerMs, keptMs },
    deleteObject: (id) => router.delete(id),
  });
  closing.defer(() => scrub.stop());
  const clusterLocks = new ClusterLocks({ ...cluster, router, clock, log });
  closing.defer(() => clusterLocks.close());
  cluster.serve((from, message) => {
    if (isOfReplica(message.kind)) return replicas.handle(from, message);
    if (message.kind === peerKind.care) return care.handle(message);
    if (isLockMessage(message)) return clusterLocks.handle(from, message);
    return router.handle(from, message);
  });
  const fileSystem = await WharfFileSystem.open(
    {
      namespace,
      objects: router,
      kept,
      lineage,
      clock,
      random,
      log,
      host,
      space: () => spaceOf(backend),
    },
    { volumeNames: settings.files.volumeNames, attributeDelayMs: 1000, keptMs },
    { uid, gid },
  );
  closing.defer(() => fileSystem.close());
  const tree = new SnapshotTree(namespace, host);
  const maker = new SnapshotMaker({
    ...{ tree, snapshots, objects: router, care, collect, clock, log },
  });
  const locks = new FileLocks(
    (ino) => (kept.get(ino) ? 'kept' : fileSystem.objectOf(ino)),
    clusterLocks,
  );
  const recovery = recoverUnfinished({ host, router, records, tails, log }, unfinished);
  const recovered = await Promise.race([recovery, aborted(signal)]);
  for (const { id, sizeBytes } of recovered) await namespace.reconcile(id, sizeBytes);
  const isRecovered = new Set(recovered.map(({ id }) => id));
  await torn.noteLeft((await volumes.unfinished()).filter((id) => !isRecovered.has(id)));
  if (!isReadOnly) {
    copier.start();
    await maker.resume();
  }
  return {
    ...{
      clock,
      random,
      checksum,
      log,
      names,
      copier,
      fileSystem,
      router,
      drain,
      locks,
      volumes,
      files,
      records,
      snapshots,
      tree,
      maker,
      moments,
      care,
      collect,
      scrub,
      cache,
      ssd,
      monitor,
      metrics,
      isReadOnly,
    },
    hosts: cluster.hosts,
    [Symbol.asyncDispose]: () => closing.close(),
  };
}

function handoverSettings({ handover }: Settings) {
  const { reads, writes, window, coolDown } = handover;
  return { reads, writes, windowMs: window, coolDownMs: coolDown };
}

function volumeSettings({ volumes }: Settings) {
  return {
    journal: { fileBytes: volumes.journalFile, bytesMax: volumes.journalMax },
    segmentBytes: volumes.segment,
    cutBytes: volumes.cut,
    destageDelayMs: volumes.destageDelay,
    uploadBytesMax: volumes.uploadMax,
    deltaBlocksMax: volumes.deltaBlocks,
    tailSegmentsMax: volumes.tailSegments,
    checkpointDelayMs: volumes.checkpointDelay,
    mapBytesMax: volumes.mapMemory,
    readAheadBytes: volumes.readAhead,
  };
}

async function spaceOf(backend: Backend) {
  const space = (await backend.space()) ?? { totalBytes: endlessBytes, freeBytes: endlessBytes };
  return { ...space, inodesTotal: 2 ** 32, inodesFree: 2 ** 32 - 1 };
}
