/** What the admin API answers, from the parts of a daemon. */

import type { Settings } from './settings.ts';
import { StorageError } from '../core/errors.ts';
import type { Endpoints } from '../frontend/admin/server.ts';
import { findPath, walkVdisks } from '../frontend/admin/vdisks.ts';
import type { Attributes } from '../ports/file-system.ts';
import type { Stack } from './stack.ts';

export interface VdiskReport {
  readonly path: string;
  readonly sizeBytes: number;
  readonly usedBytes: number;
  readonly notDestagedBytes: number;
  readonly owner: string;
  readonly epoch: number;
  readonly state: string;
  readonly waiting?: string | undefined;
}

export function daemonEndpoints(
  settings: Settings,
  stack: Stack,
  { startedMs, transport }: { readonly startedMs: number; readonly transport: string },
): Endpoints {
  const { fileSystem, volumes, cache, monitor, router } = stack;
  const report = async (path: string, attributes: Attributes): Promise<VdiskReport> => {
    const id = await fileSystem.objectOf(attributes.ino);
    const status = id && volumes.opened(id)?.status();
    const record = id && (await stack.records.find(id));
    return {
      path,
      sizeBytes: status?.sizeBytes ?? attributes.sizeBytes,
      usedBytes: status?.usedBytes ?? attributes.allocatedBytes,
      notDestagedBytes: status?.notDestagedBytes ?? 0,
      owner: record?.owner ?? settings.host,
      epoch: record?.epoch ?? 0,
      state: status?.state ?? 'idle',
      ...(status?.waiting !== undefined && { waiting: status.waiting }),
      ...(status && { uploadedBytes: status.uploadedBytes, journalBytes: status.journalBytes }),
    };
  };
  const pathOf = (query: URLSearchParams) => {
    const path = query.get('path') ?? '';
    const [, vpool, inside] = /^([a-z][a-z0-9-]*):(\/.*)$/.exec(path) ?? [];
    if (vpool !== undefined && vpool !== settings.vpool)
      throw new StorageError('not_found', `no vPool ${vpool} here; this is ${settings.vpool}`);
    return inside ?? path;
  };
  const vdisk = async (query: URLSearchParams) => {
    const path = pathOf(query);
    const attributes = await findPath(fileSystem, path);
    if (!attributes.isVolume) throw new StorageError('invalid', `${path} is not a vDisk`);
    return { path, attributes };
  };
  const openVolumes = () =>
    [...router.openObjects()].flatMap(({ id }) => volumes.opened(id)?.status() ?? []);
  return {
    'GET /healthz': async () => ({ ok: true }),
    'GET /v1/status': async () => ({
      host: settings.host,
      vpool: settings.vpool,
      mount: settings.mount,
      pid: process.pid,
      startedAt: new Date(startedMs).toISOString(),
      openVolumes: openVolumes().length,
      notDestagedBytes: openVolumes().reduce((sum, volume) => sum + volume.notDestagedBytes, 0),
      failedVolumes: openVolumes().filter(({ state }) => state === 'failed').length,
      waiting: openVolumes().flatMap(({ waiting }) => waiting ?? []),
      cache: cache.statistics(),
      backend: monitor.outage
        ? { state: 'waiting', attempts: monitor.outage.attempts, error: monitor.outage.error }
        : { state: 'ok' },
      transport,
      residentBytes: process.memoryUsage().rss,
    }),
    'GET /v1/hosts': async () => ({
      hosts: [{ id: settings.host, mount: settings.mount, pid: process.pid, state: 'up' }],
    }),
    'GET /v1/vpools': async () => ({
      vpools: [
        {
          name: settings.vpool,
          mount: settings.mount,
          backend: settings.backend.kind,
          registry: 'sqlite',
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
      return report(path, attributes);
    },
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
