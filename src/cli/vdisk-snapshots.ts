/** `wharf vdisk snapshot`, `clone`, `flatten`, `compact` and `wharf template`. */

import type { VdiskReport } from '../daemon/endpoints.ts';
import { formatSize } from '../daemon/units.ts';
import type { SnapshotReport } from '../frontend/admin/vdisk-snapshots.ts';
import type { VmSnapshotReport } from '../frontend/admin/vm-snapshots.ts';
import type { CareAnswer, CompactionReport } from '../ports/volume-care.ts';
import { call, findAdmin, insideVpool, nameInVpool, splitSnapshot } from './client.ts';
import { confirm } from './confirm.ts';
import { patiently } from './patience.ts';
import { Progress } from './progress.ts';
import type { GlobalOptions } from './reports.ts';
import { print } from './reports.ts';
import { table } from './table.ts';

/** Of the folder of a VM. */
export interface VmOptions extends GlobalOptions {
  readonly vm?: boolean;
}

export interface SureOptions extends GlobalOptions {
  readonly yes?: boolean;
}

type Made = SnapshotReport & { readonly path: string };

const query = (path: string, name?: string) => ({
  path: insideVpool(path),
  ...(name !== undefined && { name }),
});
const ask = <T>(
  path: string,
  options: GlobalOptions,
  what: string,
  asked: Record<string, string>,
) => {
  const admin = findAdmin(options.admin, path);
  return patiently(admin, insideVpool(path), call<T>(admin, 'POST', what, asked));
};

export async function createSnapshot(
  path: string,
  name: string | undefined,
  options: GlobalOptions,
): Promise<void> {
  const made = await ask<Made>(path, options, '/v1/vdisk/snapshot/create', query(path, name));
  print(options, made, () => `${made.path}@${made.name}: ${formatSize(made.usedBytes)} of data\n`);
}

/** All that the folder of a VM holds. */
export async function createVmSnapshot(
  path: string,
  name: string | undefined,
  options: GlobalOptions,
): Promise<void> {
  type MadeOfVm = VmSnapshotReport & { readonly path: string };
  const made = await ask<MadeOfVm>(path, options, '/v1/vm/snapshot/create', query(path, name));
  const { vdisks, files, heldMs = 0 } = made;
  const text = `${made.path}@${made.name}: ${vdisks} vDisks and ${files} files, held for ${heldMs} ms\n`;
  print(options, made, () => text);
}

export async function listVmSnapshots(path: string, options: GlobalOptions): Promise<void> {
  interface Found {
    readonly path: string;
    readonly snapshots: readonly VmSnapshotReport[];
  }
  const admin = findAdmin(options.admin, path);
  const found = await call<Found>(admin, 'GET', '/v1/vm/snapshots', query(path));
  const rows = found.snapshots.map(({ name, createdAt, sizeBytes, vdisks, files }) => [
    ...[name, createdAt, formatSize(sizeBytes), String(vdisks), String(files)],
  ]);
  print(options, found, () => table(['SNAPSHOT', 'CREATED', 'SIZE', 'VDISKS', 'FILES'], rows));
}

export async function listSnapshots(path: string, options: GlobalOptions): Promise<void> {
  interface Found {
    readonly path: string;
    readonly snapshots: readonly SnapshotReport[];
  }
  const admin = findAdmin(options.admin, path);
  const found = await call<Found>(admin, 'GET', '/v1/vdisk/snapshots', query(path));
  const rows = found.snapshots.map(({ name, createdAt, sizeBytes, usedBytes, clones }) => [
    ...[name, createdAt, formatSize(sizeBytes), formatSize(usedBytes), String(clones)],
  ]);
  print(options, found, () => table(['SNAPSHOT', 'CREATED', 'SIZE', 'DATA', 'CLONES'], rows));
}

export async function deleteSnapshot(
  path: string,
  name: string,
  options: SureOptions & VmOptions,
): Promise<void> {
  await confirm(options, 'Delete', `${insideVpool(path)}@${name}`, 'deleted');
  const asked = query(path, name);
  const what = `/v1/${options.vm === true ? 'vm' : 'vdisk'}/snapshot/delete`;
  const gone = await ask<Made>(path, options, what, asked);
  print(options, gone, () => `${gone.path}@${gone.name}: deleted\n`);
}

export async function rollBack(
  path: string,
  name: string,
  options: SureOptions & VmOptions & { readonly force?: boolean },
): Promise<void> {
  const what = `${insideVpool(path)} to @${name} (what it is now is kept as a snapshot)`;
  await confirm(options, 'Roll back', what, 'rolled back');
  const asked = { ...query(path, name), force: options.force === true ? '1' : '0' };
  interface Done extends Partial<VdiskReport> {
    readonly rolledBackTo: string;
    readonly before: string;
  }
  const where = `/v1/${options.vm === true ? 'vm' : 'vdisk'}/snapshot/rollback`;
  const done = await ask<Done>(path, options, where, asked);
  const { rolledBackTo, before, sizeBytes } = done;
  const size = sizeBytes === undefined ? '' : ` (${formatSize(sizeBytes)})`;
  const undo = `what it was until now is @${before}`;
  const text = `${done.path}: is @${rolledBackTo} again${size}; ${undo}\n`;
  print(options, done, () => text);
}

/** `source`: a vDisk, or `PATH@SNAPSHOT`. */
export async function cloneVdisk(
  source: string,
  newPath: string,
  options: GlobalOptions,
): Promise<void> {
  const { path, name } = splitSnapshot(source);
  const asked = { ...query(path, name), to: nameInVpool(newPath) };
  type Cloned = VdiskReport & { readonly clonedFrom: string };
  const made = await ask<Cloned>(path, options, '/v1/vdisk/clone', asked);
  const of = name === undefined ? made.clonedFrom : `${made.clonedFrom}@${name}`;
  print(options, made, () => `${made.path}: ${formatSize(made.sizeBytes)}, a clone of ${of}\n`);
}

export async function flattenVdisk(path: string, options: GlobalOptions): Promise<void> {
  const admin = findAdmin(options.admin, path);
  const { sizeBytes } = await call<VdiskReport>(admin, 'GET', '/v1/vdisk', query(path));
  type Slice = NonNullable<CareAnswer['flattened']> & { readonly path: string };
  let copiedBytes = 0;
  const progress = new Progress(sizeBytes);
  for (;;) {
    const slice = await call<Slice>(admin, 'POST', '/v1/vdisk/flatten', query(path));
    copiedBytes += slice.copiedBytes;
    progress.note(slice.doneBytes, slice.copiedBytes);
    if (!slice.isDone) continue;
    progress.end();
    const done = { path: slice.path, copiedBytes };
    const text = `${slice.path}: stands alone, ${formatSize(copiedBytes)} copied\n`;
    return print(options, done, () => text);
  }
}

export async function compactVdisk(
  path: string,
  options: GlobalOptions & { readonly dryRun?: boolean },
): Promise<void> {
  const asked = { ...query(path), how: options.dryRun === true ? 'plan' : 'run' };
  type Report = CompactionReport & { readonly path: string };
  const found = await ask<Report>(path, options, '/v1/vdisk/compact', asked);
  print(options, found, () => describeCompaction(found, options.dryRun === true));
}

function describeCompaction(report: CompactionReport, isPlan: boolean): string {
  const { segments, liveBytes, victims, victimBytes, rewrittenBytes, reclaimedBytes } = report;
  const ratio = reclaimedBytes === 0 ? '-' : (rewrittenBytes / reclaimedBytes).toFixed(2);
  return table(
    ['WHAT', 'STATE'],
    [
      ['segments', `${segments}, ${formatSize(liveBytes)} live in them`],
      [
        isPlan ? 'would be rewritten first' : 'still worth rewriting',
        `${victims} segments, ${formatSize(victimBytes)} live in them`,
      ],
      ['rewritten so far', formatSize(rewrittenBytes)],
      ['won back so far', `${formatSize(reclaimedBytes)} (${ratio} bytes rewritten for each)`],
    ],
  );
}

export async function createTemplate(path: string, options: GlobalOptions): Promise<void> {
  const made = await ask<VdiskReport>(path, options, '/v1/template/create', query(path));
  print(options, made, () => `${made.path}: a template, not to be written any more\n`);
}

export async function listTemplates(options: GlobalOptions): Promise<void> {
  interface Found {
    readonly templates: readonly (VdiskReport & { readonly clones: number })[];
  }
  const found = await call<Found>(findAdmin(options.admin), 'GET', '/v1/templates');
  const rows = found.templates.map(({ path, sizeBytes, usedBytes, clones }) => [
    ...[path, formatSize(sizeBytes), formatSize(usedBytes), String(clones)],
  ]);
  print(options, found, () => table(['TEMPLATE', 'SIZE', 'DATA', 'CLONES'], rows));
}

export async function deleteTemplate(path: string, options: SureOptions): Promise<void> {
  await confirm(options, 'Delete', `template ${insideVpool(path)} and its data`, 'deleted');
  const gone = await ask<{ path: string }>(path, options, '/v1/template/delete', query(path));
  print(options, gone, () => `${gone.path}: deleted\n`);
}
