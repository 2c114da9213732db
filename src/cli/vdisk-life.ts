/** `wharf vdisk create`, `resize`, `rename` and `delete`. */

import type { VdiskReport } from '../daemon/endpoints.ts';
import { formatSize, parseSize } from '../daemon/units.ts';
import { call, findAdmin, insideVpool, nameInVpool } from './client.ts';
import { confirm } from './confirm.ts';
import { CliError, exitCode } from './exit-code.ts';
import type { GlobalOptions } from './reports.ts';
import { print } from './reports.ts';

export interface SizeOptions extends GlobalOptions {
  readonly size: string;
}

function bytesOf({ size }: SizeOptions): string {
  const bytes = parseSize(size);
  if (bytes !== undefined) return String(bytes);
  throw new CliError(
    `--size: found ${size}; allowed is a size, as 20G, 20GiB or 512M`,
    exitCode.usage,
  );
}

export async function createVdisk(path: string, options: SizeOptions): Promise<void> {
  const query = { path: nameInVpool(path), size: bytesOf(options) };
  const admin = findAdmin(options.admin, path);
  const made = await call<VdiskReport>(admin, 'POST', '/v1/vdisk/create', query);
  print(options, made, () => `${made.path}: ${formatSize(made.sizeBytes)}, thin\n`);
}

export async function resizeVdisk(
  path: string,
  options: SizeOptions & { readonly force?: boolean },
): Promise<void> {
  const force = options.force === true ? '1' : '0';
  const query = { path: insideVpool(path), size: bytesOf(options), force };
  const admin = findAdmin(options.admin, path);
  type Resized = VdiskReport & { readonly lostBytes: number };
  const resized = await call<Resized>(admin, 'POST', '/v1/vdisk/resize', query);
  const { lostBytes, sizeBytes } = resized;
  const lost = lostBytes === 0 ? '' : `; lost ${formatSize(lostBytes)} of data behind its end`;
  print(options, resized, () => `${resized.path}: ${formatSize(sizeBytes)}${lost}\n`);
}

export async function renameVdisk(
  path: string,
  newPath: string,
  options: GlobalOptions,
): Promise<void> {
  const query = { path: insideVpool(path), to: nameInVpool(newPath) };
  const admin = findAdmin(options.admin, path);
  type Renamed = VdiskReport & { readonly renamedFrom: string };
  const renamed = await call<Renamed>(admin, 'POST', '/v1/vdisk/rename', query);
  print(options, renamed, () => `${renamed.renamedFrom} is ${renamed.path} now\n`);
}

export async function deleteVdisk(
  path: string,
  options: GlobalOptions & { readonly yes?: boolean },
): Promise<void> {
  const admin = findAdmin(options.admin, path);
  const query = { path: insideVpool(path) };
  const found = await call<VdiskReport>(admin, 'GET', '/v1/vdisk', query);
  await confirm(options, 'Delete', describe(found), 'deleted');
  interface Deleted {
    readonly path: string;
    readonly wasInUse: boolean;
  }
  const deleted = await call<Deleted>(admin, 'POST', '/v1/vdisk/delete', query);
  const rest = deleted.wasInUse ? '; it is open, so its data goes when its user closes it' : '';
  print(options, deleted, () => `${deleted.path}: deleted${rest}\n`);
}

function describe({ path, sizeBytes, usedBytes, isInUse }: VdiskReport): string {
  const use = isInUse === true ? ', OPEN on some host' : '';
  return `${path} (${formatSize(sizeBytes)}, ${formatSize(usedBytes)} used${use})`;
}
