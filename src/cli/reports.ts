/** The commands that ask a daemon and print what it says. */

import type { VdiskReport } from '../daemon/endpoints.ts';
import type { CopyStatus } from '../registry/copy/registry-copier.ts';
import type { ScrubStatus } from '../daemon/scrub.ts';
import { formatSize, formatTime, parseTime } from '../daemon/units.ts';
import { call, findAdmin, insideVpool } from './client.ts';
import { CliError, exitCode } from './exit-code.ts';
import { table } from './table.ts';

export interface GlobalOptions {
  readonly admin?: string;
  readonly json?: boolean;
}

export function print(options: GlobalOptions, value: object, text: () => string): void {
  process.stdout.write(options.json === true ? `${JSON.stringify(value)}\n` : text());
}

interface Status {
  readonly host: string;
  readonly vpool: string;
  readonly mount: string;
  readonly pid: number;
  readonly openVolumes: number;
  readonly failedVolumes: number;
  readonly notDestagedBytes: number;
  readonly volumesWithoutReplica: number;
  readonly waiting: readonly string[];
  readonly alarms: readonly string[];
  readonly cache: { hits: number; misses: number; cachedBytes: number };
  readonly backend: { state: string; error?: string };
  readonly registryCopy: CopyStatus | null;
  readonly scrub: ScrubStatus;
  readonly transport: string;
  readonly residentBytes: number;
}

export async function showStatus(options: GlobalOptions): Promise<void> {
  const status = await call<Status>(findAdmin(options.admin), 'GET', '/v1/status');
  const { cache, backend } = status;
  const reads = cache.hits + cache.misses;
  print(options, status, () =>
    table(
      ['WHAT', 'STATE'],
      [
        ['host', `${status.host} (process ${status.pid}, ${formatSize(status.residentBytes)})`],
        ['vPool', `${status.vpool} at ${status.mount}`],
        ['requests come', `over ${status.transport}`],
        ['volumes', `${status.openVolumes} open, ${status.failedVolumes} failed`],
        ['not destaged', formatSize(status.notDestagedBytes)],
        ['without replica', `${status.volumesWithoutReplica} volumes`],
        [
          'read cache',
          `${formatSize(cache.cachedBytes)}, ${reads === 0 ? '-' : `${((100 * cache.hits) / reads).toFixed(1)} % hits`}`,
        ],
        [
          'backend',
          backend.error === undefined ? backend.state : `${backend.state}: ${backend.error}`,
        ],
        ['registry copy', describeCopy(status.registryCopy)],
        ['scrub', describeScrub(status.scrub)],
        ['writers wait for', status.waiting.length > 0 ? status.waiting.join(', ') : 'nothing'],
        ['alarms', status.alarms.length > 0 ? status.alarms.join('; ') : 'none'],
      ],
    ),
  );
}

/** On the object store, as a recovery would find it. */
function describeCopy(copy: CopyStatus | null): string {
  if (!copy) return 'none yet';
  const age = `${formatTime(copy.ageMs)} old`;
  return copy.isBehind === false ? `${age}, nothing has changed since` : age;
}

function describeScrub({ state, readBytes, tookMs, damage, why }: ScrubStatus): string {
  if (state === 'none') return 'none since the daemon began';
  const rate = formatSize(Math.round((readBytes * 1000) / Math.max(1, tookMs)));
  const what = `${formatSize(readBytes)} read, ${rate}/s, ${damage} damaged`;
  return `${state}: ${why === undefined ? what : `${why}; ${what}`}`;
}

export async function listHosts(options: GlobalOptions): Promise<void> {
  interface Hosts {
    readonly hosts: readonly { id: string; mount: string; pid: number; state: string }[];
  }
  const found = await call<Hosts>(findAdmin(options.admin), 'GET', '/v1/hosts');
  const rows = found.hosts.map(({ id, state, mount, pid }) => [id, state, mount, String(pid)]);
  print(options, found, () => table(['HOST', 'STATE', 'MOUNT', 'PID'], rows));
}

export async function listVpools(options: GlobalOptions): Promise<void> {
  interface Vpools {
    readonly vpools: readonly {
      name: string;
      mount: string;
      backend: string;
      registry: string;
      totalBytes: number;
      freeBytes: number;
    }[];
  }
  const found = await call<Vpools>(findAdmin(options.admin), 'GET', '/v1/vpools');
  const rows = found.vpools.map((vpool) => [
    vpool.name,
    vpool.backend,
    vpool.registry,
    formatSize(vpool.totalBytes),
    formatSize(vpool.freeBytes),
    vpool.mount,
  ]);
  print(options, found, () =>
    table(['VPOOL', 'BACKEND', 'REGISTRY', 'SIZE', 'FREE', 'MOUNT'], rows),
  );
}

export async function listVdisks(options: GlobalOptions): Promise<void> {
  interface Vdisks {
    readonly vdisks: readonly VdiskReport[];
  }
  const found = await call<Vdisks>(findAdmin(options.admin), 'GET', '/v1/vdisks');
  const rows = found.vdisks.map((vdisk) => [
    vdisk.path,
    formatSize(vdisk.sizeBytes),
    formatSize(vdisk.usedBytes),
    formatSize(vdisk.notDestagedBytes),
    vdisk.owner,
    vdisk.state,
  ]);
  print(options, found, () =>
    table(['VDISK', 'SIZE', 'USED', 'NOT DESTAGED', 'OWNER', 'STATE'], rows),
  );
}

export async function showVdisk(path: string, options: GlobalOptions): Promise<void> {
  const admin = findAdmin(options.admin, path);
  const found = await call<VdiskReport>(admin, 'GET', '/v1/vdisk', { path: insideVpool(path) });
  print(options, found, () =>
    table(
      ['WHAT', 'VALUE'],
      [
        ['path', found.path],
        ['size', formatSize(found.sizeBytes)],
        ['used', describeUse(found)],
        ['not destaged', formatSize(found.notDestagedBytes)],
        ['cached here', formatSize(found.cachedBytes ?? 0)],
        ['owner', `${found.owner}, epoch ${found.epoch}${found.isPinned ? ', pinned' : ''}`],
        ...(found.threshold ? [['handover', describeThreshold(found)]] : []),
        ['in use', found.isInUse === true ? 'yes' : 'no'],
        ['last changes', found.changes],
        ['state', describeState(found)],
      ],
    ),
  );
}

function describeState({ state, waiting, failure }: VdiskReport): string {
  if (waiting !== undefined) return `${state}, waits: ${waiting}`;
  return failure === undefined ? state : `${state}: ${failure}`;
}

function describeUse({ usedBytes, uniqueBytes, sharedBytes = 0 }: VdiskReport): string {
  if (uniqueBytes === undefined || sharedBytes === 0) return formatSize(usedBytes);
  const parts = `${formatSize(uniqueBytes)} its own, ${formatSize(sharedBytes)} of its source`;
  return `${formatSize(usedBytes)}: ${parts}`;
}

export async function moveVdisk(
  path: string,
  options: GlobalOptions & { readonly to: string },
): Promise<void> {
  const admin = findAdmin(options.admin, path);
  const query = { path: insideVpool(path), to: options.to };
  const moved = await call<VdiskReport>(admin, 'POST', '/v1/vdisk/move', query);
  print(options, moved, () => `${moved.path}: owned by host ${moved.owner}\n`);
}

export interface PinOptions extends GlobalOptions {
  readonly off?: boolean;
  readonly to?: string;
}

export async function pinVdisk(path: string, options: PinOptions): Promise<void> {
  const admin = findAdmin(options.admin, path);
  const { off, to } = options;
  const pinned = off === true ? '0' : '1';
  const query = { path: insideVpool(path), pinned, ...(to !== undefined && { to }) };
  const found = await call<VdiskReport>(admin, 'POST', '/v1/vdisk/pin', query);
  const what = found.isPinned ? `stays with host ${found.owner}` : 'follows its user';
  print(options, found, () => `${found.path}: ${what}\n`);
}

export interface FollowOptions extends GlobalOptions {
  readonly reads: string;
  readonly writes: string;
  readonly window: string;
  readonly default?: boolean;
}

/** When a host that uses the disk fetches it. */
export async function followVdisk(path: string, options: FollowOptions): Promise<void> {
  const admin = findAdmin(options.admin, path);
  const { reads, writes, window } = options;
  const windowMs = parseTime(window);
  if (windowMs === undefined)
    throw new CliError(`--window: found ${window}; allowed is a time, as 1s`, exitCode.usage);
  const own = options.default === true ? {} : { reads, writes, windowMs: String(windowMs) };
  const query = { path: insideVpool(path), ...own };
  const found = await call<VdiskReport>(admin, 'POST', '/v1/vdisk/threshold', query);
  print(options, found, () => `${found.path}: ${describeThreshold(found)}\n`);
}

function describeThreshold({ threshold }: VdiskReport): string {
  if (!threshold) return 'follows its user as all disks do';
  const { reads, writes, windowMs } = threshold;
  return `follows its user after ${reads} reads or ${writes} writes in ${formatTime(windowMs)} (0: never)`;
}

export async function takeOverVdisk(
  path: string,
  options: GlobalOptions & { readonly acceptLoss?: boolean },
): Promise<void> {
  const admin = findAdmin(options.admin, path);
  const query = { path: insideVpool(path), acceptLoss: options.acceptLoss === true ? '1' : '0' };
  const taken = await call<VdiskReport>(admin, 'POST', '/v1/vdisk/takeover', query);
  print(options, taken, () => `${taken.path}: served by host ${taken.owner}\n`);
}

export async function syncVdisk(path: string, options: GlobalOptions): Promise<void> {
  const admin = findAdmin(options.admin, path);
  const query = { path: insideVpool(path) };
  interface Synced {
    readonly path: string;
    readonly syncedBytes: number;
    readonly tookMs: number;
  }
  const done = await call<Synced>(admin, 'POST', '/v1/vdisk/sync', query);
  print(options, done, () => {
    const what = done.syncedBytes === 0 ? '' : `, ${formatSize(done.syncedBytes)} of it just now`;
    return `${done.path}: all is on the backend${what} (${formatTime(done.tookMs)})\n`;
  });
}
