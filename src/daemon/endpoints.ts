/** What the admin API answers, from the parts of a daemon. */

import type { Settings } from './settings.ts';
import { StorageError } from '../core/errors.ts';
import type { ObjectId } from '../core/units.ts';
import { hostId } from '../core/units.ts';
import { within } from '../core/within.ts';
import type { Endpoints } from '../frontend/admin/server.ts';
import { VdiskChanges } from '../frontend/admin/vdisk-changes.ts';
import { VdiskDiff } from '../frontend/admin/vdisk-diff.ts';
import { VdiskSnapshots } from '../frontend/admin/vdisk-snapshots.ts';
import { VmSnapshots } from '../frontend/admin/vm-snapshots.ts';
import { walkVdisks } from '../frontend/admin/vdisks.ts';
import type { WharfFileSystem } from '../frontend/filesystem.ts';
import type { Attributes } from '../ports/file-system.ts';
import type { CareAnswer } from '../ports/volume-care.ts';
import type { LoopDelay } from '../platform/loop-delay.ts';
import type { NamespaceChange } from '../registry/namespace-changes.ts';
import type { ObjectRecord, Threshold } from '../registry/object-records.ts';
import { whoHas } from '../registry/object-records.ts';
import type { VolumeStatus } from '../volume/volume.ts';
import { isAbandoned, takeOver } from '../router/moves/takeover.ts';
import { stackMetrics } from './metrics.ts';
import { scrubEndpoints } from './scrub-endpoints.ts';
import { snapshotEndpoints } from './snapshot-endpoints.ts';
import type { Stack } from './stack.ts';
import { writeMoment, writeSize } from './units.ts';
import { vdiskEndpoints } from './vdisk-endpoints.ts';

/** How long the owner of a vDisk may look for what it takes. */
const spaceMsMax = 2000;

export interface VdiskReport {
  readonly path: string;
  readonly sizeBytes: number;
  readonly usedBytes: number;
  readonly notDestagedBytes: number;
  readonly owner: string;
  readonly epoch: number;
  readonly isPinned: boolean;
  /** Where it has one of its own. */
  readonly threshold?: Threshold;
  /**
   * `open`, `failed`, `idle`, `moving`, or `forwarded`: another host serves it, and this one uses it.
   */
  readonly state: string;
  readonly waiting?: string | undefined;
  /** Why it has failed. */
  readonly failure?: string;
  /** Where changes are that are not on the backend yet. */
  readonly changes: string;
  /** Host of the journal's copy. */
  readonly replica?: string;
  /** Somebody has it open, on whichever host. This and what follows: of one asked for alone. */
  readonly isInUse?: boolean;
  /** Bytes of it on this host's SSD. */
  readonly cachedBytes?: number;
  readonly uniqueBytes?: number;
  readonly sharedBytes?: number;
}

export interface DaemonFacts {
  /** Wall clock. */
  readonly startedMs: number;
  /** What carries FUSE requests, and why where it is not the fastest. */
  readonly transport: string;
  readonly loopDelay: LoopDelay;
  readonly requestCounts: () => Readonly<Record<string, number>>;
  /** Resolves when the kernel of this host knows what was not changed through its mount. */
  readonly tellKernel: (change: NamespaceChange) => Promise<void>;
}

/** In words. */
function whereChangesAre(
  { owner, tail, kind }: ObjectRecord,
  degraded: string | undefined,
): string {
  if (kind === 'file' || tail === 'backend') return 'on the backend';
  if (typeof tail === 'object' && tail.host !== owner)
    return `on the SSDs of hosts ${owner} and ${tail.host}`;
  const why = degraded === undefined ? '' : ` (${degraded})`;
  return `on the SSD of host ${owner} alone${why}`;
}

/** After a takeover the copy that is named is the owner's own. */
function replicaOf(record: ObjectRecord | undefined): { replica?: string } {
  if (typeof record?.tail !== 'object' || record.tail.host === record.owner) return {};
  return { replica: record.tail.host };
}

type OpenVolume = VolumeStatus & { readonly id: string };

/** What somebody has to look at. */
function alarmsOf({ id, failure, damagedReads }: OpenVolume): string[] {
  const failed = failure === undefined ? [] : [`volume ${id} has failed: ${failure}`];
  const damaged = `volume ${id}: damaged data was met by ${damagedReads} reads`;
  return damagedReads === 0 ? failed : [...failed, damaged];
}

function summary(volumes: readonly OpenVolume[], ssdFailure: string | undefined) {
  const ssd =
    ssdFailure === undefined
      ? []
      : [`the SSD has failed (${ssdFailure}): look at the device, then restart the daemon`];
  return {
    volumesWithoutReplica: volumes.filter(({ degraded }) => degraded !== undefined).length,
    alarms: [...ssd, ...volumes.flatMap(alarmsOf)],
    openVolumes: volumes.length,
    notDestagedBytes: volumes.reduce((sum, { notDestagedBytes }) => sum + notDestagedBytes, 0),
    failedVolumes: volumes.filter(({ state }) => state === 'failed').length,
    waiting: volumes.flatMap(({ waiting }) => waiting ?? []),
  };
}

/** Of the query; undefined where it names none. `invalid`. */
function thresholdOf(query: URLSearchParams): Threshold | undefined {
  const given = ['reads', 'writes', 'windowMs'].map((name) => query.get(name));
  if (given.every((value) => value === null)) return undefined;
  const [reads, writes, windowMs] = given.map(Number) as [number, number, number];
  if (![reads, writes, windowMs].every((value) => Number.isSafeInteger(value) && value >= 0))
    throw new StorageError('invalid', 'reads, writes and windowMs are whole numbers, 0 or more');
  return { reads, writes, windowMs };
}

/** What the owner says in time. */
async function spaceOf({ cache, care, clock, records }: Stack, id: ObjectId) {
  const cachedBytes = cache.cachedBytes(id);
  let answer: CareAnswer = {};
  const asking = records
    .find(id)
    .then((record) => (record?.kind === 'volume' ? care.ask(id, { do: 'space' }) : {}))
    .then(
      (found) => {
        answer = found;
      },
      () => {},
    );
  await within(clock, spaceMsMax, asking);
  return { cachedBytes, ...answer.space };
}

/** Made where nobody has used the disk so far. */
async function objectOfDisk(fileSystem: WharfFileSystem, { ino }: Attributes): Promise<ObjectId> {
  await fileSystem.open(ino);
  try {
    const id = await fileSystem.objectOf(ino);
    if (id === undefined) throw new StorageError('invalid', 'it has no data');
    return id;
  } finally {
    await fileSystem.release(ino);
  }
}

export function daemonEndpoints(
  settings: Settings,
  stack: Stack,
  { startedMs, transport, loopDelay, requestCounts, tellKernel }: DaemonFacts,
): Endpoints {
  const { fileSystem, volumes, cache, monitor, isReadOnly } = stack;
  const caller = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const changes = new VdiskChanges({ fileSystem, tellKernel, caller });
  const report = async (path: string, attributes: Attributes): Promise<VdiskReport> => {
    const id = await fileSystem.objectOf(attributes.ino);
    const status = id && volumes.opened(id)?.status();
    const record = id && (await stack.records.find(id));
    const waiting =
      status?.waiting ??
      (record && ((await whyItWaits(path, record)) ?? stack.router.waiting.get(record.id)));
    return {
      path,
      sizeBytes: status?.sizeBytes ?? attributes.sizeBytes,
      usedBytes: status?.usedBytes ?? attributes.allocatedBytes,
      notDestagedBytes: status?.notDestagedBytes ?? 0,
      owner: record?.owner ?? settings.host,
      epoch: record?.epoch ?? 0,
      isPinned: record?.isPinned ?? false,
      ...(record?.threshold && { threshold: record.threshold }),
      state: status?.state === 'open' || !status ? stateOf(id, status?.state) : status.state,
      changes: record ? whereChangesAre(record, status?.degraded) : 'on the backend',
      ...replicaOf(record),
      ...(waiting !== undefined && { waiting }),
      ...(status?.failure !== undefined && { failure: status.failure }),
      ...(status && { uploadedBytes: status.uploadedBytes, journalBytes: status.journalBytes }),
    };
  };
  /** For whom a volume waits whose owner is gone, and what an administrator may do. */
  const whyItWaits = async (path: string, record: ObjectRecord) => {
    if (!(await isAbandoned(stack, record))) return undefined;
    const most = writeSize(settings.volumes.journalMax);
    return (
      `${whoHas(record)}. To go on without them, and lose what was written since the last change ` +
      `reached the object store (at most ${most}): wharf vdisk takeover ${path} --accept-loss`
    );
  };
  const stateOf = (id: ObjectId | undefined, local = 'idle') => {
    const open = [...stack.router.openObjects()].find((object) => object.id === id);
    if (open?.isMoving) return 'moving';
    return open && open.owner !== settings.host ? 'forwarded' : local;
  };
  const countOpen = (open: readonly { owner: string; isMoving: boolean }[]) => {
    const driven = open.filter(({ owner }) => owner === settings.host).length;
    const moving = open.filter(({ isMoving }) => isMoving).length;
    return { driven, forwarded: open.length - driven, moving };
  };
  const pathOf = (query: URLSearchParams, parameter = 'path') => {
    const path = query.get(parameter) ?? '';
    const [, vpool, inside] = /^([a-z][a-z0-9-]*):(\/.*)$/.exec(path) ?? [];
    if (vpool !== undefined && vpool !== settings.vpool)
      throw new StorageError('not_found', `no vPool ${vpool} here; this is ${settings.vpool}`);
    return inside ?? path;
  };
  const refuseReadOnly = () => {
    if (isReadOnly)
      throw new StorageError('read_only', 'the vPool is read-only: its object store takes nothing');
  };
  const objectOf = (disk: Attributes) => objectOfDisk(fileSystem, disk);
  const isRead = (id: ObjectId, name?: string) => fileSystem.isRead(id, name);
  const vms = new VmSnapshots({ ...stack, changes, objectOf, isRead, writeMoment });
  const snapshots = new VdiskSnapshots({
    ...{ ...stack, changes, objectOf, isRead, writeMoment },
    detach: (id) => fileSystem.detach(id),
    prepare: (id, head) => volumes.prepare(id, head),
    host: hostId(settings.host),
  });
  const view = volumes.view.bind(volumes);
  const diff = new VdiskDiff({ ...stack, changes, objectOf, view });
  const vdisk = async (query: URLSearchParams) => {
    const path = pathOf(query);
    return { path, attributes: await changes.find(path) };
  };
  return {
    'GET /healthz': async () => ({ ok: true }),
    'GET /v1/status': async () => ({
      host: settings.host,
      vpool: settings.vpool,
      mount: settings.mount,
      pid: process.pid,
      startedAt: new Date(startedMs).toISOString(),
      ...summary(volumes.statuses(), stack.ssd.failure),
      cache: cache.statistics(),
      registryCopy: stack.copier.status() ?? null,
      scrub: stack.scrub.status(),
      backend: monitor.outage
        ? { state: 'waiting', attempts: monitor.outage.attempts, error: monitor.outage.error }
        : { state: 'ok' },
      objects: countOpen([...stack.router.openObjects()]),
      waitingForOwners: [...stack.router.waiting].map(([id, why]) => ({ id, why })),
      transport,
      requests: requestCounts(),
      eventLoopDelayMs: Math.round(loopDelay.percentileMs(0.99)),
      residentBytes: process.memoryUsage().rss,
    }),
    'GET /metrics': async () => stackMetrics(stack, loopDelay, requestCounts()),
    'GET /v1/hosts': async () => ({
      hosts: (await stack.hosts.list()).map(({ id, mount, pid, address }) => ({
        ...{ id, mount, pid, address, state: 'up' },
      })),
    }),
    'GET /v1/vpools': async () => ({
      vpools: [
        {
          name: settings.vpool,
          mount: settings.mount,
          backend: settings.backend.kind,
          registry: settings.registry.etcd ? 'etcd' : 'sqlite',
          ...(await fileSystem.space()),
        },
      ],
    }),
    'GET /v1/vdisks': async () => {
      const vdisks: VdiskReport[] = [];
      for await (const { path, attributes } of walkVdisks(fileSystem))
        vdisks.push(await report(path, attributes));
      return { vdisks };
    },
    'GET /v1/vdisk': async (query) => {
      const { path, attributes } = await vdisk(query);
      const isInUse = await fileSystem.isInUse(attributes.ino);
      const found = await report(path, attributes);
      const id = found.waiting === undefined && (await fileSystem.objectOf(attributes.ino));
      return { ...found, isInUse, ...(id && (await spaceOf(stack, id))) };
    },
    ...vdiskEndpoints({ changes, report, pathOf, refuseReadOnly }),
    ...snapshotEndpoints({
      ...{ fileSystem, snapshots, vms, care: stack.care, report, pathOf, objectOf, refuseReadOnly },
      diff,
      find: (path) => changes.find(path),
    }),
    ...scrubEndpoints({ scrub: stack.scrub, vpool: settings.vpool, refuseReadOnly }),
    'POST /v1/vdisk/move': async (query) => {
      const { path, attributes } = await vdisk(query);
      const id = await fileSystem.objectOf(attributes.ino);
      if (id) await stack.router.moveTo(id, hostId(query.get('to') ?? ''));
      return report(path, attributes);
    },
    'POST /v1/vdisk/pin': async (query) => {
      const { path, attributes } = await vdisk(query);
      const id = await fileSystem.objectOf(attributes.ino);
      const to = query.get('to');
      if (id && to !== null) {
        await stack.records.adjust(id, { isPinned: false });
        await stack.router.moveTo(id, hostId(to));
      }
      if (id) await stack.records.adjust(id, { isPinned: query.get('pinned') !== '0' });
      return report(path, attributes);
    },
    'POST /v1/vdisk/threshold': async (query) => {
      const { path, attributes } = await vdisk(query);
      const id = await fileSystem.objectOf(attributes.ino);
      if (id) await stack.records.adjust(id, { threshold: thresholdOf(query) });
      return report(path, attributes);
    },
    'POST /v1/vdisk/takeover': async (query) => {
      const { path, attributes } = await vdisk(query);
      const id = await fileSystem.objectOf(attributes.ino);
      if (id) await takeOver(stack, id, query.get('acceptLoss') === '1');
      return report(path, attributes);
    },
    'POST /v1/host/drain': async (query) => {
      const host = query.get('host') ?? settings.host;
      if (host !== settings.host)
        throw new StorageError('invalid', `this is host ${settings.host}: ask host ${host} itself`);
      if (query.get('off') === '1') await stack.drain.stop();
      else stack.drain.start();
      return stack.drain.progress;
    },
    'GET /v1/host/drain': async () => stack.drain.progress,
    'POST /v1/vdisk/sync': async (query) => {
      const { path, attributes } = await vdisk(query);
      const before = await report(path, attributes);
      const began = stack.clock.monotonicMs();
      await fileSystem.sync(attributes.ino);
      return {
        path,
        syncedBytes: before.notDestagedBytes,
        tookMs: Math.round(stack.clock.monotonicMs() - began),
      };
    },
  };
}
